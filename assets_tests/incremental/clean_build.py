"""A clean build, told once more in plain Python: what every partition is, from what has landed and the code.

It shares nothing with the planner: partitions are named by their keys, windows are walked day by day, tables
are tuples of numbers, and a fingerprint is the tuple of all that a partition is computed from. It is slow and
has no memory, but for one thing that no clean build can know: which inputs a partition was last made from
when its present ones are refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

Table = tuple[int, ...]
Inputs = tuple[tuple[str, tuple[tuple[str, object], ...]], ...]
"""For each read: its name, and the tables of its window by partition key, in order."""
Made = tuple[str, str, object, Inputs]
"""All that a partition is computed from: asset, partition, code, inputs."""

WEDNESDAY = 2


class Rejected(Exception):
    """The inputs give no value under this code."""


@dataclass(frozen=True)
class Window:
    """What is read of an asset: days around the reader's first day, and what a gap means."""

    asset: str
    first: int = 0
    last: int = 0
    waits: bool = True
    at_least: int = 1


@dataclass(frozen=True)
class Step:
    """One asset: ``landed`` for one that is read from files, else ``windows``.

    Attributes:
        code: everything that makes the code another one.
        make: the table of a partition from its key and inputs; raises Rejected.
    """

    name: str
    grain: str
    code: object
    make: Callable[[str, Inputs], Table]
    windows: Mapping[str, Window] = field(default_factory=dict)
    landed: bool = False


@dataclass
class Build:
    """What is current, how each partition was made, and what was refused.

    Attributes:
        tables: by asset and partition.
        made: by (asset, partition), what it is made from; those that were kept as they are left out.
        inputs: by (asset, partition), the inputs of what is current.
        refused: partitions whose present inputs are refused.
        tried: all that was refused on the way.
    """

    tables: dict[str, dict[str, Table]] = field(default_factory=dict)
    made: dict[tuple[str, str], Made] = field(default_factory=dict)
    inputs: dict[tuple[str, str], Inputs] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    tried: set[Made] = field(default_factory=set)


def clean_build(
    steps: Sequence[Step],
    files: Mapping[str, Mapping[str, str]],
    before: Build | None = None,
    allowed: Callable[[str, str], bool] = lambda _asset, _partition: True,
) -> Build:
    """Build everything from the landed files.

    Args:
        steps: parents before children.
        files: text by partition by landed asset.
        before: what was current; it counts only where inputs are refused, and where nothing may change.
        allowed: partitions that may change.
    """
    before = before or Build()
    build = Build()
    for step in steps:
        old = before.tables.get(step.name, {})
        tables = build.tables[step.name] = {p: t for p, t in old.items() if not allowed(step.name, p)}
        for partition in tables:
            build.inputs[step.name, partition] = before.inputs[step.name, partition]
        for partition in partitions(step, steps, files):
            if not allowed(step.name, partition):
                continue
            inputs = _gathered(step, steps, partition, build.tables, files)
            if inputs is not None:
                _make(step, partition, inputs, before, build)
        build.tables[step.name] = dict(sorted(tables.items()))
    return build


def _make(step: Step, partition: str, inputs: Inputs, before: Build, build: Build) -> None:
    made = (step.name, partition, step.code, inputs)
    try:
        table = step.make(partition, inputs)
    except Rejected:
        build.tried.add(made)
        build.refused.add((step.name, partition))
        if partition not in before.tables.get(step.name, {}):
            return
        inputs = before.inputs[step.name, partition]
        made = (step.name, partition, step.code, inputs)
        table = before.tables[step.name][partition]
        if not step.landed:
            try:
                table = step.make(partition, inputs)
                build.made[step.name, partition] = made
            except Rejected:
                build.tried.add(made)
    else:
        build.made[step.name, partition] = made
    build.tables[step.name][partition] = table
    build.inputs[step.name, partition] = inputs


def partitions(step: Step, steps: Sequence[Step], files: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Days from the first to the last that has landed; the Wednesdays among them and the day after."""
    if step.grain == "once":
        return [""]
    landed = [day for s in steps if s.landed and s.grain == "day" for day in files.get(s.name, {})]
    if not landed:
        return []
    first, last = date.fromisoformat(min(landed)), date.fromisoformat(max(landed))
    if step.grain == "day":
        return _days(first, last)
    return _wednesdays(first, last + timedelta(days=1))


def _gathered(
    step: Step,
    steps: Sequence[Step],
    partition: str,
    tables: Mapping[str, Mapping[str, Table]],
    files: Mapping[str, Mapping[str, str]],
) -> Inputs | None:
    """The inputs of a partition, or None if it lacks some that it needs."""
    if step.landed:
        text = files.get(step.name, {}).get(partition)
        return None if text is None else (("landed", ((partition, text),)),)
    grains = {s.name: s.grain for s in steps}
    found = []
    for name, window in step.windows.items():
        there = tables[window.asset]
        keys = keys_of(window, grains[window.asset], partition)
        present = tuple((key, there[key]) for key in keys if key in there)
        wanted = [key for key in keys if there and key >= min(there)] if window.waits else []
        if len(present) < window.at_least or any(key not in there for key in wanted):
            return None
        found.append((name, present))
    return tuple(found)


def keys_of(window: Window, grain: str, partition: str) -> list[str]:
    """The partitions of a window, whether they are there or not."""
    if grain == "once":
        return [""]
    day = date.fromisoformat(partition)
    first, last = day + timedelta(days=window.first), day + timedelta(days=window.last)
    return _days(first, last) if grain == "day" else _wednesdays(first, last)


def _days(first: date, last: date) -> list[str]:
    return [(first + timedelta(days=n)).isoformat() for n in range((last - first).days + 1)]


def _wednesdays(first: date, last: date) -> list[str]:
    return [day for day in _days(first, last) if date.fromisoformat(day).weekday() == WEDNESDAY]
