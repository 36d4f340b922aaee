"""What an audit finds in the cost ledger. Pure: no I/O, no clock, no Dagster.

A share or a count below its threshold is no finding: a platform that works as it should has none.
"""

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from my_platform.operations.audit.trends import Computed, Trend, trends
from my_platform.storage.trace_index import Cost

# Evaluation that takes longer than half of the fits is worth a look.
MOST_EVALUATION = 0.5
# A device that is idle for less of the time for which it is held is near enough to full use.
MOST_IDLE = 0.25
# Windows of a month that are read day by day read each input about this often.
MOST_READS = 20
MOST_OF_ALL_READ = 0.25
SMALL_BYTES = 16_384
MOST_SMALL = 365
_DAYS_OF_WEEK = 7
_MOST_EVIDENCE = 5


@dataclass(frozen=True)
class Finding:
    """Something that costs more than it has to.

    Attributes:
        figure: what was measured, with its unit.
        saves_s: seconds by the clock that doing it would have saved; an upper bound, of what is in the ledger.
        evidence: assets, partitions and runs, at most a few of each kind.
    """

    kind: str
    what: str
    figure: str
    evidence: Sequence[str]
    do: str
    saves_s: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "saves_s": round(self.saves_s, 3)}


@dataclass(frozen=True)
class FailedWork:
    """A run that did not succeed: its seconds by the clock, and those of what it committed all the same."""

    run_id: str
    wall_s: float
    committed_s: float

    @property
    def lost_s(self) -> float:
        return max(self.wall_s - self.committed_s, 0.0)


@dataclass(frozen=True)
class Spendings:
    """What an audit looks at.

    Attributes:
        ledger: what was computed, the earliest first.
        computed: by (asset, partition, fingerprint), rows, bytes and data version of values that are stored.
        failed: runs that failed or were canceled.
        models: the assets that are fitted.
        evaluations: the assets that score and judge them.
        trees_on_gpu: tree models that hold a device or take their turn at one.
        daily: the assets with a partition a day.
        windows: see ``trends``.
        reads: by asset, the assets that it reads.
    """

    ledger: Sequence[Cost] = ()
    computed: Mapping[tuple[str, str, str], Computed] = field(default_factory=dict)
    failed: Sequence[FailedWork] = ()
    models: frozenset[str] = frozenset()
    evaluations: frozenset[str] = frozenset()
    trees_on_gpu: frozenset[str] = frozenset()
    daily: frozenset[str] = frozenset()
    windows: Mapping[str, int] = field(default_factory=dict)
    reads: Mapping[str, frozenset[str]] = field(default_factory=dict)


def findings(spent: Spendings) -> list[Finding]:
    """All findings, the one that saves most first."""
    found = [
        *_repeated(spent),
        *_unchanged(spent),
        *_read_often(spent),
        *_failed(spent),
        *_evaluation(spent),
        *_trees_on_gpu(spent),
        *_idle_devices(spent),
        *_small_files(spent),
        *(_grows(spent, trend) for trend in trends(spent.ledger, spent.computed, spent.windows)),
    ]
    return sorted(found, key=lambda finding: (-finding.saves_s, finding.kind, finding.what))


def _repeated(spent: Spendings) -> Iterator[Finding]:
    """The same fingerprint computed more than once: at the same time, or after the value had gone."""
    times: dict[tuple[str, str, str], list[Cost]] = defaultdict(list)
    for cost in spent.ledger:
        times[_place(cost)].append(cost)
    races: list[Cost] = []
    gone: list[Cost] = []
    for costs in times.values():
        for before, after in itertools.pairwise(costs):
            (races if after.at_s - after.wall_s < before.at_s else gone).append(after)
    if races:
        yield _of_costs(
            "lost_race",
            "partitions were computed by two runs at the same time, and one value was thrown away",
            races,
            "give the runs one coordinator: leave either the sensor or the schedule on, and do not refresh by hand beside it",
        )
    if gone:
        yield _of_costs(
            "computed_again",
            "partitions were computed again from the same inputs, since their value was no longer stored",
            gone,
            "keep values longer before `my-platform gc` removes them, or look for damage with `my-platform refresh --verify`",
        )


def _unchanged(spent: Spendings) -> Iterator[Finding]:
    """Computed anew from other inputs, to the value that was there: more was read than was needed."""
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    same: list[Cost] = []
    for cost in spent.ledger:
        computed = spent.computed.get(_place(cost))
        if computed is None:
            continue
        fingerprint, version = seen.get((cost.asset, cost.partition), ("", ""))
        if version == computed.data_version and fingerprint != cost.fingerprint:
            same.append(cost)
        seen[cost.asset, cost.partition] = (cost.fingerprint, computed.data_version)
    if same:
        read = sum(cost.read_bytes for cost in same)
        yield _of_costs(
            "read_unneeded",
            f"partitions were computed anew to the value that they had; the {read:,} bytes read for them were not needed",
            same,
            "let the function read fewer tables, columns or days: `my-platform why ASSET PARTITION` names what had changed",
        )


def _read_often(spent: Spendings) -> Iterator[Finding]:
    """Bytes that were read, against those that there were to be read: each stored value of an input, once."""
    written: dict[str, int] = defaultdict(int)
    of_asset: dict[str, list[Cost]] = defaultdict(list)
    for cost in spent.ledger:
        written[cost.asset] += cost.written_bytes
        of_asset[cost.asset].append(cost)
    all_read = sum(cost.read_bytes for cost in spent.ledger)
    for asset, costs in sorted(of_asset.items()):
        read = sum(cost.read_bytes for cost in costs)
        there = sum(written[name] for name in spent.reads.get(asset, ()))
        if there and read > MOST_READS * there and read > MOST_OF_ALL_READ * all_read:
            yield Finding(
                "read_often",
                f"{asset} reads its inputs again and again",
                f"{read:,} bytes read of inputs that hold {there:,}: {read / there:,.0f} times over",
                _places(costs),
                "sum up each day in an asset of its own and let the window read those, or compute several partitions in a run",
                sum(cost.wall_s for cost in costs) * (1 - there / read),
            )


def _failed(spent: Spendings) -> Iterator[Finding]:
    lost = sorted((run for run in spent.failed if run.lost_s > 0), key=lambda run: -run.lost_s)
    if lost:
        total = sum(run.lost_s for run in lost)
        yield Finding(
            "failed_runs",
            "runs failed or were canceled, and part of their time gave no value",
            f"{total:,.1f} s in {len(lost)} runs",
            [f"run {run.run_id}: {run.lost_s:,.1f} s" for run in lost[:_MOST_EVIDENCE]],
            "see what they failed of in the UI under Runs; `my-platform alerts` names the cause",
            total,
        )


def _evaluation(spent: Spendings) -> Iterator[Finding]:
    fits = sum(cost.wall_s for cost in spent.ledger if cost.asset in spent.models)
    judged = [cost for cost in spent.ledger if cost.asset in spent.evaluations]
    total = sum(cost.wall_s for cost in judged)
    if fits > 0 and total > MOST_EVALUATION * fits:
        yield Finding(
            "evaluation",
            "scoring and judging models takes long beside fitting them",
            f"{total / (total + fits):.0%} of {total + fits:,.1f} s of training and evaluation",
            _places(judged),
            "judge fewer weeks or models; leave contenders out that have not won for long (`my-platform models`)",
            total - MOST_EVALUATION * fits,
        )


def _trees_on_gpu(spent: Spendings) -> Iterator[Finding]:
    fits = [cost for cost in spent.ledger if cost.asset in spent.trees_on_gpu]
    if fits:
        held = sum(cost.wall_s for cost in fits)
        yield Finding(
            "trees_on_gpu",
            "trees are fitted where a device is held or waited for, which they do not use",
            f"{held:,.1f} s in {len(fits)} fits",
            _places(fits),
            "declare them without `gpus` and in the pool of processors",
            held,
        )


def _idle_devices(spent: Spendings) -> Iterator[Finding]:
    told: dict[str, list[Cost]] = defaultdict(list)
    for cost in spent.ledger:
        if cost.gpu_s > 0 and cost.gpu_idle_s is not None:
            told[cost.asset].append(cost)
    for asset, fits in sorted(told.items()):
        held = sum(cost.gpu_s for cost in fits)
        idle = sum(cost.gpu_idle_s or 0.0 for cost in fits)
        waited = sum(cost.gpu_waited_s or 0.0 for cost in fits)
        if idle > MOST_IDLE * held:
            yield Finding(
                "idle_device",
                f"{asset} holds devices that have nothing to do for a good part of the time",
                f"{idle / held:.0%} of {held:,.1f} s in {len(fits)} fits; {waited:,.1f} s of it waiting for data",
                _places(fits),
                "fit on rows that fit onto the device whole, or on shards that are read faster: nearer, or smaller"
                if waited > idle / 2
                else "do what comes before and after the fit in assets of their own that hold no device",
                sum(cost.wall_s * (cost.gpu_idle_s or 0.0) / cost.gpu_s for cost in fits),
            )


def _small_files(spent: Spendings) -> Iterator[Finding]:
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    cheapest: dict[str, float] = {}
    for cost in spent.ledger:
        if cost.asset in spent.daily:
            sizes[cost.asset][cost.partition] = cost.written_bytes
            cheapest[cost.asset] = min(cost.wall_s, cheapest.get(cost.asset, cost.wall_s))
    for asset, by_partition in sorted(sizes.items()):
        middle = median(by_partition.values())
        if len(by_partition) > MOST_SMALL and middle < SMALL_BYTES:
            # What the cheapest one took is what each takes at least, however little is in it.
            saves = cheapest[asset] * (len(by_partition) - len(by_partition) / _DAYS_OF_WEEK)
            yield Finding(
                "small_files",
                f"{asset} has many small partitions",
                f"{len(by_partition)} of {middle:,.0f} bytes (median), {sum(by_partition.values()):,} bytes in all",
                [asset],
                "declare it by week, or let one table hold what several small ones do",
                saves,
            )


def _grows(spent: Spendings, trend: Trend) -> Finding:
    last = [cost for cost in spent.ledger if cost.asset == trend.asset and trend.began_s <= cost.at_s]
    wall = sum(cost.wall_s for cost in last)
    return Finding(
        "grows",
        f"{trend.measure} of {trend.asset} grow from week to week",
        trend.said,
        [trend.asset, f"weeks {trend.first_week} to {trend.last_week}"],
        f"bound its window: `my-platform why {trend.asset} PARTITION` shows what it reads",
        max(wall * (1 - 1 / trend.times), 0.0) if trend.of_time else 0.0,
    )


def _of_costs(kind: str, what: str, costs: Sequence[Cost], do: str) -> Finding:
    wall = sum(cost.wall_s for cost in costs)
    figure = f"{len(costs)} times, {wall:,.1f} s, {sum(cost.read_bytes for cost in costs):,} bytes read"
    return Finding(kind, what, figure, _places(costs), do, wall)


def _places(costs: Sequence[Cost]) -> list[str]:
    """The dearest ones, each with its run."""
    dearest = sorted(costs, key=lambda cost: -cost.wall_s)[:_MOST_EVIDENCE]
    return [f"{cost.asset} {cost.partition}".strip() + f" (run {cost.run_id})" for cost in dearest]


def _place(cost: Cost) -> tuple[str, str, str]:
    return cost.asset, cost.partition, cost.fingerprint
