"""What is watched of a table, and when a check of it fails."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from my_platform.quality.history import Band

_VOLUME = Band(least_share=0.2)
_SHARE = Band(least=0.01)
_LABELS = Band(spreads=4.0, least_share=0.25, least_days=14)
_DRIFT = Band()


@dataclass(frozen=True)
class Thresholds:
    """When a check fails. The defaults keep 100 days of a stable table free of alarms.

    Attributes:
        volume: rows of the day.
        nulls: share of rows of a column without a value, NaN and infinity included.
        labels: share of true labels.
        distance: a smaller Kolmogorov-Smirnov distance is no drift.
        index: a smaller population stability index is no drift.
        drift: how far the statistics may lie above those of the days before.
        weekday_times: how many times the statistic of the same weekday before is still allowed.
        range_times: by how many times the usual span a value may lie beyond the usual extremes.
        error_at: from this many times the allowed distance on, a failed check is an error, not a warning.
    """

    volume: Band = _VOLUME
    nulls: Band = _SHARE
    labels: Band = _LABELS
    distance: float = 0.1
    index: float = 0.2
    drift: Band = _DRIFT
    weekday_times: float = 1.5
    range_times: float = 19.0
    error_at: float = 2.0


@dataclass(frozen=True)
class Watch:
    """What is watched of a table.

    Attributes:
        keys: columns whose values together must not come again within ``KEY_DAYS`` days.
        columns: columns whose range and distribution are compared with the days before. Leave out what rises
            from day to day, as running numbers do; times are compared as times of the day.
        label: a column of flags whose share of true is compared with the days before.
        thresholds: when checks fail.
        of_column: thresholds of single columns.
    """

    keys: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    label: str | None = None
    thresholds: Thresholds = Thresholds()
    of_column: Mapping[str, Thresholds] = field(default_factory=dict)

    def limits_of(self, column: str) -> Thresholds:
        return self.of_column.get(column, self.thresholds)
