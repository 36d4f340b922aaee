"""How well what was promised is kept: freshness, landing in time, time to a deployed model, rollbacks. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from statistics import median, quantiles
from typing import Any

from my_platform.storage.trace_index import Cost

_HOUR_S = 3_600.0
_DAY_S = 86_400.0
_MOST_EXPERIMENTS = 10
# As much has to keep a target as people who run services usually promise.
KEPT = 0.95


@dataclass(frozen=True)
class Promoted:
    """A line of the promotion ledger; `last_day` is the last day that its model was fitted on."""

    at: str
    use: str
    model: str
    last_day: str
    action: str

    @property
    def at_s(self) -> float:
        return datetime.fromisoformat(self.at).timestamp()


@dataclass(frozen=True)
class History:
    """What service levels are made of.

    Attributes:
        landed: by landed table and day, when its file was written, in seconds since 1970.
        missing: by landed table, the days that are due and have not landed.
        due_h: by landed table, hours after the end of a day by which it has to be there.
        untaken: by raw asset, the days that have landed and are not its current values: owed still, or refused.
        grains: ``day`` or ``week`` by asset.
        sources: by asset, the landed tables that it is made of.
        code: the code version by (asset, partition, fingerprint).
    """

    landed: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    missing: Mapping[str, Sequence[str]] = field(default_factory=dict)
    due_h: Mapping[str, int] = field(default_factory=dict)
    untaken: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ledger: Sequence[Cost] = ()
    grains: Mapping[str, str] = field(default_factory=dict)
    models: frozenset[str] = frozenset()
    reports: frozenset[str] = frozenset()
    sources: Mapping[str, frozenset[str]] = field(default_factory=dict)
    code: Mapping[tuple[str, str, str], str] = field(default_factory=dict)
    promoted: Sequence[Promoted] = ()


@dataclass(frozen=True)
class Targets:
    """What is promised, in hours."""

    fresh_h: float
    deployed_h: float


@dataclass(frozen=True)
class Level:
    """A service level.

    Attributes:
        share: of the cases, those within the target; None where there was no case.
        met: None where there was no case.
    """

    name: str
    about: str
    cases: int
    figure: str
    target: str
    share: float | None
    met: bool | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def levels(history: History, targets: Targets, now_s: float, days: int) -> list[Level]:
    """The service levels of the last days, what a whole team asks about first."""
    since_s = now_s - days * _DAY_S
    return [
        _deployed(history, targets, since_s),
        _rollbacks(history, since_s),
        *_windows(history, since_s, now_s),
        *_freshness(history, targets, since_s, now_s),
    ]


def experiments(history: History, since_s: float = 0.0) -> list[dict[str, Any]]:
    """The last changes of code or parameters, the latest first.

    Each lasts from the first value under new code to the first report after it.
    Changes before one report are one experiment; what is not computed yet has no report.
    """
    seen: dict[str, set[str]] = {}
    found: list[dict[str, Any]] = []
    began_s, changed = None, set()
    for cost in history.ledger:
        code = history.code.get((cost.asset, cost.partition, cost.fingerprint))
        if code is not None:
            known = seen.setdefault(cost.asset, set())
            if known and code not in known:
                changed.add(cost.asset)
                began_s = began_s if began_s is not None else cost.at_s - cost.wall_s
            known.add(code)
        if cost.asset in history.reports and began_s is not None:
            if cost.at_s >= since_s:
                found.append(
                    {
                        "changed": sorted(changed),
                        "report": f"{cost.asset} {cost.partition}",
                        "at": _iso(cost.at_s),
                        "seconds": round(cost.at_s - began_s, 3),
                    }
                )
            began_s, changed = None, set()
    return found[::-1][:_MOST_EXPERIMENTS]


def _freshness(history: History, targets: Targets, since_s: float, now_s: float) -> Iterator[Level]:
    """By asset; a day that landed and was not taken over counts with the time for which it has lain there."""
    done: dict[str, dict[str, list[float]]] = {}
    for cost in history.ledger:
        done.setdefault(cost.asset, {}).setdefault(cost.partition, []).append(cost.at_s)
    for asset, grain in sorted(history.grains.items()):
        taken_h = []
        for partition, times in done.get(asset, {}).items():
            landed_s = _landed_s(history, asset, partition, grain)
            after = [at_s for at_s in times if landed_s is not None and at_s >= landed_s]
            if landed_s is not None and landed_s >= since_s and after:
                taken_h.append((min(after) - landed_s) / _HOUR_S)
        for day in history.untaken.get(asset, ()):
            landed_s = _landed_s(history, asset, day, grain)
            if landed_s is not None and landed_s >= since_s:
                taken_h.append((now_s - landed_s) / _HOUR_S)
        if taken_h:
            yield _within("freshness", asset, taken_h, targets.fresh_h)


def _landed_s(history: History, asset: str, partition: str, grain: str) -> float | None:
    """When the last day that a partition is made of had landed in all tables that have it."""
    day = partition
    if grain == "week":
        day = (date.fromisoformat(partition) - timedelta(days=1)).isoformat()
    tables = (history.landed.get(source, {}) for source in history.sources.get(asset, ()))
    return max((table[day] for table in tables if day in table), default=None)


def _windows(history: History, since_s: float, now_s: float) -> Iterator[Level]:
    """By table; a day that is due and not there counts with the time since it was over."""
    for table, due_h in sorted(history.due_h.items()):
        late, landed = [], history.landed.get(table, {})
        # Days that had ended before the first file came are a history that was filled in.
        first_s = max(since_s, min(landed.values(), default=0.0))
        for day, at_s in [*landed.items(), *((day, now_s) for day in history.missing.get(table, ()))]:
            end = datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(days=1)
            if end.timestamp() >= first_s:
                late.append((at_s - end.timestamp()) / _HOUR_S)
        if late:
            yield _within("landed in its window", table, late, float(due_h))


def _deployed(history: History, targets: Targets, since_s: float) -> Level:
    taken_h = []
    for line in history.promoted:
        landed_s = _landed_s(history, line.model, line.last_day, "day")
        if line.action == "promote" and landed_s is not None and line.at_s >= max(since_s, landed_s):
            taken_h.append((line.at_s - landed_s) / _HOUR_S)
    return _within("new data to deployed model", "promotions", taken_h, targets.deployed_h)


def _rollbacks(history: History, since_s: float) -> Level:
    lines = [line for line in history.promoted if line.at_s >= since_s]
    back = sum(line.action == "rollback" for line in lines)
    share = 1 - back / len(lines) if lines else None
    return Level("rollbacks", "promotions", len(lines), f"{back}", "0", share, back == 0 if lines else None)


def _within(name: str, about: str, taken_h: Sequence[float], most_h: float) -> Level:
    target = f"{KEPT:.0%} within {most_h:g} h"
    if not taken_h:
        return Level(name, about, 0, "no case", target, None, None)
    share = sum(each <= most_h for each in taken_h) / len(taken_h)
    high = quantiles(taken_h, n=20, method="inclusive")[-1] if len(taken_h) > 1 else taken_h[0]
    figure = f"median {_told(median(taken_h))}, 95% within {_told(high)}"
    return Level(name, about, len(taken_h), figure, target, share, share >= KEPT)


def _told(taken_h: float) -> str:
    return f"{taken_h * 60:.1f} min" if abs(taken_h) < 1 else f"{taken_h:.1f} h"


def _iso(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
