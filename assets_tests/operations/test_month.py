"""A month under the real daemon, with nobody at it: exactly what was owed is computed, whatever lands and whoever is killed."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.homes import Objects, Versions, folder_in_memory, objects, session
from assets_tests.operations import month
from assets_tests.operations.month import BEFORE, SETTINGS, Happening, day
from assets_tests.operations.served import Ui, owed, served, until
from my_platform.learning.ledger import Line
from my_platform.learning.retraining.policy import policy_of
from my_platform.learning.retraining.reasons import FIRST as FIRST_REASON
from my_platform.operations.alerts.home import look_at, teller_of
from my_platform.operations.home import open_registry, retraining_lock
from my_platform.operations.retraining.decide import Asking, retrain, with_policies
from my_platform.operations.session import Session
from my_platform.storage.lake import json_in
from my_platform.storage.retraining import CHALLENGER, FitDecision

pytestmark = pytest.mark.month

KILLS = 20
DAEMON = {**SETTINGS, "alert_interval_s": 5, "alert_repeat_h": 0, "retrain_interval_s": 5}
# Landed files are looked at, runs are started and alerts are said within as many seconds, with much to spare.
_QUIET_S = 20


@dataclass
class Lived:
    """What a month left behind.

    Attributes:
        computed: how many values were stored from one happening to the next.
        lasting, unsaid: keys of the alerts that a look at the home finds at the end, and that nobody was told.
        aps: average precision of each tested week, by the week's own model.
        reasons: why a model of a week was fitted, as the event of its fit says, by model and week.
    """

    computed: dict[str, int]
    versions: Versions
    champion: str
    lines: list[Line]
    alerts: list[dict[str, Any]]
    lasting: set[str]
    unsaid: list[str]
    aps: dict[str, float]
    decisions: list[FitDecision]
    reasons: dict[tuple[str, str], str]


def live(folder: Path, kills: dict[str, list[float]]) -> Lived:
    """Let the month happen to a home under the daemon, and look after each happening what became of it."""
    home, shadow, landing = folder / "a home", folder / "shadow", folder / "a home" / "landing"
    staged = folder / "staged"
    month.begin(staged)
    shutil.copytree(staged, landing)
    computed: dict[str, int] = {}
    before: Objects = {}
    happenings = [Happening("the days before", lambda _landing: None), *month.happenings(folder / "aside")]
    with ExitStack() as stack:
        ui = stack.enter_context(served(home, **DAEMON))
        for happening in happenings:
            month.land(happening, staged, landing)
            for after_s in kills.get(happening.name, []):
                time.sleep(after_s)
                ui.kill()
                ui = stack.enter_context(served(home, **DAEMON))
            until(lambda ui=ui: settled(home, ui))
            with month.refreshed(shadow, landing) as truth:
                wanted, expected = objects(shadow), truth.versions()
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


def settled(home: Path, ui: Ui) -> bool:
    """Whether nothing is owed, no run is under way, and no policy would have another week fitted."""
    return not owed(home, **SETTINGS) and not ui.busy() and not decides(home)


def decides(home: Path) -> list[str]:
    """The weeks that the policies would decide on now."""
    with session(home, **SETTINGS) as opened:
        registry, lock = open_registry(opened.settings), retraining_lock(opened.settings)
        names = with_policies(opened.workspace)
        asked = retrain(opened.workspace, opened.heads, registry, lock, names, Asking(dry_run=True))
    return [fit.week for each in asked if each.verdict for fit in each.verdict.fits]


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
        [
            each
            for model in with_policies(opened.workspace)
            for each in opened.workspace.fit_decisions.of(model)
        ],
        {
            (model, week): str(event.metadata["retraining"].value)
            for model in with_policies(opened.workspace)
            for week in versions[model]
            if (event := fitted(opened, model, week)) is not None and "retraining" in event.metadata
        },
    )


def fitted(opened: Session, model: str, week: str) -> dg.AssetMaterialization | None:
    """The latest event of a model's week."""
    asked = dg.AssetRecordsFilter(dg.AssetKey(model.split("/")), asset_partitions=[week])
    records = opened.heads.instance.fetch_materializations(asked, limit=1).records
    return records[0].asset_materialization if records else None


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


def test_each_retraining_has_its_reason(quiet_month: Lived) -> None:
    decided = {(each.model, each.week): each.reason for each in quiet_month.decisions}
    models = {model for model, _ in decided}
    cool_down = timedelta(days=policy_of(month.POLICY).cool_down_days)
    # Nothing is fitted that was not decided, and the fit says why it was.
    assert {(model, week) for model in models for week in quiet_month.versions[model]} == decided.keys()
    assert quiet_month.reasons == decided
    for model in models:
        challengers = [
            each for each in quiet_month.decisions if (each.model, each.role) == (model, CHALLENGER)
        ]
        weeks = [date.fromisoformat(each.week) for each in challengers]
        assert all(later - earlier >= cool_down for earlier, later in pairwise(weeks))
        assert challengers[0].reason == FIRST_REASON
        for each in challengers[1:]:
            assert "new labelled weeks" in each.reason or "decay: average precision" in each.reason, each


def test_the_champion_recovers_after_fraud_has_changed(quiet_month: Lived) -> None:
    decayed = [
        each for each in quiet_month.decisions if "decay" in each.reason and each.week >= day(month.DRIFT)
    ]
    assert decayed
    fell_to = decayed[0].evidence["measure"]["value"]
    # The week that was tested last, by a model of the recipe that serves then.
    assert quiet_month.aps[max(quiet_month.aps)] > fell_to + 0.1
    assert quiet_month.champion >= day(month.DRIFT + 21)
    assert quiet_month.lines[-1].action == "promote"


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
    assert [(each.model, each.week) for each in found.decisions] == [
        (each.model, each.week) for each in quiet_month.decisions
    ]
    assert found.versions == quiet_month.versions
    assert found.champion == quiet_month.champion
    assert [line.action for line in found.lines] == [line.action for line in quiet_month.lines]
