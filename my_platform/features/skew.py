"""Training-serving skew: features as they were served, held against those that models are trained on.

Both come of one declaration, so every difference is a fault: of the service, of what it was told, or of what was
corrected since. Values are compared bit by bit. Rows that the service itself called degraded are counted apart, and so
are rows whose features were made by other code, which say nothing of the present one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from my_platform.features.replay import same_bits
from my_platform.incremental.checks import Check, CheckResult
from my_platform.incremental.declare import Column

CHECK = "training_serving_skew"
_MOST_NAMED = 3

COLUMNS = {
    "feature": Column(pl.String(), "the feature"),
    "rows": Column(pl.Int64(), "served rows that were compared"),
    "mismatches": Column(pl.Int64(), "rows with another value online"),
    "missing": Column(pl.Int64(), "rows without a value online that have one offline"),
    "extra": Column(pl.Int64(), "rows with a value online that have none offline"),
    "largest": Column(pl.Float64(), "largest absolute difference; null where there is none"),
    "degraded_rows": Column(pl.Int64(), "degraded rows, which are not among those compared"),
    "degraded_differences": Column(pl.Int64(), "degraded rows that differ in any way"),
    "example": Column(pl.String(), "the first row that differs, with both values; empty where none does"),
}


@dataclass(frozen=True)
class Counted:
    """Served rows by what became of them.

    Attributes:
        compared: whose features count.
        degraded: that the service itself doubted.
        other_code: whose features were made by other code than is held against them.
        not_landed: that are not among the rows of the day.
        not_served: rows of the day that were not served.
    """

    compared: int
    degraded: int
    other_code: int
    not_landed: int
    not_served: int


def skew_check(about: str) -> Check:
    """The check that served features are those of the feature assets."""
    return Check(
        CHECK,
        "Every feature that was served is, bit for bit, the one that models are trained on.",
        about=about,
    )


def compare(
    served: pl.DataFrame,
    offline: pl.DataFrame,
    features: Sequence[str],
    *,
    key: str,
    prefix: str,
    degraded: str,
    code: tuple[str, str],
) -> tuple[pl.DataFrame, Counted]:
    """By feature how served rows differ from the offline ones, with ``COLUMNS``; and how the rows were counted.

    Args:
        served: the rows of the log: the key, features under the prefix, and whether they are degraded.
        offline: the key and the features as they are computed from landed rows.
        degraded: the column that says why a row may differ, null where it must not.
        code: the column that tells by which code a row's features were made, and the code of the offline ones.
    """
    told, present = code
    own = served.filter(pl.col(told) == present)
    names = {name: f"{prefix}{name}" for name in features}
    both = own.select(key, degraded, *names.values()).join(
        offline.select(key, *features), on=key, how="inner", maintain_order="left"
    )
    sure, doubted = both.filter(pl.col(degraded).is_null()), both.filter(pl.col(degraded).is_not_null())
    found = [
        {**_of_feature(sure, key, name, names[name]), **_of_degraded(doubted, name, names[name])}
        for name in features
    ]
    counted = Counted(
        compared=sure.height,
        degraded=doubted.height,
        other_code=served.height - own.height,
        not_landed=own.height - both.height,
        not_served=offline.join(served, on=key, how="anti").height,
    )
    return pl.DataFrame(found, schema={name: column.type for name, column in COLUMNS.items()}), counted


def answer(found: pl.DataFrame, counted: Counted) -> CheckResult:
    """Whether no feature of any compared row differs, with the numbers by feature where one does."""
    differing = found.filter(pl.sum_horizontal("mismatches", "missing", "extra") > 0)
    numbers: Mapping[str, int] = {
        "rows": counted.compared,
        "features": found.height,
        "features_that_differ": differing.height,
        **{name: int(found[name].sum()) for name in ("mismatches", "missing", "extra")},
        "degraded_rows": counted.degraded,
        "rows_of_other_code": counted.other_code,
        "rows_not_landed": counted.not_landed,
        "rows_not_served": counted.not_served,
    }
    return CheckResult(CHECK, differing.is_empty(), numbers, _in_words(differing, counted.compared))


def _in_words(differing: pl.DataFrame, rows: int) -> str:
    if differing.is_empty():
        return ""
    told = [
        f"{row['feature']} in {row['mismatches'] + row['missing'] + row['extra']:,} of {rows:,} rows ({row['example']})"
        for row in differing.head(_MOST_NAMED).iter_rows(named=True)
    ]
    more = f", and {differing.height - _MOST_NAMED} more" if differing.height > _MOST_NAMED else ""
    return f"served features differ from the offline ones: {', '.join(told)}{more}"


def _of_feature(rows: pl.DataFrame, key: str, name: str, served: str) -> dict[str, object]:
    online, offline = rows[served], rows[name]
    other = ~same_bits(online, offline)
    gone, more = (online.is_null() & offline.is_not_null()), (online.is_not_null() & offline.is_null())
    missing, extra = gone.to_numpy() & other, more.to_numpy() & other
    mismatched = other & ~missing & ~extra
    sizes = (online.cast(pl.Float64) - offline.cast(pl.Float64)).abs().filter(pl.Series(mismatched))
    at = np.flatnonzero(other)
    example = ""
    if at.size:
        first = int(at[0])
        example = f"row {rows[key][first]}: {online[first]!r} online, {offline[first]!r} offline"
    return {
        "feature": name,
        "rows": rows.height,
        "mismatches": int(mismatched.sum()),
        "missing": int(missing.sum()),
        "extra": int(extra.sum()),
        "largest": sizes.max() if mismatched.any() else None,
        "example": example,
    }


def _of_degraded(rows: pl.DataFrame, name: str, served: str) -> dict[str, int]:
    differ = int((~same_bits(rows[served], rows[name])).sum())
    return {"degraded_rows": rows.height, "degraded_differences": differ}
