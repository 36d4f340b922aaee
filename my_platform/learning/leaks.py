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
_ROW, _IS_ONE, _IS_ZERO = "__row", "__is_one", "__is_zero"

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
    rows: pl.DataFrame, roles: Roles, *, rows_before: datetime, labels_before: datetime
) -> tuple[CheckResult, ...]:
    """How a training set answers ``TRAINING_CHECKS``.

    Args:
        rows_before: the first moment that is too late for a row.
        labels_before: the first moment that is too late for a label to become known.

    Raises:
        Refused: the answer to a check of severity error is no; with all answers, and the column, row and value.
    """
    results = (
        _only_the_past(rows, roles, rows_before, labels_before),
        _distinct_rows(rows, roles),
        _labels_complete(rows, roles),
        _finite_features(rows, roles),
        _no_label_among_features(rows, roles),
        _no_feature_like_a_label(rows, roles),
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


def _only_the_past(
    rows: pl.DataFrame, roles: Roles, rows_before: datetime, labels_before: datetime
) -> CheckResult:
    wrong = (
        (roles.time, pl.col(roles.time) < rows_before, f"expected before {rows_before}"),
        (roles.known_at, pl.col(roles.known_at) < labels_before, f"expected before {labels_before}"),
        (roles.known_at, pl.col(roles.known_at) > pl.col(roles.time), "expected after the row itself"),
    )
    for column, holds, expected in wrong:
        found = rows.filter(~holds.fill_null(False))
        if found.height:
            return CheckResult(
                "only_the_past", False, {"rows": found.height}, _first(found, roles.key, column, expected)
            )
    latest = rows.select(pl.col(roles.time).max(), known=pl.col(roles.known_at).max()).row(0)
    return CheckResult("only_the_past", True, {"latest_row": str(latest[0]), "latest_label": str(latest[1])})


def _distinct_rows(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    # Sorted, keys are counted in a fifth of the time, and most often they stand sorted.
    if rows.get_column(roles.key).sort().n_unique() == rows.height:
        return CheckResult("distinct_rows", True, {"rows": rows.height})
    twice = rows.filter(pl.col(roles.key).is_duplicated())
    said = _first(twice, roles.key, roles.key, "expected each row once")
    return CheckResult("distinct_rows", False, {"rows": twice.height}, said)


def _labels_complete(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    label = rows.get_column(roles.label)
    missing = label.is_null() | (label.is_nan() if label.dtype.is_float() else False)
    if missing.any():
        found = rows.filter(missing)
        said = _first(found, roles.key, roles.label, "expected a label in each row")
        return CheckResult("labels_complete", False, {"rows": found.height}, said)
    if roles.number:
        values = {"distinct_values": label.n_unique()}
        said = f"column {roles.label} is {label.first()!r} in each row; take a longer window"
        constant = label.n_unique() < 2
        return CheckResult("labels_complete", not constant, values, said if constant else "")
    counts = {str(value): n for value, n in rows.group_by(roles.label).len().sort(roles.label).iter_rows()}
    if label.n_unique() == 2:
        return CheckResult("labels_complete", True, counts)
    said = f"column {roles.label}: expected rows of both labels, found (label: rows) {counts}; take a longer window"
    return CheckResult("labels_complete", False, counts, said)


def _finite_features(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    floats = [name for name in roles.features if rows.schema[name].is_float()]
    sums = rows.select(pl.col(floats).sum()).row(0, named=True) if floats else {}
    # A sum is finite only where each of its values is.
    for name in (name for name, value in sums.items() if not math.isfinite(value)):
        number = int(rows.get_column(name).is_infinite().sum())
        if number:
            said = _first(
                rows.filter(pl.col(name).is_infinite()), roles.key, name, "expected a finite number or null"
            )
            return CheckResult("finite_features", False, {"rows": number, "column": name}, said)
    return CheckResult("finite_features", True, {"features": len(roles.features)})


def _no_label_among_features(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    named = [n for n in roles.features if n in (roles.label, roles.known_at, *roles.made_of_label)]
    if named:
        said = f"column {named[0]} is among the features, and tells the label of its own row; leave it out"
        return CheckResult("no_label_among_features", False, {"column": named[0]}, said)
    label = rows.get_column(roles.label)
    for name in roles.features:
        values = rows.get_column(name)
        # Most often a few rows tell that a column is not the label.
        if rows.height and all(_same_or_opposite(values[:end], label[:end]) for end in (100, None)):
            said = f"column {name} says in each of {rows.height} rows what the label says; leave it out"
            return CheckResult("no_label_among_features", False, {"column": name}, said)
    return CheckResult("no_label_among_features", True, {"features": len(roles.features)})


def _same_or_opposite(values: pl.Series, label: pl.Series) -> bool:
    found, said = (each.cast(pl.Float64, strict=False) for each in (values, label))
    return bool(found.eq_missing(said).all() or found.eq_missing(1 - said).all())


def _no_feature_like_a_label(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    """On a part of the rows, chosen by a hash of their keys; what chance may have done is not flagged."""
    if roles.number:
        return _no_feature_like_a_number(rows, roles)
    label = pl.col(roles.label).cast(pl.Float64, strict=False)
    keys = rows.select(roles.key, **{_IS_ONE: label == 1, _IS_ZERO: label == 0}).with_row_index(_ROW)
    ones, zeros = keys.filter(_IS_ONE), keys.filter(_IS_ZERO)
    check = "no_feature_like_a_label"
    if ones.height < FEWEST_POSITIVES or not zeros.height:
        return CheckResult(check, True, {"positive_rows": ones.height}, "too few positive rows to tell")
    part = pl.concat([sample(ones, roles.key, _MOST_OF_ONE), sample(zeros, roles.key, _MOST_OF_ZERO)])
    found = single_feature_auc(rows.select(roles.features)[part.get_column(_ROW)], part.get_column(_IS_ONE))
    best = dict(sorted(found.items(), key=lambda item: -item[1])[:5])
    of_one = min(ones.height, _MOST_OF_ONE)
    least = {
        name: auc - _STANDARD_ERRORS * _error(auc, of_one, part.height - of_one) for name, auc in best.items()
    }
    flagged = [name for name in best if least[name] > HIGHEST_AUC]
    numbers: dict[str, Any] = {name: round(auc, 4) for name, auc in best.items()}
    said = (
        f"column {flagged[0]} alone has an AUC of {best[flagged[0]]:.3f}; see where it is made"
        if flagged
        else ""
    )
    return CheckResult(
        check, not flagged, {"auc": numbers, "threshold": HIGHEST_AUC, "rows": part.height}, said
    )


def _no_feature_like_a_number(rows: pl.DataFrame, roles: Roles) -> CheckResult:
    """On a part of the rows, chosen by a hash of their keys; a feature with few values tells nothing."""
    part, found = sample(rows, roles.key, _MOST_OF_ZERO), {}
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
    row = found.row(0, named=True)
    more = f" (and {found.height - 1} more rows)" if found.height > 1 else ""
    return f"column {column} of {key} {row[key]} is {row[column]}, {expected}{more}"


def _refuse(results: Sequence[CheckResult], checks: Iterable[Check]) -> None:
    severe = {check.name for check in checks if check.severity == "error"}
    failed = [result for result in results if not result.passed and result.check in severe]
    if failed:
        raise Refused("; ".join(f"{each.check}: {each.description}" for each in failed), results)
