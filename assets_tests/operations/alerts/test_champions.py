"""A champion that breaches its limits, takes more than its budget or cannot be read is told of, and so is its end."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import contest
from my_platform.learning.budgets import Budget
from my_platform.operations.alerts import facts
from my_platform.operations.alerts.conditions import Known, conditions, moments
from my_platform.operations.promotion import promote
from my_platform.operations.session import Session, opened
from my_platform.settings import Settings

NOW_S = 2_000_000_000.0


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    """A home whose champion is `plain`."""
    with folder_in_memory() as folder:
        home = folder / "home"
        contest.land_days(home)
        with opened(contest.settings(home)) as found:
            found.refresh(select="raw/payments,test_set,plain,plain_predictions,plain_evaluation")
            promoted = promote(found.models, found.models.named("plain"), who="ada", why="the first one")
            assert promoted.serves
            yield found


def seen(session: Session, cursors: dict[str, object] | None = None) -> facts.Seen:
    return facts.look(session.settings, session.workspace, session.heads, cursors or {}, NOW_S)


def kinds(known: Known) -> list[str]:
    return [alert.kind for alert in conditions(known)]


def told(session: Session, settings: Settings, **service: object) -> None:
    """What a service says of the champion that it serves."""
    champion = session.models.registry.ledger.standing(contest.USE).champion
    assert champion is not None
    said = {"bundle": champion.bundle, "requests": 5_000, "errors": 0, "p99_ms": 3.0, **service}
    settings.service_health.parent.mkdir(exist_ok=True)
    settings.service_health.write_text(json.dumps(said))


def test_a_healthy_champion_is_nothing_to_alert_of_but_its_promotion_was(session: Session) -> None:
    first = seen(session, {"promotions": {}})
    assert kinds(first.known) == []
    assert [alert.said.split(" (by")[0] for alert in moments(first.known)] == [
        f"plain@{contest.LAST_WEEK} is champion of contest now, before it none"
    ]
    assert moments(seen(session, dict(first.cursors)).known) == []


def test_a_service_that_is_slow_or_fails_is_told(session: Session) -> None:
    settings = session.settings
    told(session, settings, p99_ms=80.0, errors=100)
    (alert,) = conditions(seen(session).known)
    assert (alert.kind, alert.severity) == ("health", "error")
    assert "p99 of a request is 80.0 ms" in alert.said
    assert "100 of 5,000 requests failed" in alert.said
    told(session, settings)
    assert conditions(seen(session).known) == []


def test_what_takes_long_is_looked_at_again_only_when_what_it_rests_on_has_changed(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = seen(session)
    monkeypatch.setattr(facts, "health_of", lambda *_: pytest.fail("looked at again"))
    again = seen(session, json.loads(json.dumps(first.cursors)))
    assert again.cursors["health"] == first.cursors["health"]


def test_a_champion_beyond_its_budget_is_told(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    project = session.workspace.project
    less = Budget(p99_ms=5.0, rows_per_s=200.0, file_bytes=1, memory_bytes=1 << 30, fit_s=60.0)
    contenders = tuple(replace(contender, budget=less) for contender in project.contenders)
    monkeypatch.setattr(session.workspace, "project", replace(project, contenders=contenders))
    (alert,) = conditions(seen(session).known)
    assert alert.kind == "budget"
    assert "limit 1" in alert.said


def test_a_bundle_is_told_as_long_as_it_is_damaged(session: Session) -> None:
    champion = session.models.registry.ledger.standing(contest.USE).champion
    assert champion is not None
    file: Path = next((session.settings.registry / "bundles" / champion.bundle).rglob("model.json"))
    whole = file.read_bytes()
    before = seen(session)
    file.chmod(0o644)
    file.write_bytes(whole + b" ")
    damaged = seen(session, dict(before.cursors))
    file.write_bytes(whole)
    (alert,) = conditions(damaged.known)
    assert alert.kind == "health"
    assert "my-platform promote" in alert.said
    assert conditions(seen(session, dict(damaged.cursors)).known) == []
