"""Operating thresholds: the curve of tested weeks, what policies mean on it, and the ledger of who chose what."""

import json
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
    curve_of,
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
    """Rows of (day, cluster, score in twentieths, label, cents)."""
    return pl.DataFrame(
        [
            (date(2025, 1, 1) + timedelta(days=day), cluster, score / 20, label, cents / 100)
            for day, cluster, score, label, cents in rows
        ],
        schema=["day", "cluster", "score", "label", "amount"],
        orient="row",
    )


def about(rows: list[tuple[int, int, int, bool, int]]) -> dict[str, Any]:
    curve = operating_curve([frame(rows)])
    assert curve is not None
    return {**OLD, "operating_curve": curve.as_json()}


@given(ROWS)
def test_each_point_counts_the_clusters_that_its_score_flags_once_a_day(
    rows: list[tuple[int, int, int, bool, int]],
) -> None:
    curve = operating_curve([frame(rows)])

    assert curve is not None
    for point in curve.points:
        flagged = {(day, cluster) for day, cluster, score, *_ in rows if score / 20 >= point.score}
        found = [(*each[:2], each[4]) for each in rows if each[3] and each[:2] in flagged]
        positives, cents = {(day, cluster) for day, cluster, _ in found}, sum(cents for *_, cents in found)
        assert (point.clusters, point.positives) == (len(flagged), len(positives))
        assert point.positive_cents == cents
    assert curve.points[-1].clusters == len({(day, cluster) for day, cluster, *_ in rows})


@given(ROWS, st.floats(0.1, 30))
def test_capacity_flags_as_many_clusters_as_fit_and_no_more(
    rows: list[tuple[int, int, int, bool, int]], checks: float
) -> None:
    curve = operating_curve([frame(rows)])
    assert curve is not None

    found = resolve(ByChecks(checks), about(rows))

    flagged = curve.at(found.score).clusters
    lower = [point for point in curve.points if point.score < found.score]
    assert found.note or flagged <= checks * curve.days
    assert all(point.clusters > checks * curve.days for point in lower)


@given(ROWS, st.floats(0.5, 50), st.floats(0, 500), st.floats(0.1, 1))
def test_cost_chooses_the_cheapest_of_all_scores(
    rows: list[tuple[int, int, int, bool, int]], check: float, miss: float, share: float
) -> None:
    policy = ByCost(check, miss, share)
    curve = operating_curve([frame(rows)])
    assert curve is not None

    found = resolve(policy, about(rows))

    chosen = cost(policy, curve, curve.at(found.score))
    assert all(chosen <= cost(policy, curve, curve.at(score / 20)) for score in range(22))


def test_a_curve_of_many_clusters_stays_small_and_begins_with_the_first_one() -> None:
    rows = pl.DataFrame(
        {
            "day": [date(2025, 1, 1)] * 50_000,
            "cluster": range(50_000),
            "score": [n / 50_000 for n in range(50_000)],
        }
    ).with_columns(label=pl.col("cluster") % 100 == 0, amount=1.0)

    curve = operating_curve([rows])

    assert curve is not None
    assert len(curve.points) <= 400
    assert (curve.points[0].clusters, curve.points[-1].clusters) == (1, 50_000)
    steps = [
        after.clusters / before.clusters
        for before, after in zip(curve.points, curve.points[1:], strict=False)
    ]
    assert max(step for step, point in zip(steps, curve.points, strict=False) if point.clusters > 50) < 1.06


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


def test_the_curve_of_an_older_bundle_means_the_same() -> None:
    rows = [(0, 0, 10, True, 100), (0, 1, 8, False, 50), (1, 2, 6, True, 300), (1, 3, 2, False, 20)]
    present = about(rows)
    points = present["operating_curve"]["points"]
    older = {"amounts": True, "days": 2, "fraud_cents": 400, "frauds": 2, "points": points}

    assert curve_of({**OLD, "operating_curve": older}) == curve_of(present) == operating_curve([frame(rows)])
    for policy in (ByChecks(1), ByCost(5, 100), ByCost(0.1, 0, 0.5)):
        assert resolve(policy, {**OLD, "operating_curve": older}) == resolve(policy, present)


@pytest.mark.parametrize(
    ("line", "policy"),
    [
        ({"by": "checks", "cards_a_day": 80.0}, ByChecks(80)),
        ({"by": "cost", "check": 5.0, "missed_fraud": 40.0, "share_of_amount": 0.5}, ByCost(5, 40, 0.5)),
    ],
)
def test_a_policy_that_an_older_version_wrote_counts(
    line: dict[str, Any], policy: Policy, tmp_path: Path
) -> None:
    ledger = ThresholdLedger(tmp_path)
    told = {"at": "2026-01-01T00:00:00+00:00", "use": "pumps", "who": "ann", "why": "holidays"}
    ledger.path.write_text(json.dumps({**told, "policy": line}, sort_keys=True) + "\n")

    assert ledger.present("pumps").policy == policy


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
        ThresholdLedger(tmp_path).choose("pumps", policy, who="a", why="b")
    assert not (tmp_path / "thresholds.jsonl").exists()


def test_the_last_finished_line_of_a_use_counts(tmp_path: Path) -> None:
    ledger = ThresholdLedger(tmp_path)
    assert (ledger.present("pumps").policy, ledger.present("pumps").version) == (ByBundle(), 0)

    ledger.choose("pumps", ByChecks(80), who="ann", why="holidays")
    ledger.choose("other", ByScore(0.9), who="bob", why="a test")
    with open(ledger.path, "ab") as file:
        file.write(b'{"use": "pumps", "pol')
    assert (ledger.present("pumps").policy, ledger.present("pumps").version) == (ByChecks(80), 1)
    ledger.choose("pumps", ByScore(0.4), who="ann", why="back")

    assert [chosen.policy for chosen in ledger.lines("pumps")] == [ByChecks(80), ByScore(0.4)]
    present = ledger.present("pumps")
    assert (present.version, present.who, present.why) == (2, "ann", "back")


def test_a_line_that_is_no_policy_is_named(tmp_path: Path) -> None:
    ledger = ThresholdLedger(tmp_path)
    ledger.choose("pumps", ByScore(0.4), who="ann", why="a test")
    ledger.path.write_text(ledger.path.read_text().replace('"score": 0.4', '"score": "high"'))

    with pytest.raises(
        PlatformError, match=r"thresholds\.jsonl, version 1 of pumps: .*my-platform threshold"
    ):
        ledger.present("pumps")


def test_a_policy_with_a_name_that_none_has_is_refused() -> None:
    with pytest.raises(PlatformError, match="is no policy of the operating threshold"):
        policy_of_json({"by": "cost", "check": 5.0, "mistyped": 40.0, "share_of_amount": 0.5})
