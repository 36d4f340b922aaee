"""How an author says what an asset is: what it reads, over which window, and the function that makes it.

An ``Asset`` is data. It knows nothing of Dagster, of storage or of the past; the planner decides from it
what is owed, and the platform runs its function on exactly the partitions that are.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import Enum
from typing import Any, Literal, Protocol

import polars as pl

from my_platform.errors import PlatformError, Refused
from my_platform.incremental.bucketed import Apart, Made, has_to_be_apart, in_buckets, require_whole, whole
from my_platform.incremental.checks import Check, CheckResult, Judgement
from my_platform.incremental.memory import Memory
from my_platform.incremental.parts import Parts
from my_platform.incremental.sources import keep_sources

EPOCH = date(1970, 1, 1).toordinal()
# What an asset reads that is no asset: landed tables, decisions about the rows of an asset, and who serves.
LANDED = "landing:"
DECIDED = f"{LANDED}decisions/"
# Who is champion of a use on a day, as the promotion ledger says.
SERVED = f"{LANDED}served/"
# Which weeks of a model its retraining policy wants; no input of a model, but what decides that it is made.
RETRAINED = f"{LANDED}retraining/"


class Grain(Enum):
    """How an asset is cut into partitions."""

    DAY = "day"
    WEEK = "week"
    ONCE = "once"


@dataclass(frozen=True)
class Read:
    """The partitions of an asset that a partition is computed from.

    For daily and weekly assets that are read, ``first`` and ``last`` are offsets in days from the first day
    of the reading partition, both included; a weekly asset is read at the weeks that start in that span. An
    asset without partitions is read whole.

    Attributes:
        asset: name of the asset that is read.
        first, last: offsets in days; (0, 0) is the reader's own day or week.
        gaps: ``wait`` until every partition of the window from the asset's first one on is there, or
            ``pass`` over those that are missing and name them in the metadata; ``optional`` partitions are
            mostly not there, and nobody is told.
        at_least: partitions of the window that must be there, whatever ``gaps`` says.
        columns: the columns that the function needs; None for all.
        scanned: read from the stored files as the function asks for rows, after all their bytes were checked, and not
            kept in memory before that.
    """

    asset: str
    first: int = 0
    last: int = 0
    gaps: Literal["wait", "pass", "optional"] = "wait"
    at_least: int = 1
    columns: tuple[str, ...] | None = None
    scanned: bool = False

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise PlatformError(
                f"the window of {self.asset} ends ({self.last}) before it starts ({self.first})"
            )


def same(
    asset: str, *, at_least: int = 1, columns: Sequence[str] | None = None, scanned: bool = False
) -> Read:
    """The reader's own day or week, or the whole of an asset without partitions."""
    return Read(asset, at_least=at_least, columns=tuple(columns) if columns else None, scanned=scanned)


def last(
    asset: str,
    days: int,
    *,
    gaps: Literal["wait", "pass"] = "pass",
    at_least: int = 0,
    columns: Sequence[str] | None = None,
) -> Read:
    """The reader's own day and the ones before it, ``days`` in all."""
    return Read(asset, 1 - days, 0, gaps, at_least, tuple(columns) if columns else None)


# What a pure function raises for the same inputs every time; anything else may pass when tried again.
DETERMINISTIC: tuple[type[Exception], ...] = (
    Refused,
    pl.exceptions.PolarsError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    TypeError,
    ValueError,
)
# What a function that computes several partitions answers for one of them, instead of breaking off.
EXPECTED: tuple[type[Exception], ...] = (PlatformError, *DETERMINISTIC)


@dataclass(frozen=True)
class Produced:
    """What a function made of one partition.

    Attributes:
        table: the value.
        quarantined: rows that a contract turned away, with the reason; stored beside the value.
        metadata: plain values for the Dagster UI.
        checks: how the value answers the checks of its asset; stored beside the value.
        notes: plain values on how it was made; stored beside the value and in no data version, as of figures whose last
            digits may hang on the machine.
        parts: the value where it does not fit into memory, ``table`` then having its columns and no row. The files
            are there until the next value is asked for.
    """

    table: pl.DataFrame
    quarantined: pl.DataFrame | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    checks: Sequence[CheckResult] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts | None = None

    @classmethod
    def of(cls, value: pl.DataFrame | Parts, **about: Any) -> "Produced":
        """A value that may be in parts."""
        if isinstance(value, Parts):
            return cls(value.schema.to_frame(), parts=value, **about)
        return cls(value, **about)

    @property
    def rows(self) -> int:
        return self.parts.rows if self.parts is not None else self.table.height

    def scan(self) -> pl.LazyFrame:
        """The value, wherever it is."""
        return self.parts.scan() if self.parts is not None else self.table.lazy()


class Batch(Protocol):
    """Partitions of one asset that are computed together, and what they read.

    Each input partition is read from storage once for the whole batch.
    """

    keys: Sequence[str]
    asset: str
    memory: Memory

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        """The tables that a read gives for a partition, by their partition key, in order."""
        ...

    def versions(self, read: str, key: str) -> Mapping[str, str]:
        """The data versions of the same, and only of those that are there."""
        ...

    def landed(self, key: str) -> list[tuple[str, bytes]]:
        """Names and bytes of the landed files of a raw partition.

        Raises:
            Refused: what lies there cannot be taken.
        """
        ...

    def origin(self, read: str, key: str) -> Sequence[str]:
        """The landed files that the raw partitions of a read say the same as; none where they were replaced."""
        ...

    def released(self, key: str) -> frozenset[str]:
        """The rows of a partition that a person decided to let in; see ``storage.decisions``.

        Raises:
            Refused: a decision cannot be read.
        """
        ...

    def empty(self, read: str) -> pl.DataFrame:
        """A table without rows that has the columns a read would give."""
        ...

    def files(self, read: str, key: str) -> Mapping[str, str]:
        """Local paths of the stored tables, checked, by partition key; they are there as long as the run."""
        ...

    def row_counts(self, read: str, key: str) -> Mapping[str, int]:
        """The rows of the stored tables, by partition key, without a look into them."""
        ...

    def types(self, read: str) -> Mapping[str, pl.DataType]:
        """The types of the columns that a read gives, as the catalogue has them."""
        ...


Compute = Callable[[Batch], Iterable[tuple[str, Produced | Exception]]]
"""Gives every key of the batch once, in any order, with its value or the reason why there is none."""


ComputeTogether = Callable[[Mapping[str, Batch]], Iterable[tuple[str, str, Produced | Exception]]]
"""The same for several assets in one call: batches by asset, answers with the asset's name in front."""


Judge = Callable[[pl.LazyFrame, str, Mapping[str, Any]], Judgement]
"""Says of all rows of a partition whether they may become current, given its key and the parameters of its asset.

Raises:
    Refused: they may not.
"""


@dataclass(frozen=True)
class Column:
    """A column of an asset's table: its type, and what the catalogue says of it."""

    type: pl.DataType
    description: str = ""


ColumnLineage = Mapping[str, tuple[tuple[str, str], ...]]
"""By column: the columns that it is made of, each with its asset in front."""


@dataclass(frozen=True)
class Publication:
    """A stored value that is shown outside of the lake: as a report, or in a registry.

    Attributes:
        record: how the value was made: data version, fingerprint, code version, inputs, run id.
        record_of: the same for an input, by asset, partition and data version.
        code: the code versions of the asset and of all that it is made from.
        reason: why it was made, where a retraining policy decides that.
    """

    asset: str
    partition: str
    table: pl.DataFrame
    record: Mapping[str, Any]
    record_of: Callable[[str, str, str], Mapping[str, Any] | None]
    code: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Asset:
    """One asset: its name, partitions, inputs, function and what the catalogue says of it.

    Attributes:
        code: functions and classes whose code makes the value; they and what they reach are its code version.
        parameters: plain values that count in the fingerprint.
        source: the landing folder or file that a raw table comes from.
        together: a name, and a function that computes all assets of that name in one call, where that is
            cheaper than one after the other. They must not read each other.
        publish: called after a value was stored and before it becomes current, to show it outside of the lake;
            may be called again for the same value, and must then change nothing. Gives metadata.
        own_checks: what each partition is asked; its function gives the answers in ``Produced`` or ``Refused``.
        lineage: by column, the columns that it is made of, each with its asset in front.
        shown: plain values for the catalogue, by name.
        table_for_analysts: its name in the database that analysts open; none where it is not for them.
        pool: a Dagster pool, which admits one run at a time to what must not be shared, such as a device.
        due_h: hours after the end of a day (UTC) by which it should have landed; None where none is late.
        gpus: CUDA devices that its function holds while it runs.
    """

    name: str
    grain: Grain
    reads: Mapping[str, Read]
    compute: Compute
    code: tuple[Any, ...]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    group: str = "default"
    description: str = ""
    owners: tuple[str, ...] = ("team:data",)
    kinds: tuple[str, ...] = ("polars",)
    columns: Mapping[str, Column] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    source: str | None = None
    together: tuple[str, ComputeTogether] | None = None
    publish: Callable[[Publication], Mapping[str, Any]] | None = None
    own_checks: tuple[Check, ...] = ()
    lineage: ColumnLineage = field(default_factory=dict)
    shown: Mapping[str, Any] = field(default_factory=dict)
    table_for_analysts: str = ""
    pool: str | None = None
    due_h: int | None = None
    gpus: int = 0

    def __post_init__(self) -> None:
        keep_sources()


def table(
    name: str,
    *,
    grain: Grain = Grain.DAY,
    reads: Mapping[str, Read],
    parameters: Mapping[str, Any] | None = None,
    runtime: Mapping[str, Any] | None = None,
    apart: Apart | None = None,
    judge: Judge | None = None,
    **catalogue: Any,
) -> Callable[[Callable[..., Any]], Asset]:
    """Make an asset of a pure function from LazyFrames to a LazyFrame.

    The function gets one LazyFrame for each read, the partitions of its window one after the other. It may
    also ask for ``partition`` (the key, str), ``parameters`` (the mapping given here), ``inputs``
    (``{read: {key: data version}}``), and the names in ``runtime``: values such as a number of threads that
    change how fast it runs and not what it gives, and so do not count in the fingerprint. It returns a
    LazyFrame, a DataFrame or a ``Produced``. A parameter such as ``**tables`` takes the reads that have no parameter of
    their name. It is called once a partition, so that a value cannot depend
    on what else is computed in the same run. ``apart`` says how its inputs may be taken apart where they do not fit
    into memory; without it, it is given all of them or none. ``judge`` is called once with all rows that came out, in
    memory or in files, and adds its checks and metadata; it should collect a few columns at a time, or ask for the
    streaming engine.
    """

    def make(function: Callable[..., Any]) -> Asset:
        asked = inspect.signature(function).parameters
        wanted = {n: each for n, each in asked.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
        given = dict(runtime or {})
        unknown = [
            n for n in wanted if n not in reads and n not in ("partition", "parameters", "inputs", *given)
        ]
        unread = [n for n in reads if n not in wanted] if len(wanted) == len(asked) else []
        if unknown or unread:
            raise PlatformError(
                f"{name}: the function's parameters {unknown or unread} do not match what it reads "
                f"({', '.join(reads)}); give each read a parameter of its name"
            )

        def call(batch: Batch, key: str, tables: Mapping[str, pl.DataFrame | pl.LazyFrame]) -> Produced:
            return _produce(function, wanted, batch, key, tables, parameters or {}, given)

        def judged(made: Produced, key: str) -> Produced:
            return made if judge is None else _judged(judge, made, key, parameters or {})

        def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
            if apart is not None and has_to_be_apart(batch, apart, list(reads), batch.keys):
                yield from _compute_apart(call, judged, batch, reads, apart)
                return
            for key in batch.keys:
                try:
                    require_whole(
                        batch, [read for read, declared in reads.items() if not declared.scanned], key
                    )
                    tables = {read: _tables(batch, read, key, reads[read]) for read in reads}
                    yield key, judged(call(batch, key, tables), key)
                except EXPECTED as error:
                    yield key, error

        return Asset(
            name=name,
            grain=grain,
            reads=reads,
            compute=compute,
            code=(function, *([judge] if judge else []), *([in_buckets] if apart else [])),
            parameters=parameters or {},
            **{"description": inspect.getdoc(function) or "", **catalogue},
        )

    return make


def _tables(batch: Batch, read: str, key: str, declared: Read) -> pl.LazyFrame:
    """The partitions of a read, one after the other."""
    if not declared.scanned:
        return whole(batch, read, key).lazy()
    files = batch.files(read, key)
    found = pl.scan_parquet(list(files.values()), glob=False) if files else batch.empty(read).lazy()
    return found if declared.columns is None else found.select(declared.columns)


def _judged(judge: Judge, made: Produced, key: str, parameters: Mapping[str, Any]) -> Produced:
    found = judge(made.scan(), key, parameters)
    return replace(made, checks=(*made.checks, *found.checks), metadata={**made.metadata, **found.metadata})


def _compute_apart(
    call: Callable[[Batch, str, Mapping[str, pl.DataFrame | pl.LazyFrame]], Produced],
    judged: Callable[[Produced, str], Produced],
    batch: Batch,
    reads: Mapping[str, Read],
    apart: Apart,
) -> Iterator[tuple[str, Produced | Exception]]:
    """Partitions that do not fit into memory."""

    def made_of(key: str, tables: Mapping[str, pl.DataFrame]) -> Made:
        made = call(batch, key, tables)
        return made.table, made.quarantined, made.metadata

    def together(keys: Sequence[str]) -> Iterator[tuple[str, Produced | Exception]]:
        columns = {name: read.columns for name, read in reads.items()}
        for key, found in in_buckets(made_of, batch, keys, apart, columns):
            made = Produced.of(found.value, quarantined=found.quarantined, metadata=found.metadata)
            try:
                answer: Produced | Exception = judged(made, key)
            except EXPECTED as error:
                answer = error
            yield key, answer

    return or_each_alone(together, batch.keys)


def or_each_alone(
    compute: Callable[[Sequence[str]], Iterable[tuple[str, Produced | Exception]]], keys: Sequence[str]
) -> Iterator[tuple[str, Produced | Exception]]:
    """What is computed of partitions together; where one is at fault, of each alone, or the reason why there is none."""
    done = set()
    try:
        for key, made in compute(keys):
            yield key, made
            done.add(key)
    except EXPECTED as error:
        if len(keys) == 1:
            yield keys[0], error
            return
        for key in keys:
            if key not in done:
                yield from or_each_alone(compute, [key])


def _produce(
    function: Callable[..., Any],
    wanted: Mapping[str, inspect.Parameter],
    batch: Batch,
    key: str,
    tables: Mapping[str, pl.DataFrame | pl.LazyFrame],
    parameters: Mapping[str, Any],
    given: Mapping[str, Any],
) -> Produced:
    arguments: dict[str, Any] = {name: value for name, value in given.items() if name in wanted}
    arguments |= {read: frame.lazy() for read, frame in tables.items()}
    if "partition" in wanted:
        arguments["partition"] = key
    if "parameters" in wanted:
        arguments["parameters"] = parameters
    if "inputs" in wanted:
        arguments["inputs"] = {read: batch.versions(read, key) for read in tables}
    made = function(**arguments)
    if isinstance(made, Produced):
        return made
    return Produced(made.collect() if isinstance(made, pl.LazyFrame) else made)


def day_key(ordinal: int) -> str:
    """The partition key of a day given in days since 1970-01-01."""
    return date.fromordinal(ordinal + EPOCH).isoformat()


def ordinal(key: str) -> int:
    """Days since 1970-01-01 of a daily or weekly partition key; 0 for the key of an unpartitioned asset.

    Raises:
        PlatformError: the key is not a date of the form YYYY-MM-DD.
    """
    if key == "":
        return 0
    try:
        if len(key) != 10:
            raise ValueError
        return date.fromisoformat(key).toordinal() - EPOCH
    except ValueError:
        raise PlatformError(f"`{key}` is not a day; expected a date that exists, as YYYY-MM-DD") from None


def week_start(day: date) -> date:
    """The Wednesday on or before a day: weekly partitions start on Wednesdays."""
    return day - timedelta(days=(day.weekday() - 2) % 7)
