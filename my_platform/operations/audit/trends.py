"""What computing a row takes, week after week, and whether it grows. Pure.

The weeks are those in which something was computed, not those of the partitions: a history that is filled in one
night has one week and no trend. Slope: Theil (1950), Sen (1968); test: Mann (1945), Kendall's tau against time.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median

from my_platform.storage.trace_index import Cost

LEAST_WEEKS = 8
MOST_P = 0.01
LEAST_GROWTH = 1.2
_WEEK_S = 7 * 86_400.0
_MEASURES = ("processor seconds per row", "bytes read per row")


@dataclass(frozen=True)
class Computed:
    """What a computation gave."""

    data_version: str
    rows: int


@dataclass(frozen=True)
class Trend:
    """A measure that grows.

    Attributes:
        slope: of the measure, by week.
        times: what the line through the weeks gives for the last one, as a multiple of the first.
        p: of Kendall's test that there is no trend.
        began_s: when the first of the weeks began, in seconds since 1970.
    """

    asset: str
    measure: str
    slope: float
    times: float
    p: float
    weeks: int
    began_s: float
    first_week: str
    last_week: str

    @property
    def of_time(self) -> bool:
        return self.measure == _MEASURES[0]

    @property
    def said(self) -> str:
        return f"{self.times:.2f} times as much after {self.weeks} weeks, {self.slope:+.3g} a week (p = {self.p:.1g})"


def trends(
    ledger: Sequence[Cost],
    computed: Mapping[tuple[str, str, str], Computed],
    windows: Mapping[str, int],
) -> list[Trend]:
    """The measures that grow, by asset: over ``LEAST_WEEKS`` weeks or more, beyond ``LEAST_GROWTH`` times.

    Args:
        windows: by asset, the days before a partition that it reads. While those of its first partitions fill, what
            it reads grows as it should; these do not count.
    """
    full = _full_from(ledger, windows)
    by_week: dict[tuple[str, str], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for cost in ledger:
        found = computed.get((cost.asset, cost.partition, cost.fingerprint))
        if found is None or found.rows < 1 or cost.partition < full.get(cost.asset, ""):
            continue
        week = week_of(cost.at_s)
        for measure, value in zip(_MEASURES, (cost.cpu_s, cost.read_bytes), strict=True):
            by_week[cost.asset, measure][week].append(value / found.rows)
    return [
        trend
        for (asset, measure), weeks in sorted(by_week.items())
        if len(weeks) >= LEAST_WEEKS and (trend := _trend(asset, measure, weeks)) is not None
    ]


def _full_from(ledger: Sequence[Cost], windows: Mapping[str, int]) -> dict[str, str]:
    """By asset, the first partition whose windows are full."""
    first: dict[str, str] = {}
    for cost in ledger:
        if windows.get(cost.asset, 0) > 0:
            first[cost.asset] = min(cost.partition, first.get(cost.asset, cost.partition))
    return {
        asset: (date.fromisoformat(partition) + timedelta(days=windows[asset])).isoformat()
        for asset, partition in first.items()
    }


def week_of(at_s: float) -> int:
    """The number of a week, counted from 1970-01-01."""
    return int(at_s // _WEEK_S)


def _trend(asset: str, measure: str, weeks: Mapping[int, Sequence[float]]) -> Trend | None:
    from scipy.stats import kendalltau, theilslopes

    at = sorted(weeks)
    values = [median(weeks[week]) for week in at]
    if len(set(values)) == 1:
        return None
    p = float(kendalltau(at, values).pvalue)
    slope, intercept = (float(each) for each in theilslopes(values, at)[:2])
    first, last = (intercept + slope * week for week in (at[0], at[-1]))
    if p > MOST_P or first <= 0 or last < LEAST_GROWTH * first:
        return None
    began_s = at[0] * _WEEK_S
    return Trend(asset, measure, slope, last / first, p, len(at), began_s, _week(at[0]), _week(at[-1]))


def _week(number: int) -> str:
    return (datetime.fromtimestamp(0, UTC) + timedelta(weeks=number)).date().isoformat()
