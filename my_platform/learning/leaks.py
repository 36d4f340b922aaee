"""Guards against leaks: what a training set may hold, what a feature list may name, what may be scored.

A model that was fitted on the future is good in every test and bad in use, and nothing about it looks wrong. So
every training set answers these questions, and where an answer is no, it is refused: no model is fitted on it,
and what is served stays as it is. What a feature saw of the future, `features.replay` finds.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl
import polars.selectors as cs

from my_platform.errors import Refused
from my_platform.features.replay import sample
from my_platform.incremental.checks import Check, CheckResult

HIGHEST_AUC = 0.85
"""From here on a single feature looks like a label.

On five weeks of payments the best of 33 honest features has .71 to .74; a label of which one in
ten is wrong has .89, one in twenty .95, and a window that counts the row's own label .995. Labels that are known
some days early give .77 to .80: no bound on one feature tells those from good features, the replay does.
"""
HIGHEST_RANK_CORRELATION = 0.98  # Beyond it a single feature looks like a label that is a number.
FEWEST_POSITIVES = 50
_MOST_OF_ONE, _MOST_OF_ZERO = 5_000, 20_000
_STANDARD_ERRORS = 3
_ROW, _MEANT = "__row", "__meant"
# Rows of which a key and a label are read at once, and keys that are sorted at once.
_ROWS_AT_ONCE, _KEYS_AT_ONCE = 1 << 22, 1 << 24

TRAINING_CHECKS = (
    Check("only_the_past", "Every row happened, and its label was known, before the model is fitted."),
    Check("distinct_rows", "No row stands twice."),
    Check("labels_complete", "Every row has a label, and not all have the same."),
    Check("finite_features", "No feature is infinite."),
    Check("no_label_among_features", "No feature is the label, or made of the label of its own row."),
    Check(
        "no_feature_like_a_label",
        f"No single feature has an AUC above {HIGHEST_AUC}, or ranks rows as a number does.",
        "warn",
    ),
)
SCORING_CHECKS = (
    Check("unseen_rows", "No scored row is one that the model was fitted on."),
    Check("every_row_scored", "Every row is scored, once, with a number that can be."),
)


@dataclass(frozen=True)
class Roles:
    """What the columns of a training set are.

    Attributes:
        key: identifies a row.
        time: when the row happened, UTC.
        known_at: when its label became known, UTC.
        label: a boolean, or 0 and 1; or a number, where `number` says so.
        features: what a model is fitted on.
        made_of_label: columns of the source that tell the label of their own row; never features.
        number: whether the label is any number.
    """

    key: str
    time: str
    known_at: str
    label: str
    features: tuple[str, ...]
    made_of_label: tuple[str, ...] = ()
    number: bool = False


def judge_training_set(
    rows: pl.DataFrame | pl.LazyFrame, roles: Roles, *, rows_before: datetime, labels_before: datetime
) -> tuple[CheckResult, ...]:
    """How a training set answers ``TRAINING_CHECKS``.

    Args:
        rows: in memory, or a scan of files, of which about a column is read into memory at a time.
        rows_before: the first moment that is too late for a row.
        labels_before: the first moment that is too late for a label to become known.

    Raises:
        Refused: the answer to a check of severity error is no; with all answers, and the column, row and value.
    """
    judged = _Judged(rows.lazy(), roles)
    results = (
        _only_the_past(judged, rows_before, labels_before),
        _distinct_rows(judged),
        _labels_complete(judged),
        _finite_features(judged),
        _no_label_among_features(judged),
        _no_feature_like_a_label(judged),
    )
    _refuse(results, TRAINING_CHECKS)
    return results


def judge_scores(
    scored: pl.DataFrame, fitted_on: pl.Series, wanted: int, *, key: str, score: str, number: bool = False
) -> tuple[CheckResult, ...]:
    """How scored rows answer ``SCORING_CHECKS``.

    Args:
        fitted_on: the keys that the model was fitted on.
        wanted: how many rows there are to score.
        number: whether a score is any finite number, and no probability.

    Raises:
        Refused: the answer to a check is no; with all answers, and the column, row and value.
    """
    seen = scored.filter(pl.col(key).is_in(fitted_on.implode()))
    column = pl.col(score)
    expected = "expected each row once, a finite number" if number else "expected each row once, 0 to 1"
    fits = column.is_finite() if number else column.is_between(0, 1)
    odd = scored.filter(~fits.fill_null(False))
    twice = scored.filter(pl.col(key).is_duplicated())
    whole = scored.height == wanted and not odd.height and not twice.height
    said = f"{scored.height} of {wanted} rows are scored"
    if odd.height or twice.height:
        said = _first(
            odd if odd.height else twice,
            key,
            score if odd.height else key,
            expected,
        )
    results = (
        CheckResult(
            "unseen_rows",
            not seen.height,
            {"rows": seen.height} if seen.height else {},
            "" if not seen.height else _first(seen, key, key, "the model was fitted on it"),
        ),
        CheckResult("every_row_scored", whole, {"rows": scored.height}, "" if whole else said),
    )
    _refuse(results, SCORING_CHECKS)
    return results


def single_feature_auc(features: pl.DataFrame, labels: pl.Series) -> dict[str, float]:
    """How well each feature alone ranks the label, in either direction: 0.5 to 1. A null ranks lowest."""
    one = labels.cast(pl.Boolean)
    ranked = features.with_columns((~(cs.float() | cs.integer() | cs.boolean())).as_expr().rank("dense"))
    found = {}
    for ones, zeros in zip(ranked.filter(one).get_columns(), ranked.filter(~one).get_columns(), strict=True):
        of_ones, of_zeros = ones.drop_nulls().to_numpy(), np.sort(zeros.drop_nulls().to_numpy())
        # Twice the number of pairs in order, ties as one half, so that it stays an integer.
        ordered = zeros.null_count() * (2 * len(of_ones) + ones.null_count())
        for side in ("left", "right"):
            ordered += int(np.searchsorted(of_zeros, of_ones, side).sum())
        auc = ordered / (2 * len(ones) * len(zeros))
        found[ones.name] = max(auc, 1 - auc)
    return found


class _Judged:
    """Rows that are judged, and how they are read."""

    def __init__(self, rows: pl.LazyFrame, roles: Roles) -> None:
        self.rows = rows
        self.roles = roles
        self.schema = rows.collect_schema()
        self.height = int(self.read(rows.select(pl.len())).item())

    def read(self, asked: pl.LazyFrame) -> pl.DataFrame:
        # Of rows in files, the other engine would first read all columns that are asked for.
        return asked.collect(engine="streaming")

    def column(self, name: str) -> pl.Series:
        return self.read(self.rows.select(name)).to_series()

    def first(self, wrong: pl.Expr, column: str, expected: str) -> str:
        """What is said of the first of the rows that are wrong, and how many there are."""
        found = self.rows.filter(wrong)
        number = self.read(found.select(pl.len())).item()
        shown = dict.fromkeys((self.roles.key, column))
        return _said(self.read(found.select(*shown).head(1)), number, self.roles.key, column, expected)

    def sample(self, which: pl.Expr, most: int) -> tuple[pl.Series, int]:
        """The numbers of so many of some rows, chosen by a hash of their keys; and how many rows there are of these."""
        key, of_all = self.roles.key, 0
        chosen: list[pl.DataFrame] = []
        for start in range(0, self.height, _ROWS_AT_ONCE):
            asked = self.rows.select(key, which.alias(_MEANT)).slice(start, _ROWS_AT_ONCE)
            found = self.read(asked).with_row_index(_ROW, start).filter(_MEANT)
            of_all += found.height
            chosen = [sample(pl.concat([*chosen, found]), key, most)]
        return (chosen[0].get_column(_ROW) if chosen else pl.Series(_ROW, [], pl.UInt32)), of_all

    def numbered(self, columns: Sequence[str], numbers: pl.Series) -> pl.DataFrame:
        """Some columns of the rows with these numbers, in the order of the rows."""
        asked = self.rows.select(columns).with_row_index(_ROW)
        return self.read(asked.filter(pl.col(_ROW).is_in(numbers.implode())).drop(_ROW))


def _only_the_past(judged: _Judged, rows_before: datetime, labels_before: datetime) -> CheckResult:
    roles = judged.roles
    happened, known = pl.col(roles.time), pl.col(roles.known_at)
    expectations = (
        (roles.time, happened < rows_before, f"expected before {rows_before}"),
        (roles.known_at, known < labels_before, f"expected before {labels_before}"),
        (roles.known_at, known > happened, "expected after the row itself"),
    )
    wrong = [~holds.fill_null(False) for _, holds, _ in expectations]
    numbers = [each.sum().alias(str(number)) for number, each in enumerate(wrong)]
    *counts, latest, latest_known = judged.read(
        judged.rows.select(*numbers, happened.max().alias("latest"), known.max().alias("latest known"))
    ).row(0)
    for number, (column, _, expected), each in zip(counts, expectations, wrong, strict=True):
        if number:
            said = judged.first(each, column, expected)
            return CheckResult("only_the_past", False, {"rows": number}, said)
    return CheckResult("only_the_past", True, {"latest_row": str(latest), "latest_label": str(latest_known)})


def _distinct_rows(judged: _Judged) -> CheckResult:
    key, twice = judged.roles.key, []
    parts = judged.height // _KEYS_AT_ONCE + 1
    for part in range(parts):
        keys = judged.rows.select(key)
        found = judged.read(keys if parts == 1 else keys.filter(pl.col(key).hash(0) % parts == part))
        # Sorted, keys are counted in a fifth of the time, and most often they stand sorted.
        ordered = found.to_series().sort()
        if ordered.n_unique() < len(ordered):
            twice.append(ordered.filter(ordered.is_duplicated()))
    if not twice:
        return CheckResult("distinct_rows", True, {"rows": judged.height})
    repeated = pl.concat(twice)
    said = judged.first(
        pl.col(key).is_in(repeated.unique().implode(), nulls_equal=True), key, "expected each row once"
    )
    return CheckResult("distinct_rows", False, {"rows": len(repeated)}, said)


def _labels_complete(judged: _Judged) -> CheckResult:
    roles = judged.roles
    label = judged.column(roles.label)
    missing = label.is_null() | (label.is_nan() if label.dtype.is_float() else False)
    if missing.any():
        is_missing = pl.col(roles.label).is_null()
        if label.dtype.is_float():
            is_missing = is_missing | pl.col(roles.label).is_nan()
        said = judged.first(is_missing, roles.label, "expected a label in each row")
        return CheckResult("labels_complete", False, {"rows": int(missing.sum())}, said)
    if roles.number:
        values = {"distinct_values": label.n_unique()}
        said = f"column {roles.label} is {label.first()!r} in each row; take a longer window"
        constant = label.n_unique() < 2
        return CheckResult("labels_complete", not constant, values, said if constant else "")
    counted = label.to_frame().group_by(roles.label).len().sort(roles.label)
    counts = {str(value): n for value, n in counted.iter_rows()}
    if len(counts) == 2:
        return CheckResult("labels_complete", True, counts)
    said = f"column {roles.label}: expected rows of both labels, found (label: rows) {counts}; take a longer window"
    return CheckResult("labels_complete", False, counts, said)


def _finite_features(judged: _Judged) -> CheckResult:
    roles = judged.roles
    floats = [name for name in roles.features if judged.schema[name].is_float()]
    sums = judged.read(judged.rows.select(pl.col(floats).sum())).row(0, named=True) if floats else {}
    # A sum is finite only where each of its values is.
    for name in (name for name, value in sums.items() if not math.isfinite(value)):
        infinite = pl.col(name).is_infinite()
        number = int(judged.read(judged.rows.select(infinite.sum())).item())
        if number:
            said = judged.first(infinite, name, "expected a finite number or null")
            return CheckResult("finite_features", False, {"rows": number, "column": name}, said)
    return CheckResult("finite_features", True, {"features": len(roles.features)})


def _no_label_among_features(judged: _Judged) -> CheckResult:
    roles = judged.roles
    named = [n for n in roles.features if n in (roles.label, roles.known_at, *roles.made_of_label)]
    if named:
        said = f"column {named[0]} is among the features, and tells the label of its own row; leave it out"
        return CheckResult("no_label_among_features", False, {"column": named[0]}, said)
    # Most often a few rows tell that a column is not the label.
    few = judged.read(judged.rows.select(*roles.features, roles.label).head(100))
    for name in roles.features if few.height else ():
        if _same_or_opposite(few, name, roles.label) and _same_or_opposite(
            judged.read(judged.rows.select(name, roles.label)), name, roles.label
        ):
            said = f"column {name} says in each of {judged.height} rows what the label says; leave it out"
            return CheckResult("no_label_among_features", False, {"column": name}, said)
    return CheckResult("no_label_among_features", True, {"features": len(roles.features)})


def _same_or_opposite(rows: pl.DataFrame, feature: str, label: str) -> bool:
    found, said = (rows.get_column(name).cast(pl.Float64, strict=False) for name in (feature, label))
    return bool(found.eq_missing(said).all() or found.eq_missing(1 - said).all())


def _no_feature_like_a_label(judged: _Judged) -> CheckResult:
    """On a part of the rows, chosen by a hash of their keys; what chance may have done is not flagged."""
    roles = judged.roles
    if roles.number:
        return _no_feature_like_a_number(judged)
    label = pl.col(roles.label).cast(pl.Float64, strict=False)
    (ones, number), (zeros, others) = (
        judged.sample(label == value, most) for value, most in ((1, _MOST_OF_ONE), (0, _MOST_OF_ZERO))
    )
    check = "no_feature_like_a_label"
    if number < FEWEST_POSITIVES or not others:
        return CheckResult(check, True, {"positive_rows": number}, "too few positive rows to tell")
    chosen = pl.concat([ones, zeros]).sort()
    found = single_feature_auc(judged.numbered(roles.features, chosen), chosen.is_in(ones.implode()))
    best = dict(sorted(found.items(), key=lambda item: -item[1])[:5])
    of_one = len(ones)
    least = {name: auc - _STANDARD_ERRORS * _error(auc, of_one, len(zeros)) for name, auc in best.items()}
    flagged = [name for name in best if least[name] > HIGHEST_AUC]
    numbers: dict[str, Any] = {name: round(auc, 4) for name, auc in best.items()}
    said = (
        f"column {flagged[0]} alone has an AUC of {best[flagged[0]]:.3f}; see where it is made"
        if flagged
        else ""
    )
    return CheckResult(
        check, not flagged, {"auc": numbers, "threshold": HIGHEST_AUC, "rows": len(chosen)}, said
    )


def _no_feature_like_a_number(judged: _Judged) -> CheckResult:
    """On a part of the rows, chosen by a hash of their keys; a feature with few values tells nothing."""
    roles = judged.roles
    chosen, _ = judged.sample(pl.lit(True), _MOST_OF_ZERO)
    part, found = judged.numbered(list(dict.fromkeys((*roles.features, roles.label))), chosen), {}
    for name in roles.features:
        both = part.select(value=pl.col(name).rank(), label=roles.label).drop_nulls()
        if both.height >= FEWEST_POSITIVES:
            alike = both.select(pl.corr("value", "label", method="spearman").abs().fill_nan(0.0)).item()
            found[name] = round(alike, 4)
    best = dict(sorted(found.items(), key=lambda item: -item[1])[:5])
    flagged = [name for name in best if best[name] > HIGHEST_RANK_CORRELATION]
    told = {"rank_correlation": best, "threshold": HIGHEST_RANK_CORRELATION, "rows": part.height}
    said = f"column {flagged[0]} alone ranks as {roles.label} does; see where it is made" if flagged else ""
    return CheckResult("no_feature_like_a_label", not flagged, told, said)


def _error(auc: float, of_one: int, of_zero: int) -> float:
    """Standard error of an AUC (Hanley and McNeil, 1982)."""
    first, second = auc / (2 - auc), 2 * auc * auc / (1 + auc)
    spread = auc * (1 - auc) + (of_one - 1) * (first - auc * auc) + (of_zero - 1) * (second - auc * auc)
    return math.sqrt(max(spread, 0) / (of_one * of_zero))


def _first(found: pl.DataFrame, key: str, column: str, expected: str) -> str:
    return _said(found, found.height, key, column, expected)


def _said(found: pl.DataFrame, number: int, key: str, column: str, expected: str) -> str:
    row = found.row(0, named=True)
    more = f" (and {number - 1} more rows)" if number > 1 else ""
    return f"column {column} of {key} {row[key]} is {row[column]}, {expected}{more}"


def _refuse(results: Sequence[CheckResult], checks: Iterable[Check]) -> None:
    severe = {check.name for check in checks if check.severity == "error"}
    failed = [result for result in results if not result.passed and result.check in severe]
    if failed:
        raise Refused("; ".join(f"{each.check}: {each.description}" for each in failed), results)
