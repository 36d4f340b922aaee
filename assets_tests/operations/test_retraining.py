"""Retraining by policy and the gate, on models that are made up to be good or bad."""

from collections.abc import Iterator

import pytest

from assets_tests.homes import folder_in_memory
from assets_tests.operations import contest
from my_platform.operations.home import open_registry, retraining_lock
from my_platform.operations.promotion import GATE
from my_platform.operations.retraining.decide import Asking, retrain, with_policies
from my_platform.operations.session import Session, opened
from my_platform.settings import Settings


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with folder_in_memory() as folder:
        contest.land_days(folder / "home")
        settings = Settings(
            home=folder / "home",
            domains=("assets_tests.operations.contest",),
            retraining="labelled_weeks=2,most_fits=4",
        )
        with opened(settings) as found:
            yield found


def test_a_challenger_of_a_policy_serves_only_if_the_gate_lets_it_and_the_ledger_says_why_it_was_fitted(
    session: Session,
) -> None:
    settings, names = session.settings, with_policies(session.workspace)
    registry, lock = open_registry(settings), retraining_lock(settings)
    session.refresh()
    asked = retrain(session.workspace, session.heads, registry, lock, names, Asking())
    assert {each.model for each in asked} == set(contest.PLAYERS)
    for each in asked:
        # Three fits for tests and one for the challenger is what the budget has room for.
        assert list(each.written) == ["2026-01-21", "2026-01-28", "2026-02-04", contest.LAST_WEEK]
        assert each.verdict is not None
        assert each.verdict.gate == "the gate has 3 weekly tests, of 4 that the policy asks for"

    report = session.refresh()

    assert all(len(report.outcome.computed[name]) == 4 for name in contest.PLAYERS)
    (line,) = registry.ledger.lines(contest.USE)
    assert (line.who, line.after.week) == (GATE, contest.LAST_WEEK)
    assert line.why.endswith("; fitted because: the first model under this policy")
    assert line.gate["weeks"] == ["2026-01-21", "2026-01-28", "2026-02-04"]
    assert session.refresh().runs == 0
