"""Operating thresholds: the curve of tested weeks, what policies mean on it, and the ledger of who chose what."""

import math
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from my_platform.errors import PlatformError
from my_platform.learning.threshold_ledger import ThresholdLedger
from my_platform.learning.thresholds import (
    ByBundle,
    ByChecks,
    ByCost,
    ByScore,
    Policy,
    cost,
    operating_curve,
    policy_json,
    policy_of_json,
    resolve,
)

ROWS = st.lists(
    st.tuples(
        st.integers(0, 3), st.integers(0, 5), st.integers(0, 20), st.booleans(), st.integers(1, 50_000)
    ),
    min_size=1,
    max_size=60,
)
OLD = {"operating_threshold": {"looked_at_a_day": 100, "score": 0.3}}


def frame(rows: list[tuple[int, int, int, bool, int]]) -> pl.DataFrame:
    """Rows of (day, card, score in twentieths, fraud, cents)."""
    return pl.DataFrame(
        [
            (date(2025, 1, 1) + timedelta(days=day), card, score / 20, fraud, cents / 100)
            for day, card, score, fraud, cents in rows
        ],
        schema=["day", "card", "score", "fraud", "amount"],
        orient="row",
    )


def about(rows: list[tuple[int, int, int, bool, int]]) -> dict[str, Any]:
    curve = operating_curve([frame(rows)])
    assert curve is not None
    return {**OLD, "operating_curve": curve.as_json()}


@given(ROWS)
def test_each_point_counts_the_cards_that_its_score_flags_once_a_day(
    rows: list[tuple[int, int, int, bool, int]],
) -> None:
    curve = operating_curve([frame(rows)])

    assert curve is not None
    for point in curve.points:
        flagged = {(day, card) for day, card, score, *_ in rows if score / 20 >= point.score}
        frauds = {(day, card) for day, card, _, fraud, _ in rows if fraud and (day, card) in flagged}
        cents = sum(cents for day, card, _, fraud, cents in rows if fraud and (day, card) in flagged)
        assert (point.cards, point.frauds, point.fraud_cents) == (len(flagged), len(frauds), cents)
    assert curve.points[-1].cards == len({(day, card) for day, card, *_ in rows})


@given(ROWS, st.floats(0.1, 30))
def test_capacity_flags_as_many_cards_as_fit_and_no_more(
    rows: list[tuple[int, int, int, bool, int]], checks: float
) -> None:
    curve = operating_curve([frame(rows)])
    assert curve is not None

    found = resolve(ByChecks(checks), about(rows))

    flagged = curve.at(found.score).cards
    lower = [point for point in curve.points if point.score < found.score]
    assert found.note or flagged <= checks * curve.days
    assert all(point.cards > checks * curve.days for point in lower)


@given(ROWS, st.floats(0.5, 50), st.floats(0, 500), st.floats(0.1, 1))
def test_cost_chooses_the_cheapest_of_all_scores(
    rows: list[tuple[int, int, int, bool, int]], check: float, fraud: float, share: float
) -> None:
    policy = ByCost(check, fraud, share)
    curve = operating_curve([frame(rows)])
    assert curve is not None

    found = resolve(policy, about(rows))

    chosen = cost(policy, curve, curve.at(found.score))
    assert all(chosen <= cost(policy, curve, curve.at(score / 20)) for score in range(22))


def test_a_curve_of_many_cards_stays_small_and_begins_with_the_first_one() -> None:
    rows = pl.DataFrame(
        {
            "day": [date(2025, 1, 1)] * 50_000,
            "card": range(50_000),
            "score": [n / 50_000 for n in range(50_000)],
        }
    ).with_columns(fraud=pl.col("card") % 100 == 0, amount=1.0)

    curve = operating_curve([rows])

    assert curve is not None
    assert len(curve.points) <= 400
    assert (curve.points[0].cards, curve.points[-1].cards) == (1, 50_000)
    steps = [
        after.cards / before.cards for before, after in zip(curve.points, curve.points[1:], strict=False)
    ]
    assert max(step for step, point in zip(steps, curve.points, strict=False) if point.cards > 50) < 1.06


def test_a_bundle_without_a_curve_keeps_its_own_threshold_and_says_so() -> None:
    assert resolve(ByBundle(), OLD).score == 0.3
    assert resolve(ByScore(0.4), OLD) == resolve(ByScore(0.4), about([(0, 0, 1, True, 1)]))
    for policy in (ByChecks(10), ByCost(5, 100)):
        found = resolve(policy, OLD)
        assert (found.score, "no operating curve" in found.note) == (0.3, True)
    assert (
        resolve(ByBundle(), {"operating_threshold": {"looked_at_a_day": 1, "score": None}}).score == math.inf
    )


def test_a_share_of_amounts_that_nobody_knows_is_not_made_up() -> None:
    curve = operating_curve([frame([(0, 0, 10, True, 100)]).drop("amount")])
    assert curve is not None

    found = resolve(ByCost(1, 0, 0.5), {**OLD, "operating_curve": curve.as_json()})

    assert (found.score, "no amounts" in found.note) == (0.3, True)


@pytest.mark.parametrize("policy", [ByBundle(), ByChecks(80), ByCost(5, 40, 0.5), ByScore(0.4)])
def test_a_policy_is_read_back_as_it_was_written(policy: Policy) -> None:
    assert policy_of_json(policy_json(policy)) == policy


@pytest.mark.parametrize(
    "policy",
    [
        ByChecks(0),
        ByChecks(math.nan),
        ByScore(1.5),
        ByScore(math.nan),
        ByCost(0, 5),
        ByCost(5, 0, 0),
        ByCost(5, -1),
    ],
)
def test_a_policy_that_can_choose_nothing_is_refused(policy: Policy, tmp_path: Path) -> None:
    with pytest.raises(PlatformError, match="expected"):
        ThresholdLedger(tmp_path).choose("fraud", policy, who="a", why="b")
    assert not (tmp_path / "thresholds.jsonl").exists()


def test_the_last_finished_line_of_a_use_counts(tmp_path: Path) -> None:
    ledger = ThresholdLedger(tmp_path)
    assert (ledger.present("fraud").policy, ledger.present("fraud").version) == (ByBundle(), 0)

    ledger.choose("fraud", ByChecks(80), who="ann", why="holidays")
    ledger.choose("other", ByScore(0.9), who="bob", why="a test")
    with open(ledger.path, "ab") as file:
        file.write(b'{"use": "fraud", "pol')
    assert (ledger.present("fraud").policy, ledger.present("fraud").version) == (ByChecks(80), 1)
    ledger.choose("fraud", ByScore(0.4), who="ann", why="back")

    assert [chosen.policy for chosen in ledger.lines("fraud")] == [ByChecks(80), ByScore(0.4)]
    present = ledger.present("fraud")
    assert (present.version, present.who, present.why) == (2, "ann", "back")


def test_a_line_that_is_no_policy_is_named(tmp_path: Path) -> None:
    ledger = ThresholdLedger(tmp_path)
    ledger.choose("fraud", ByScore(0.4), who="ann", why="a test")
    ledger.path.write_text(ledger.path.read_text().replace('"score": 0.4', '"score": "high"'))

    with pytest.raises(
        PlatformError, match=r"thresholds\.jsonl, version 1 of fraud: .*my-platform threshold"
    ):
        ledger.present("fraud")
