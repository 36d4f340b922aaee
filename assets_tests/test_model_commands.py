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


@dataclass(frozen=True)
class Commands:
    """The command line on one home, in this process."""

    home: Path

    def __call__(self, *words: str, code: int = 0) -> Any:
        given = {
            "MY_PLATFORM_BOOSTING_ROUNDS": "10",
            "MY_PLATFORM_THREADS": "1",
            "MY_PLATFORM_PROMOTE": "never",
        }
        done = CliRunner().invoke(app, ["--home", str(self.home), *words, "--json"], env=given)
        if isinstance(done.exception, PlatformError):
            raise done.exception
        assert done.exit_code == code, done.output
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


def test_every_fitted_model_is_registered_with_facts_and_a_card(call: Commands) -> None:
    models = registered(call)["models"]

    assert [model["week"] for model in models][:3] == WEEKS[::-1]
    assert all(len(model["training_set_digest"]) == 64 for model in models)
    judged = models[0]
    assert (judged["gate"], judged["aliases"]) == ("passed", ["champion"])
    assert judged["measured"]["p99_ms"] > 0
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
