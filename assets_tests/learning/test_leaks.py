"""What a training set must not hold, and what must not be scored: each is refused with column, row and value."""

import io
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import pytest

from my_platform.errors import Refused
from my_platform.incremental.checks import CheckResult, Judgement
from my_platform.learning import leaks
from my_platform.learning.leaks import (
    TRAINING_CHECKS,
    Roles,
    judge_scores,
    judge_training_set,
    single_feature_auc,
)

T0 = datetime(2024, 3, 20)
DELAY = timedelta(days=7)
ROLES = Roles("id", "at", "known_at", "fraud", ("amount", "rate"), made_of_label=("scenario",))
ROWS = 400


def good() -> pl.DataFrame:
    """Rows of the 12 days before T0 - 7, of which every fourth is a fraud, and features that say little of it."""
    rng = np.random.default_rng(0)
    at = [T0 - DELAY - timedelta(minutes=40 * n + 1) for n in range(ROWS)]
    return pl.DataFrame(
        {
            "id": range(ROWS),
            "at": at,
            "known_at": [moment + DELAY for moment in at],
            "fraud": [n % 4 == 0 for n in range(ROWS)],
            "amount": rng.uniform(0, 100, ROWS),
            "rate": [None if n % 5 == 0 else n % 3 / 3 for n in range(ROWS)],
        }
    )


def judge(rows: pl.DataFrame, roles: Roles = ROLES) -> dict[str, CheckResult]:
    """What is said of rows in memory, which is what is said of them in files, a few at a time."""
    in_files = answer(in_two_files(rows), roles, at_once=150)
    found = answer(rows, roles)
    assert (found.checks, str(found)) == (in_files.checks, str(in_files))
    if isinstance(found, Refused):
        raise found
    return {result.check: result for result in found.checks}


def answer(rows: pl.DataFrame | pl.LazyFrame, roles: Roles, at_once: int = 1 << 20) -> Refused | Judgement:
    with patch.multiple(leaks, _ROWS_AT_ONCE=at_once, _KEYS_AT_ONCE=at_once):
        try:
            return Judgement(judge_training_set(rows, roles, rows_before=T0 - DELAY, labels_before=T0))
        except Refused as error:
            return error


def in_two_files(rows: pl.DataFrame) -> pl.LazyFrame:
    files = [io.BytesIO(), io.BytesIO()]
    for part, file in zip((rows[:100], rows[100:]), files, strict=True):
        part.write_ipc(file, compression="lz4")
        file.seek(0)
    return pl.concat([pl.scan_ipc(file) for file in files])


def in_row(column: str, value: Any, row: int = 3) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda rows: rows.with_columns(
        pl.when(pl.col("id") == row).then(value).otherwise(pl.col(column)).alias(column)
    )


def test_a_good_training_set_passes_every_check() -> None:
    found = judge(good())
    assert list(found) == [check.name for check in TRAINING_CHECKS]
    assert all(result.passed for result in found.values())
    assert found["only_the_past"].metadata["latest_row"] == str(T0 - DELAY - timedelta(minutes=1))


@pytest.mark.parametrize(
    ("plant", "check", "said"),
    [
        (
            in_row("at", T0 - DELAY),
            "only_the_past",
            "column at of id 3 is 2024-03-13 00:00:00, expected before 2024-03-13",
        ),
        (
            in_row("known_at", T0),
            "only_the_past",
            "column known_at of id 3 is 2024-03-20 00:00:00, expected before",
        ),
        (
            in_row("known_at", T0 - 3 * DELAY),
            "only_the_past",
            "column known_at of id 3 .* expected after the row itself",
        ),
        (in_row("known_at", None), "only_the_past", "column known_at of id 3 is None"),
        (
            in_row("id", 4),
            "distinct_rows",
            r"column id of id 4 is 4, expected each row once \(and 1 more rows\)",
        ),
        (
            in_row("fraud", None),
            "labels_complete",
            "column fraud of id 3 is None, expected a label in each row",
        ),
        (
            lambda rows: rows.filter("fraud"),
            "labels_complete",
            "expected rows of both labels, found .*'True': 100",
        ),
        (in_row("amount", float("inf")), "finite_features", "column amount of id 3 is inf"),
        (in_row("rate", float("-inf")), "finite_features", "column rate of id 3 is -inf"),
        (
            lambda rows: rows.with_columns(rate=pl.col("fraud").cast(pl.Float64)),
            "no_label_among_features",
            "column rate says in each of 400 rows what the label says",
        ),
        (
            lambda rows: rows.with_columns(rate=1 - pl.col("fraud").cast(pl.Int64)),
            "no_label_among_features",
            "column rate says in each of 400 rows",
        ),
    ],
)
def test_what_a_training_set_must_not_hold_is_refused(
    plant: Callable[[pl.DataFrame], pl.DataFrame], check: str, said: str
) -> None:
    with pytest.raises(Refused, match=f"{check}: .*{said}") as refused:
        judge(plant(good()))
    failed = {result.check for result in refused.value.checks if not result.passed}
    assert check in failed
    assert len(refused.value.checks) == len(TRAINING_CHECKS)


def test_a_missing_number_is_no_label_either() -> None:
    rows = good().with_columns(pl.col("fraud").cast(pl.Float64))
    assert judge(rows)["labels_complete"].passed
    with pytest.raises(Refused, match="column fraud of id 3 is nan"):
        judge(in_row("fraud", float("nan"))(rows))


@pytest.mark.parametrize("name", ["fraud", "known_at", "scenario"])
def test_a_feature_list_that_names_the_label_is_refused(name: str) -> None:
    rows = good().with_columns(scenario=pl.lit(0))
    roles = Roles("id", "at", "known_at", "fraud", ("amount", name), made_of_label=("scenario",))
    with pytest.raises(Refused, match=f"column {name} is among the features, and tells the label"):
        judge(rows.with_columns(pl.col("known_at")), roles)


class TestTheScreen:
    """A feature that looks like a label is flagged, and lets the training set in."""

    def screened(self, **columns: Any) -> CheckResult:
        return judge(good().with_columns(**columns))["no_feature_like_a_label"]

    def test_a_label_of_which_some_are_wrong_is_flagged(self) -> None:
        found = self.screened(rate=(pl.col("fraud") ^ (pl.col("id") % 50 == 0)).cast(pl.Float64))
        assert not found.passed
        assert "column rate alone has an AUC of 0.9" in found.description
        assert found.metadata["threshold"] == 0.85
        assert list(found.metadata["auc"]) == ["rate", "amount"]

    def test_a_label_that_is_turned_round_is_flagged(self) -> None:
        assert not self.screened(rate=(pl.col("fraud") ^ (pl.col("id") % 50 != 0)).cast(pl.Float64)).passed

    def test_a_good_feature_is_not(self) -> None:
        found = self.screened(rate=(pl.col("fraud") ^ (pl.col("id") % 3 == 0)).cast(pl.Float64))
        assert found.passed
        assert found.metadata["auc"]["rate"] > 0.6

    def test_few_frauds_tell_nothing(self) -> None:
        few = (
            good()
            .filter(~pl.col("fraud") | (pl.col("id") < 100))
            .with_columns(rate=pl.col("fraud").cast(pl.Float64) + pl.col("id") / 1e6)
        )
        found = judge(few)["no_feature_like_a_label"]
        assert (found.passed, found.metadata) == (True, {"positive_rows": 25})


class TestTheScreenOfANumber:
    """A feature that orders the rows as the number does, or the other way round, is flagged."""

    def screened(self, **columns: Any) -> CheckResult:
        rows = good().with_columns(fraud=pl.col("id").hash(1) % 1000 / 7, **columns)
        numbers = Roles("id", "at", "known_at", "fraud", ("amount", "rate"), number=True)
        return judge(rows, numbers)["no_feature_like_a_label"]

    @pytest.mark.parametrize("sign", [1, -1])
    def test_one_that_is_nearly_the_number_is_flagged(self, sign: int) -> None:
        label = pl.col("id").hash(1) % 1000 / 7
        near = pl.when(pl.col("id") % 3 > 0).then(sign * (label**2) + pl.col("id") % 5)
        found = self.screened(rate=near)
        assert not found.passed
        assert "column rate alone ranks as fraud does" in found.description
        assert list(found.metadata["rank_correlation"]) == ["rate", "amount"]

    def test_a_good_feature_and_a_constant_are_not(self) -> None:
        label = pl.col("id").hash(1) % 1000 / 7
        found = self.screened(
            rate=pl.when(pl.col("id") % 5 > 0).then(label).otherwise(pl.col("amount")), amount=1.0
        )
        assert found.passed
        assert found.metadata["rank_correlation"]["rate"] > 0.5
        assert found.metadata["rank_correlation"]["amount"] == 0.0

    def test_few_values_tell_nothing(self) -> None:
        label = pl.col("id").hash(1) % 1000 / 7
        found = self.screened(rate=pl.when(pl.col("id") < 20).then(label))
        assert (found.passed, list(found.metadata["rank_correlation"])) == (True, ["amount"])


@pytest.mark.parametrize(
    "made",
    [int, float, str, lambda v: v > 4, lambda v: float("nan") if v > 6 else -0.0 if v < 2 else 0.0],
    ids=["integers", "floats", "texts", "booleans", "no numbers and zeros of both signs"],
)
def test_the_auc_of_one_feature_is_that_of_all_pairs(made: Callable[[int], object]) -> None:
    rng = np.random.default_rng(1)
    values = pl.Series("f", [None if v > 8 else made(v) for v in rng.integers(0, 10, 60)])
    label = pl.Series("y", rng.random(60) < 0.3)
    ranked = values.rank("dense").fill_null(0).to_list()
    ones = [v for v, y in zip(ranked, label, strict=True) if y]
    zeros = [v for v, y in zip(ranked, label, strict=True) if not y]
    expected = sum((a > b) + (a == b) / 2 for a in ones for b in zeros) / (len(ones) * len(zeros))
    found = single_feature_auc(values.to_frame(), label)["f"]
    assert found == pytest.approx(max(expected, 1 - expected), abs=1e-12)


class TestScoring:
    """Scores are of rows that the model has not seen, and of all of them."""

    FITTED = pl.Series("id", [1, 2, 3])

    def scored(
        self, ids: list[int], scores: list[float | None] | None = None, wanted: int = 3
    ) -> list[CheckResult]:
        rows = pl.DataFrame({"id": ids, "score": scores or [0.1] * len(ids)})
        return list(judge_scores(rows, self.FITTED, wanted, key="id", score="score"))

    def test_new_rows_pass(self) -> None:
        assert [result.passed for result in self.scored([4, 5, 6])] == [True, True]

    def test_a_row_of_the_training_set_is_refused(self) -> None:
        with pytest.raises(Refused, match="unseen_rows: column id of id 2 is 2, the model was fitted on it"):
            self.scored([4, 2, 6])

    def test_a_row_that_is_not_scored_is_missed(self) -> None:
        with pytest.raises(Refused, match="every_row_scored: 2 of 3 rows are scored"):
            self.scored([4, 5])

    @pytest.mark.parametrize("score", [None, float("nan"), 1.5])
    def test_a_score_that_is_no_probability_is_refused(self, score: float | None) -> None:
        with pytest.raises(Refused, match="every_row_scored: column score of id 6 is "):
            self.scored([4, 5, 6], [0.1, 0.2, score])
