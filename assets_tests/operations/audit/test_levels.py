"""Service levels of built histories, with their exact figures."""

from datetime import UTC, datetime

from my_platform.operations.audit.levels import History, Level, Promoted, Targets, experiments, levels
from my_platform.storage.trace_index import Cost

TARGETS = Targets(fresh_h=24, deployed_h=48)


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def cost(asset: str, partition: str, when: str, fingerprint: str = "f") -> Cost:
    return Cost(asset, partition, fingerprint, "r", at(when), 60.0, 1.0, 0, 0, 0)


NOW_S = at("2026-02-01")
LANDED = {"orders": {"2026-01-13": at("2026-01-14T01"), "2026-01-14": at("2026-01-15T09")}}


def of(history: History, days: int = 30) -> dict[tuple[str, str], Level]:
    return {(level.name, level.about): level for level in levels(history, TARGETS, NOW_S, days)}


def test_freshness_counts_from_landing_to_the_first_value_after_it() -> None:
    history = History(
        landed=LANDED,
        ledger=[
            cost("valid", "2026-01-13", "2026-01-14T00"),
            cost("valid", "2026-01-13", "2026-01-14T03"),
            cost("valid", "2026-01-14", "2026-01-17T09"),
            cost("model", "2026-01-15", "2026-01-15T10"),
        ],
        grains={"valid": "day", "model": "week"},
        sources={"valid": frozenset({"orders"}), "model": frozenset({"orders"})},
    )

    found = of(history)

    assert found["freshness", "valid"].share == 0.5
    assert found["freshness", "valid"].met is False
    assert found["freshness", "valid"].figure == "median 25.0 h, 95% within 45.7 h"
    assert found["freshness", "model"].met is True
    assert found["freshness", "model"].figure.startswith("median 1.0 h")
    assert ("freshness", "valid") not in of(history, days=3)


def test_days_are_in_their_window_and_a_history_that_was_filled_in_is_left_out() -> None:
    landed = {"orders": {"2025-01-01": at("2026-01-14T01"), **LANDED["orders"]}}
    found = of(History(landed=landed, due_h={"orders": 6}), days=3_650)["landed in its window", "orders"]

    assert (found.cases, found.share, found.met) == (1, 0.0, False)
    assert found.figure == "median 9.0 h, 95% within 9.0 h"


def test_what_did_not_land_or_was_not_taken_over_counts_as_long_as_it_has_lasted() -> None:
    history = History(
        landed=LANDED,
        missing={"orders": ["2026-01-15"]},
        due_h={"orders": 6},
        ledger=[cost("raw/orders", "2026-01-13", "2026-01-14T03")],
        untaken={"raw/orders": ["2026-01-14"]},
        grains={"raw/orders": "day"},
        sources={"raw/orders": frozenset({"orders"})},
    )

    found = of(history)

    fresh, window = found["freshness", "raw/orders"], found["landed in its window", "orders"]
    assert (fresh.cases, fresh.share, fresh.met) == (2, 0.5, False)
    assert (window.cases, window.share, window.met) == (2, 0.0, False)
    assert "95% within 3" in window.figure


def test_a_promotion_counts_from_the_last_day_of_its_model_and_a_rollback_is_a_miss() -> None:
    promoted = [
        Promoted("2026-01-16T09:00:00+00:00", "fraud", "model", "2026-01-14", "promote"),
        Promoted("2026-01-17T09:00:00+00:00", "fraud", "model", "2026-01-13", "rollback"),
    ]
    found = of(History(landed=LANDED, sources={"model": frozenset({"orders"})}, promoted=promoted))

    deployed = found["new data to deployed model", "promotions"]
    assert (deployed.cases, deployed.met, deployed.figure) == (1, True, "median 24.0 h, 95% within 24.0 h")
    back = found["rollbacks", "promotions"]
    assert (back.figure, back.share, back.met) == ("1", 0.5, False)


def test_without_a_case_nothing_is_met_or_missed() -> None:
    assert {level.met for level in of(History()).values()} == {None}


def test_an_experiment_lasts_from_the_first_value_of_new_code_to_the_next_report() -> None:
    ledger = [
        cost("features", "d", "2026-01-14T00", "f1"),
        cost("report", "w", "2026-01-14T01", "f1"),
        cost("features", "d", "2026-01-14T02", "f2"),
        cost("report", "w", "2026-01-14T03", "f2"),
        cost("report", "w", "2026-01-14T04", "f3"),
    ]
    code = {("features", "d", f"f{n}"): f"c{n}" for n in (1, 2)}

    (found,) = experiments(History(ledger=ledger, reports=frozenset({"report"}), code=code))

    assert found == {
        "changed": ["features"],
        "report": "report w",
        "at": "2026-01-14T03:00:00+00:00",
        "seconds": 3_660.0,
    }
