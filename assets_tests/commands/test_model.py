"""The commands about models on a small home: what they answer, and their exit codes."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assets_tests import homes
from my_platform.cli import app
from my_platform.errors import PlatformError

WEEKS = ["2025-02-12", "2025-02-19", "2025-02-26"]
MODEL = "fraud_lightgbm"
OF_MODEL = {MODEL, "fraud_lightgbm_onnx", "predictions", "evaluation"}
SEARCH = ("tune", MODEL, "--trials", "12", "--folds", "2", "--keep-out", "0")


@dataclass(frozen=True)
class Commands:
    """The command line on one home, in this process."""

    home: Path

    def __call__(self, *words: str, code: int | None = 0) -> Any:
        given = {
            "MY_PLATFORM_BOOSTING_ROUNDS": "10",
            "MY_PLATFORM_THREADS": "1",
            "MY_PLATFORM_PROMOTE": "never",
        }
        done = CliRunner().invoke(app, ["--home", str(self.home), *words, "--json"], env=given)
        if isinstance(done.exception, PlatformError):
            raise done.exception
        assert code is None or done.exit_code == code, done.output
        return json.loads(done.stdout)


@pytest.fixture(scope="module")
def call() -> Iterator[Commands]:
    """A home that is up to date, where the gate made the latest model champion."""
    with homes.folder_in_memory() as folder:
        home = folder / "home"
        homes.land(home / "landing", 56, customers=150, terminals=300)
        with homes.session(home, promote="gate") as session:
            assert session.refresh().problems == []
            assert session.refresh().runs == 0
        yield Commands(home)


def registered(call: Commands) -> dict[str, Any]:
    found = call("models")["uses"]["fraud"]
    assert isinstance(found, dict)
    return found


def test_the_last_tested_weeks_report_shows_what_the_gate_found(call: Commands) -> None:
    reports = {
        path.stem: path.read_text() for path in (call.home / "reports/fraud/fraud_lightgbm").glob("*.html")
    }

    judged = [week for week, html in reports.items() if "Against the champion" in html]
    assert judged == [max(reports)]
    assert "passed the gate" in reports[max(reports)]


def test_every_fitted_model_is_registered_with_facts_and_a_card(call: Commands) -> None:
    models = registered(call)["models"]

    assert [model["week"] for model in models][:3] == WEEKS[::-1]
    assert all(len(model["training_set_digest"]) == 64 for model in models)
    judged = models[0]
    assert (judged["gate"], judged["aliases"]) == ("passed", ["champion"])
    alone, whole = judged["measured"], judged["measured"]["with_features"]
    assert alone["p99_ms"] > 0
    assert 0 < whole["rows_per_s"] < alone["rows_per_s"]
    for part in ("## Trained on", "## Made by", "## Takes", "| p99 of one row |"):
        assert part in judged["card"]
    tested = next(model for model in models if model["metrics"])
    assert "## Tested on" in tested["card"]
    assert Path(tested["report"]).is_file()


def test_a_model_that_the_gate_turns_down_ends_with_exit_code_1(call: Commands) -> None:
    done = call("promote", "fraud_lightgbm@2025-01-15", code=1)

    assert (done["promoted"], done["serves"]) == (False, False)
    assert "tested" in [reason["rule"] for reason in done["gate"]["reasons"] if not reason["kept"]]


def test_overruling_the_gate_needs_a_reason(call: Commands) -> None:
    with pytest.raises(PlatformError, match="say why with --reason"):
        call("promote", "fraud_lightgbm", "--force")


def test_champion_and_previous_follow_the_ledger(call: Commands) -> None:
    first, latest = (f"fraud_lightgbm@{week}" for week in (WEEKS[0], WEEKS[2]))
    assert call("promote", first, "--force", "--reason", "a test")["promoted"]
    assert not call("promote", first)["promoted"]
    aliases = {model["week"]: model["aliases"] for model in registered(call)["models"]}
    assert [aliases[week] for week in WEEKS] == [["champion"], [], ["previous"]]

    back = call("rollback", "--reason", "a test")

    assert (back["champion"], back["before"]) == (latest, first)
    assert registered(call)["champion"] == latest
    told = call("promotions")["promotions"]
    assert [line["action"] for line in told] == ["promote", "promote", "rollback"]
    with pytest.raises(PlatformError, match=r"2025-02-26 is the first"):
        call("rollback")


def test_a_chosen_threshold_is_shown_with_what_it_costs(call: Commands) -> None:
    before = call("threshold")
    assert (before["present"]["by"], before["present"]["version"]) == ("bundle", 0)
    assert before["tested_days"] % 7 == 0

    found = call("threshold", "--checks", "5", "--why", "two analysts")

    assert (found["present"]["checks_a_day"], found["present"]["why"]) == (5, "two analysts")
    present, ten = found["choices"]["present"], found["choices"]["10 checks"]
    assert present["checks_a_day"] <= 5 < ten["checks_a_day"] <= 10
    assert 0 < present["positives_caught"] < ten["positives_caught"] < 1
    assert 0 < present["amount_caught"] < 1
    by_cost = call("threshold", "--cost-of-check", "5", "--share-of-amount", "1", "--why", "costs")
    assert (by_cost["present"]["by"], by_cost["present"]["version"]) == ("cost", 2)
    assert call("threshold", "--of-bundle", "--why", "as before")["present"]["by"] == "bundle"


def test_a_threshold_is_chosen_in_one_way_and_with_a_reason(call: Commands) -> None:
    for words, problem in (
        (("--checks", "5"), "--why"),
        (("--checks", "5", "--score", "0.5", "--why", "x"), "one threshold"),
        (("--cost-of-check", "5", "--why", "x"), "--cost-of-miss"),
        (("--share-of-amount", "1", "--why", "x"), "--cost-of-check"),
        (("--score", "2", "--why", "x"), "from 0 to 1"),
    ):
        with pytest.raises(PlatformError, match=problem):
            call("threshold", *words)


def test_a_person_reads_the_words_of_the_domain(call: Commands) -> None:
    shown = CliRunner().invoke(app, ["--home", str(call.home), "threshold"]).stdout

    assert all(said in shown for said in ("cards a day", "of them genuine", "frauds caught"))


def test_models_of_one_recipe_do_not_differ(call: Commands) -> None:
    found = call("compare", f"fraud_lightgbm@{WEEKS[1]}", "fraud_lightgbm")

    assert found["same_recipe"]
    assert found["gain"] == {"value": 0.0, "low": 0.0, "high": 0.0}
    assert found["second"]["week"] == WEEKS[2]
    assert all(week["first"] == week["second"] for week in found["weeks"])


def test_a_model_is_built_again_elsewhere_with_the_same_digest(call: Commands) -> None:
    landed = call.home / "landing" / "transactions"
    day = sorted(landed.iterdir())[20]
    whole = day.read_bytes()
    day.unlink()
    try:
        done = call("reproduce", f"fraud_lightgbm@{WEEKS[1]}")
    finally:
        day.write_bytes(whole)

    assert done["same"]
    assert done["data_version"]["recorded"] == done["data_version"]["rebuilt"]
    assert set(done["made"]) == {"training_set", "training_set_replay", "fraud_lightgbm"}
    assert (done["other_code"], done["problems"]) == ([], [])


def test_the_costs_of_all_partitions_add_up(call: Commands) -> None:
    total = call("costs")["total"]

    for by in ("week", "run", "partition"):
        found = call("costs", "--by", by)
        assert found["total"] == total
        assert sum(row["partitions"] for row in found["costs"]) == total["partitions"]
    assert total["cpu_seconds"] > 0
    assert total["recomputed"] == 0
    assert total["bytes_read"] > 0
    assert total["peak_memory_bytes"] > 10_000_000


def test_a_name_that_no_model_has_is_told(call: Commands) -> None:
    with pytest.raises(PlatformError, match="there are fraud_lightgbm"):
        call("promote", "fraud_lightgmb")
    with pytest.raises(PlatformError, match="no model of the week 2031-01-01"):
        call("compare", "fraud_lightgbm", "fraud_lightgbm@2031-01-01")


def stale(call: Commands) -> set[str]:
    found = call("plan")
    return {asset for kind in ("certain", "possible") for asset in found[kind]}


@pytest.fixture(scope="module")
def tuned(call: Commands) -> Any:
    return call(*SEARCH)


def test_a_dry_run_changes_nothing(call: Commands) -> None:
    found = call(*SEARCH, "--dry-run")

    assert found["chosen"] is None
    assert stale(call) == set()


def test_the_same_command_again_goes_on_and_fits_nothing(call: Commands, tuned: Any) -> None:
    before = call("costs")["total"]["cpu_seconds"]

    again = call(*SEARCH, "--dry-run")

    assert again["trials"] == tuned["trials"]
    assert call("costs")["total"]["cpu_seconds"] == before


def test_what_is_found_makes_the_models_stale_and_nothing_else(call: Commands, tuned: Any) -> None:
    assert tuned["chosen"]
    assert tuned["best_score"] > tuned["present_score"]
    assert len(tuned["folds"]) == 2
    assert stale(call) == OF_MODEL


def test_after_a_refresh_the_gate_leaves_the_weeks_out_that_were_searched_over(
    call: Commands, tuned: Any
) -> None:
    done = call("refresh")

    assert {name for name, keys in done["computed"].items() if keys} == OF_MODEL
    judged = call("promote", MODEL, code=None)
    assert not set(judged["gate"]["weeks"]) & set(tuned["folds"])
    for week in tuned["folds"]:
        report = (call.home / "reports" / "fraud" / MODEL / f"{week}.html").read_text()
        assert "The parameters were chosen by this week" in report


def test_the_costs_name_the_study(call: Commands, tuned: Any) -> None:
    by_asset = {row["asset"]: row for row in call("costs")["costs"]}

    assert by_asset[f"{MODEL} (tuning)"]["cpu_seconds"] == pytest.approx(tuned["cost"]["cpu_s"], abs=0.01)
    assert tuned["study"] in {row["run"] for row in call("costs", "--by", "run")["costs"]}


def test_withdrawing_goes_back_to_the_former_models_without_fitting(call: Commands, tuned: Any) -> None:
    call("tune", MODEL, "--withdraw")

    done = call("refresh")

    assert [name for name, keys in done["computed"].items() if keys and name != "evaluation"] == []
    assert set(done["reused"]) >= {MODEL, "predictions"}
    assert call("tune", MODEL, "--withdraw") == {"withdrawn": None}


def test_time_that_is_over_is_said_and_the_search_goes_on_next_time(call: Commands) -> None:
    with pytest.raises(PlatformError, match="run the same command again and it goes on"):
        call(*SEARCH[:2], "--trials", "9", "--folds", "1", "--keep-out", "1", "--minutes", "0")


def test_a_model_without_a_search_is_told(call: Commands) -> None:
    with pytest.raises(PlatformError, match="test_set is no model that can become champion"):
        call("tune", "test_set")


@pytest.mark.slow
def test_several_workers_share_the_trials(call: Commands) -> None:
    found = call(
        "tune",
        MODEL,
        "--trials",
        "6",
        "--folds",
        "1",
        "--keep-out",
        "0",
        "--seed",
        "7",
        "--workers",
        "2",
        "--dry-run",
    )

    ended = found["trials"]["complete"] + found["trials"].get("pruned", 0)
    # Two that begin at the same moment may both take the last trial.
    assert 6 <= ended <= 7
