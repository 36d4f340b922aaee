"""Retraining by policy on the whole graph, in real Dagster runs: who is fitted, why, and where that is seen."""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests.homes import Versions, answer, day, days, folder_in_memory, land, session, start
from my_platform.domains.fraud.landing_files import transactions_path
from my_platform.errors import PlatformError
from my_platform.operations.doctor.of_ledgers import fit_decisions
from my_platform.operations.forecast import forecast
from my_platform.operations.home import open_registry, retraining_lock
from my_platform.operations.refresh import Report
from my_platform.operations.retraining.decide import Asked, Asking, retrain, with_policies
from my_platform.operations.retraining.reasons import REASON_TAG
from my_platform.operations.retraining.sensor import RETRAIN_SENSOR
from my_platform.operations.sensors import SENSOR
from my_platform.operations.session import Session
from my_platform.storage.retraining import FitDecisions

MODEL = "fraud_lightgbm"
POLICY = "drift=0.25,tests=2"
# Weeks that begin on these days have a training set.
CALM, SHIFTED = 36, 57
FITTED = [day(14), day(21), day(35)]
FIRST_WEEK, NEXT_WEEK = day(35), day(56)
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Home:
    """A home under a policy, with what its first refresh did."""

    folder: Path
    report: Report
    waiting: dict[str, str]
    versions: Versions


def ask(opened: Session, **asking: Any) -> Asked:
    """What the policy of the model says, and does."""
    settings = opened.settings
    names = with_policies(opened.workspace, MODEL)
    (found,) = retrain(
        opened.workspace,
        opened.heads,
        open_registry(settings),
        retraining_lock(settings),
        names,
        Asking(**asking),
    )
    return found


def waiting(opened: Session, asset: str = MODEL) -> dict[str, str]:
    found: dict[str, str] = forecast(opened.workspace, opened.heads).as_json()["waiting"].get(asset, {})
    return found


def decisions(home: Path) -> list[str]:
    return sorted(
        path.relative_to(home).as_posix() for path in (home / "landing" / "retraining").rglob("*.json")
    )


def tick(opened: Session, sensor: str, cursor: str | None = None) -> Any:
    """One look of a sensor."""
    repository = opened.definitions.get_repository_def()
    with dg.build_sensor_context(
        instance=opened.instance, repository_def=repository, cursor=cursor
    ) as context:
        return repository.get_sensor_def(sensor).evaluate_tick(context)


def execute(opened: Session, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
    assert request.job_name is not None
    return opened.definitions.resolve_job_def(request.job_name).execute_in_process(
        instance=opened.instance,
        asset_selection=request.asset_selection,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        raise_on_error=False,
        run_config=SILENT,
    )


def event(opened: Session, week: str) -> dg.AssetMaterialization:
    (record,) = opened.instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey(MODEL), asset_partitions=[week]), limit=1
    ).records
    assert record.asset_materialization is not None
    return record.asset_materialization


def reasons_of_runs(opened: Session) -> list[str]:
    return [run.tags[REASON_TAG] for run in opened.instance.get_runs() if REASON_TAG in run.tags]


def shift(landing: Path, numbers: Sequence[int]) -> None:
    """From these days on everything costs three times as much."""
    for number in numbers:
        path = transactions_path(landing, date.fromisoformat(day(number)))
        staged = path.with_name(f".{path.name}")
        pl.read_parquet(path).with_columns(TX_AMOUNT=(pl.col("TX_AMOUNT") * 3).round(2)).write_parquet(staged)
        staged.replace(path)


@pytest.fixture(scope="module")
def undecided() -> Iterator[Home]:
    """A home under a policy that nobody has asked yet."""
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", CALM, customers=60, terminals=120)
        with session(folder / "home", retraining=POLICY) as opened:
            report = opened.refresh()
            yield Home(folder / "home", report, waiting(opened), opened.versions())


@pytest.fixture(scope="module")
def fitted(undecided: Home) -> Iterator[Home]:
    """The same after the first model."""
    with copied(undecided) as home, session(home, retraining=POLICY) as opened:
        assert list(ask(opened).written) == FITTED
        report = opened.refresh()
        yield Home(home, report, waiting(opened), opened.versions())


@pytest.fixture(scope="module")
def drifted(fitted: Home) -> Iterator[Home]:
    """And three weeks later, with prices that have risen since the model's first week."""
    with copied(fitted) as home:
        land(home / "landing", SHIFTED, customers=60, terminals=120)
        shift(home / "landing", range(42, SHIFTED))
        with session(home, retraining=POLICY) as opened:
            report = opened.refresh()
            yield Home(home, report, waiting(opened), opened.versions())


@contextmanager
def copied(home: Home) -> Iterator[Path]:
    with folder_in_memory() as folder:
        shutil.copytree(home.folder, folder / "home")
        yield folder / "home"


class TestUndecided:
    def test_no_model_is_fitted_and_the_plan_says_what_its_weeks_wait_for(self, undecided: Home) -> None:
        assert undecided.report.problems == []
        assert sorted(undecided.report.outcome.computed["training_set"]) == days(14, 35, 7)
        assert MODEL not in undecided.report.outcome.computed
        assert undecided.waiting.keys() == {*days(14, 35, 7)} | {
            week for week, why in undecided.waiting.items() if "training_set" in why or "needs" in why
        }
        assert {undecided.waiting[week] for week in days(14, 35, 7)} == {
            "waits for the retraining policy: not decided yet; `my-platform retrain --dry-run` says why not"
        }

    def test_its_readers_wait_likewise_and_a_second_refresh_starts_no_run(self, undecided: Home) -> None:
        with copied(undecided) as home, session(home, retraining=POLICY) as opened:
            assert not opened.versions()["predictions"]
            assert opened.refresh().runs == 0

    def test_a_person_who_materializes_such_a_week_is_told_what_it_waits_for(self, undecided: Home) -> None:
        with copied(undecided) as home, session(home, retraining=POLICY) as opened:
            done = opened.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
                instance=opened.instance,
                asset_selection=[dg.AssetKey(MODEL)],
                partition_key=FIRST_WEEK,
                raise_on_error=False,
                run_config=SILENT,
            )
            assert not done.success
            (failed,) = [e.step_failure_data for e in done.all_events if e.is_step_failure]
            assert failed.user_failure_data is not None
            assert "waits for the retraining policy" in str(failed.user_failure_data.description)
            assert MODEL not in {name for name, found in opened.versions().items() if found}

    def test_a_dry_run_says_what_would_be_decided_and_writes_nothing(self, undecided: Home) -> None:
        with copied(undecided) as home, session(home, retraining=POLICY) as opened:
            before = sorted(path for path in (home / "landing").rglob("*"))
            found = ask(opened, dry_run=True)
            assert found.verdict is not None
            assert sorted(fit.week for fit in found.verdict.fits) == FITTED
            assert found.written == []
            assert sorted(path for path in (home / "landing").rglob("*")) == before
            assert opened.refresh().runs == 0

    def test_a_model_that_is_made_of_others_is_decided_with_them(self, undecided: Home) -> None:
        with (
            copied(undecided) as home,
            session(home, retraining=POLICY, nets="budget") as opened,
        ):
            settings, names = opened.settings, with_policies(opened.workspace)
            place = (open_registry(settings), retraining_lock(settings))
            asked = retrain(opened.workspace, opened.heads, *place, names, Asking())
        assert {each.model: list(each.written) for each in asked} == dict.fromkeys(
            [MODEL, "fraud_tabm", "fraud_blend"], FITTED
        )


class TestFirst:
    def test_exactly_the_weeks_that_were_decided_are_fitted_in_one_run(self, fitted: Home) -> None:
        assert fitted.report.problems == []
        assert sorted(fitted.report.outcome.computed[MODEL]) == FITTED
        assert fitted.report.runs == 1
        assert fitted.waiting[day(28)] == "is left out by the retraining policy: a later week was fitted"

    def test_readers_of_a_week_that_is_left_out_wait_for_it(self, fitted: Home) -> None:
        with copied(fitted) as home, session(home, retraining=POLICY) as opened:
            assert waiting(opened, "predictions")[day(28)] == f"waits for {MODEL} {day(28)}"
            assert sorted(opened.versions()["evaluation"]) == FITTED[:2]

    def test_landing_alone_reproduces_the_home_and_without_the_policy_only_what_it_left_out_is_fitted(
        self, fitted: Home
    ) -> None:
        with folder_in_memory() as folder:
            shutil.copytree(fitted.folder / "landing", folder / "home" / "landing")
            with session(folder / "home", retraining=POLICY) as opened:
                opened.refresh()
                assert opened.versions() == fitted.versions
            with session(folder / "home") as opened:
                assert opened.refresh().outcome.computed[MODEL] == [day(28)]
                assert {w: v for w, v in opened.versions()[MODEL].items() if w != day(28)} == (
                    fitted.versions[MODEL]
                )

    def test_the_reason_is_on_the_run_in_the_metadata_on_the_card_and_in_the_registry(
        self, fitted: Home
    ) -> None:
        with session(fitted.folder, retraining=POLICY) as opened:
            (tag,) = reasons_of_runs(opened)
            assert tag.startswith(f"{MODEL} {FIRST_WEEK}: the first model under this policy; ")
            told = event(opened, FIRST_WEEK).metadata["retraining"].value
            assert told == "the first model under this policy"
            registered = opened.models.registered(opened.models.named(f"{MODEL}@{day(14)}"))
        assert registered is not None
        assert registered.facts["fitted_because"] == f"so that the gate can judge {FIRST_WEEK}"
        assert f"| fitted because | so that the gate can judge {FIRST_WEEK} |" in registered.card

    def test_the_decision_says_who_when_why_and_on_what(self, fitted: Home) -> None:
        assert decisions(fitted.folder) == [f"landing/retraining/{MODEL}/{week}.json" for week in FITTED]
        said = json.loads(
            (fitted.folder / "landing" / "retraining" / MODEL / f"{FIRST_WEEK}.json").read_bytes()
        )
        assert (said["role"], said["by"], said["week"]) == ("challenger", "policy", FIRST_WEEK)
        assert said["at"].startswith("20")
        assert said["evidence"]["gate"] == "the gate has 2 weekly tests"


class TestDrift:
    def test_weeks_without_a_reason_are_left_out(self, drifted: Home) -> None:
        assert drifted.report.problems == []
        assert MODEL not in drifted.report.outcome.computed
        assert sorted(drifted.report.outcome.computed["test_set"]) == days(28, 42, 7)

    def test_drift_has_exactly_one_challenger_fitted_and_says_so_everywhere(self, drifted: Home) -> None:
        with copied(drifted) as home, session(home, retraining=POLICY) as opened:
            found = ask(opened)
            assert list(found.written) == [NEXT_WEEK]
            assert found.verdict is not None
            assert found.verdict.reason.startswith(
                f"drift: stability index {found.verdict.reason.split()[3]}"
            )
            assert f"of {MODEL} {FIRST_WEEK} in week {day(42)}, limit 0.25" in found.verdict.reason
            report = opened.refresh()
            assert report.problems == []
            assert report.outcome.computed[MODEL] == [NEXT_WEEK]
            assert reasons_of_runs(opened)[0] == f"{MODEL} {NEXT_WEEK}: {found.verdict.reason}"
            assert event(opened, NEXT_WEEK).metadata["retraining"].value == found.verdict.reason
            assert ask(opened).written == []
            assert opened.refresh().runs == 0

    def test_cool_down_and_budget_hold_it_back_and_say_so(self, drifted: Home) -> None:
        with copied(drifted) as home:
            for more, said in (
                ("cool_down_days=28", f"the cool-down: 21 of 28 days since the model of {FIRST_WEEK}"),
                ("most_fits=3", "the budget: 3 of 3 fits of the last 28 days are spent"),
                ("most_cpu_s=0.001", "the budget: "),
            ):
                with session(home, retraining=f"{POLICY},{more}") as opened:
                    found = ask(opened)
                    assert found.verdict is not None
                    assert found.verdict.held.startswith(said)
                    assert f"held back by {said}" in found.said
                    assert found.written == []
                    assert opened.refresh().runs == 0
            assert decisions(home) == decisions(drifted.folder)

    def test_a_person_may_fit_all_the_same(self, drifted: Home) -> None:
        with copied(drifted) as home, session(home, retraining=f"{POLICY},cool_down_days=28") as opened:
            found = ask(opened, by="ada", by_hand="the shops have new prices")
            assert list(found.written) == [NEXT_WEEK]
            decision = opened.workspace.fit_decisions.of(MODEL)[-1]
            assert (decision.by, decision.reason) == ("ada", "by hand: the shops have new prices")

    def test_decay_beyond_its_limit_is_a_reason_and_within_it_none(self, drifted: Home) -> None:
        with copied(drifted) as home:
            for limit in ("0.9", "0"):
                with session(home, retraining=f"decay={limit}") as opened:
                    found = ask(opened, dry_run=True)
                    assert found.verdict is not None
                    assert f"{found.verdict.reason}{found.verdict.quiet}".count("0.") >= 2
                    if limit == "0.9":
                        assert not found.verdict.fits

    def test_failed_drift_checks_of_the_tables_that_it_is_made_from_are_a_reason(self, drifted: Home) -> None:
        with session(drifted.folder, retraining="drifted_days=1") as opened:
            found = ask(opened, dry_run=True)
            failed = opened.checks("validated/transactions")["validated/transactions"]
        since = [
            d for d, rows in failed.items()
            if d >= FIRST_WEEK and any(r["check"] == "drift" and not r["passed"] for r in rows)
        ]  # fmt: skip
        assert day(42) in since
        assert found.verdict is not None
        assert found.verdict.reason == (
            f"drift checks failed on {len(since)} days since {FIRST_WEEK}, the last of them {max(since)} (a reason from 1 on)"
        )

    def test_other_parameters_are_a_reason_and_what_was_decided_is_fitted_anew(self, drifted: Home) -> None:
        with (
            copied(drifted) as home,
            session(home, retraining="new_code,tests=2", boosting_rounds=11) as opened,
        ):
            found = ask(opened)
            assert list(found.written) == [NEXT_WEEK]
            assert found.verdict is not None
            assert found.verdict.reason.startswith("new code or parameters: recipe ")
            assert sorted(opened.refresh().outcome.computed[MODEL]) == [*FITTED, NEXT_WEEK]
            again = ask(opened)
            assert again.verdict is not None
            assert again.written == []

    def test_new_labelled_weeks_are_counted_from_the_last_fit(self, drifted: Home) -> None:
        for weeks, fits in (("3", True), ("4", False)):
            with session(drifted.folder, retraining=f"labelled_weeks={weeks}") as opened:
                found = ask(opened, dry_run=True)
                assert found.verdict is not None
                assert bool(found.verdict.fits) is fits
                assert f"3 {'' if fits else 'of 4 '}new labelled weeks" in found.said


class TestSensors:
    def test_a_tick_decides_and_the_next_ones_have_it_fitted_and_then_do_nothing(self, drifted: Home) -> None:
        with copied(drifted) as home, session(home, retraining=POLICY) as opened:
            first = tick(opened, RETRAIN_SENSOR)
            assert f"decided for {NEXT_WEEK}" in str(first.skip_message)
            # The first one to look is killed before it has launched anything, or its run never began.
            tick(opened, SENSOR)
            for _ in range(9):
                found = tick(opened, SENSOR)
                if not found.run_requests:
                    break
                for request in found.run_requests:
                    if dg.AssetKey(MODEL) in request.asset_selection:
                        assert request.tags[REASON_TAG].startswith(f"{MODEL} {NEXT_WEEK}: drift: ")
                    assert execute(opened, request).success
            assert event(opened, NEXT_WEEK).partition == NEXT_WEEK
            assert len(reasons_of_runs(opened)) == 2
            there = sorted(path for path in home.rglob("*") if "landing" in path.parts)
            second = tick(opened, RETRAIN_SENSOR, first.cursor)
            third = tick(opened, RETRAIN_SENSOR, second.cursor)
            assert f"the latest week that can be fitted, {NEXT_WEEK}, is decided" in str(second.skip_message)
            assert str(third.skip_message) == f"{MODEL}: nothing has changed"
            assert third.cursor == second.cursor
            assert not tick(opened, SENSOR).run_requests
            assert sorted(path for path in home.rglob("*") if "landing" in path.parts) == there

    def test_a_home_without_a_policy_has_no_such_sensor(self, undecided: Home) -> None:
        with copied(undecided) as home, session(home) as opened:
            assert RETRAIN_SENSOR not in {s.name for s in opened.definitions.sensors or ()}
            with pytest.raises(PlatformError, match="has no retraining policy"):
                ask(opened)


class TestTrouble:
    def test_two_that_ask_at_once_write_one_decision(self, drifted: Home) -> None:
        with copied(drifted) as home:
            both = [start(home, "retrain", "--json", retraining=POLICY, boosting_rounds=10) for _ in range(2)]
            found = [answer(process)["models"][0]["decided"] for process in both]
            assert sorted(found) == [[], [NEXT_WEEK]]
            assert decisions(home) == [
                *decisions(drifted.folder),
                f"landing/retraining/{MODEL}/{NEXT_WEEK}.json",
            ]

    def test_one_that_broke_off_before_its_challenger_goes_on(
        self, undecided: Home, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add = FitDecisions.add

        def killed(self: FitDecisions, decision: Any) -> bool:
            if decision.role == "challenger":
                raise KeyboardInterrupt
            return add(self, decision)

        with copied(undecided) as home, session(home, retraining=POLICY) as opened:
            with monkeypatch.context() as patched:
                patched.setattr(FitDecisions, "add", killed)
                with pytest.raises(KeyboardInterrupt):
                    ask(opened)
            assert len(decisions(home)) == 2
            assert list(ask(opened).written) == [FIRST_WEEK]
            assert sorted(opened.refresh().outcome.computed[MODEL]) == FITTED

    def test_a_decision_that_cannot_be_read_fits_its_week_and_is_named(self, fitted: Home) -> None:
        with copied(fitted) as home, session(home, retraining=POLICY) as opened:
            (home / "landing" / "retraining" / MODEL / f"{FIRST_WEEK}.json").write_text("{")
            assert opened.refresh().runs == 0
            with pytest.raises(PlatformError, match=f"{FIRST_WEEK}.json is not a decision"):
                ask(opened)
            damaged, counted = fit_decisions(opened.settings)
            assert damaged.status == "problem"
            assert f"{FIRST_WEEK}.json is not a decision" in damaged.found
            assert counted.found == "3 weeks are decided by retraining policies"

    def test_a_decision_that_is_removed_withdraws_its_model_and_put_back_fits_nothing(
        self, fitted: Home
    ) -> None:
        with copied(fitted) as home, session(home, retraining=POLICY) as opened:
            file = home / "landing" / "retraining" / MODEL / f"{FIRST_WEEK}.json"
            data = file.read_bytes()
            file.unlink()
            assert opened.refresh().outcome.withdrawn[MODEL] == [FIRST_WEEK]
            file.write_bytes(data)
            back = opened.refresh().outcome
            assert (back.computed, back.reused[MODEL]) == ({}, [FIRST_WEEK])
            assert opened.versions() == fitted.versions

    def test_where_decisions_cannot_be_written_that_is_said(self, undecided: Home) -> None:
        with copied(undecided) as home, session(home, retraining=POLICY) as opened:
            (home / "landing" / "retraining").write_text("no folder")
            with pytest.raises(PlatformError, match="cannot be written"):
                ask(opened)


def test_an_old_home_keeps_its_models_when_a_policy_is_declared(undecided: Home) -> None:
    with copied(undecided) as home:
        with session(home) as opened:
            opened.refresh()
            before = opened.versions()
        with session(home, retraining=POLICY) as opened:
            # As the daemon may do it before any policy is asked.
            assert sorted(opened.refresh().outcome.withdrawn[MODEL]) == days(14, 35, 7)
            found = ask(opened)
            assert list(found.written) == days(14, 35, 7)
            report = opened.refresh()
            assert report.outcome.computed == {}
            assert opened.versions() == before
        with session(home) as opened:
            assert opened.refresh().runs == 0


@pytest.mark.parametrize("text", ["weekly", "drift=much", "cool_down_days=7"])
def test_a_setting_that_is_no_policy_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(PlatformError, match="MY_PLATFORM_RETRAINING="), session(tmp_path, retraining=text):
        pass
