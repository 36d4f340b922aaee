"""A month under the real daemon, with nobody at it: exactly what was owed is computed, whatever lands and whoever is killed."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from assets_tests.homes import Objects, Versions, folder_in_memory, objects, session
from assets_tests.operations import month
from assets_tests.operations.month import BEFORE, SETTINGS, Happening, day
from assets_tests.operations.served import Ui, owed, served, until
from my_platform.learning.ledger import Line
from my_platform.operations.alerts.home import look_at, teller_of
from my_platform.operations.session import Session
from my_platform.storage.lake import json_in

pytestmark = pytest.mark.month

KILLS = 20
DAEMON = {**SETTINGS, "alert_interval_s": 5, "alert_repeat_h": 0}
# Landed files are looked at, runs are started and alerts are said within as many seconds, with much to spare.
_QUIET_S = 20


@dataclass
class Lived:
    """What a month left behind.

    Attributes:
        computed: how many values were stored from one happening to the next.
        lasting, unsaid: keys of the alerts that a look at the home finds at the end, and that nobody was told.
        aps: average precision of each tested week, by the week's own model.
    """

    computed: dict[str, int]
    versions: Versions
    champion: str
    lines: list[Line]
    alerts: list[dict[str, Any]]
    lasting: set[str]
    unsaid: list[str]
    aps: dict[str, float]


def live(folder: Path, kills: dict[str, list[float]]) -> Lived:
    """Let the month happen to a home under the daemon, and look after each happening what became of it."""
    home, shadow, landing = folder / "a home", folder / "shadow", folder / "a home" / "landing"
    month.begin(landing)
    computed: dict[str, int] = {}
    before: Objects = {}
    happenings = [Happening("the days before", lambda _landing: None), *month.happenings(folder / "aside")]
    with ExitStack() as stack:
        ui = stack.enter_context(served(home, **DAEMON))
        for happening in happenings:
            happening.happens(landing)
            for after_s in kills.get(happening.name, []):
                time.sleep(after_s)
                ui.kill()
                ui = stack.enter_context(served(home, **DAEMON))
            with month.refreshed(shadow, landing) as truth:
                wanted, expected = objects(shadow), truth.versions()
            until(lambda wanted=wanted, ui=ui: settled(home, ui, wanted))
            after = objects(home)
            # What had been computed lies there untouched, and what came is what a refresh computes of this landing.
            assert before.items() <= after.items(), happening.name
            assert set(after) == set(wanted), happening.name
            assert ui.versions() == expected, happening.name
            computed[happening.name] = len(after) - len(before)
            before = after
        until(lambda: quiet(home))
    with session(home, **SETTINGS) as opened:
        return lived(opened, computed)


def settled(home: Path, ui: Ui, wanted: Objects) -> bool:
    """Whether all that a refresh would have computed lies there, nothing is owed, and no run is under way."""
    return set(wanted) <= set(objects(home)) and not owed(home, **SETTINGS) and not ui.busy()


def quiet(home: Path) -> bool:
    """Whether nothing has been said for some seconds."""
    return time.time() - (home / "alerts" / "alerts.jsonl").stat().st_mtime > _QUIET_S


def lived(opened: Session, computed: dict[str, int]) -> Lived:
    versions, lake = opened.versions(), opened.workspace.lake
    aps = {
        week: json_in(lake.read("evaluation", week, version), "metrics.json")["metrics"]["average_precision"]
        for week, version in versions["evaluation"].items()
    }
    look = look_at(opened.settings, opened.workspace, opened.heads)
    found = teller_of(opened.settings).preview(look, time.time())
    log = (opened.settings.home / "alerts" / "alerts.jsonl").read_text().splitlines()
    return Lived(
        computed,
        versions,
        opened.models.aliases("fraud")["champion"].week,
        opened.models.registry.ledger.lines("fraud"),
        [json.loads(line) for line in log],
        {alert.key for alert, _ in found.open},
        [notice.alert.key for notice in found.notices],
        aps,
    )


@pytest.fixture(scope="module")
def quiet_month() -> Iterator[Lived]:
    with folder_in_memory() as folder:
        yield live(folder, {})


def test_exactly_what_was_owed_was_computed_all_month(quiet_month: Lived) -> None:
    # That these are the ones which were owed is seen after each happening, in `live`.
    assert all(quiet_month.computed.values())
    assert sum(quiet_month.computed.values()) > 1_500


def test_no_day_is_lost(quiet_month: Lived) -> None:
    days = [day(number) for number in range(BEFORE + month.DAYS)]
    assert list(quiet_month.versions["validated/transactions"]) == days
    assert list(quiet_month.versions["validated/fraud_reports"]) == days[7:]


def test_models_recover_after_fraud_has_changed(quiet_month: Lived) -> None:
    changed = [ap for week, ap in quiet_month.aps.items() if week >= day(month.DRIFT)]
    assert fmean(changed[-3:]) > fmean(changed[:2]) + 0.1
    # The champion of before was rolled back, and a model that was fitted on what came after took over.
    actions = [line.action for line in quiet_month.lines]
    assert "rollback" in actions
    assert actions[-1] == "promote"
    assert quiet_month.champion >= day(month.DRIFT + 21)


def test_every_alert_is_said_and_none_twice(quiet_month: Lived) -> None:
    lasting: set[str] = set()
    for each in quiet_month.alerts:
        match each["what"]:
            case "began":
                assert each["key"] not in lasting, each
                lasting.add(each["key"])
            case "ended":
                lasting.remove(each["key"])
    said = [(each["what"], each["kind"], each["partition"]) for each in quiet_month.alerts]
    broken = day(BEFORE + 5)
    assert [key for key in said if key[1] == "refused"] == [
        ("began", "refused", broken),
        ("ended", "refused", broken),
    ]
    changes = [line.action for line in quiet_month.lines]
    kinds = {"promote": "promotion", "rollback": "rollback"}
    assert [kind for what, kind, _ in said if what == "happened"] == [kinds[action] for action in changes]
    assert (lasting, []) == (quiet_month.lasting, quiet_month.unsaid)


def test_a_month_in_which_the_daemon_is_killed_twenty_times_ends_the_same(quiet_month: Lived) -> None:
    with folder_in_memory() as folder:
        found = live(folder, month.moments(7, KILLS, month.happenings(folder)))
    assert found.versions == quiet_month.versions
    assert found.champion == quiet_month.champion
    assert [line.action for line in found.lines] == [line.action for line in quiet_month.lines]
