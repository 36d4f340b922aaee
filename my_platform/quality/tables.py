"""Raw and validated tables: from landed files to partitions that keep their contract."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import Refused
from my_platform.incremental.bucketed import input_bytes
from my_platform.incremental.checks import WARN, Check, CheckResult
from my_platform.incremental.declare import (
    DECIDED,
    EXPECTED,
    LANDED,
    Asset,
    Batch,
    Grain,
    Produced,
    Read,
    same,
)
from my_platform.incremental.parts import Parts
from my_platform.quality.columns import Columns, OtherColumns
from my_platform.quality.contracts import Contract, version_of
from my_platform.quality.in_buckets import VALIDATED_BY, divided_in_buckets
from my_platform.quality.parsing import landed_bytes, least_bytes, read_landed, read_landed_in_parts
from my_platform.quality.renames import with_guesses
from my_platform.quality.rows import Context, Split, split_rows

FRESHNESS, SCHEMA, CONTRACT = "freshness", "schema", "contract"
_LANDED = Check(FRESHNESS, "The day landed by the hour it is due.")
_READ = Check(SCHEMA, "The file can be read, and has the columns and types of the contract.")
_KEPT = Check(
    CONTRACT, "No more rows than usual break the contract, and so few that the others can be taken."
)
# Rows of a quarantine that the UI shows with the partition.
_MOST_SHOWN = 10


def raw_table(
    name: str,
    contract: Contract,
    *,
    source: str,
    grain: Grain = Grain.DAY,
    due_h: int | None = None,
    **catalogue: Any,
) -> Asset:
    """What landed of a table: its rows as they came, with the contract's column types.

    Args:
        source: the folder below landing, or for ``Grain.ONCE`` the file name without its suffix.
        due_h: hours after the end of a day (UTC) by which its file should have landed; None where none is late.
    """
    columns = contract.columns
    asked = (_READ,) if grain is Grain.ONCE else (_LANDED, _READ)

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                passed = [CheckResult(check.name, True) for check in asked]
                with _read(batch, key, columns) as made:
                    yield key, replace(made, checks=passed)
            except OtherColumns as error:
                yield key, _answered(with_guesses(error, contract), SCHEMA)
            except EXPECTED as error:
                yield key, _answered(error, SCHEMA)

    return Asset(
        name=name,
        grain=grain,
        reads={"landed": Read(f"{LANDED}{source}")},
        compute=compute,
        code=(_read,),
        parameters=columns.parameters,
        source=source,
        columns=contract.catalogue,
        own_checks=asked,
        due_h=due_h,
        **{"group": "raw", "kinds": ("polars", "parquet"), **catalogue},
    )


def validated_table(
    name: str,
    raw: Asset,
    contract: Contract,
    *,
    references: Mapping[str, Asset] | None = None,
    **catalogue: Any,
) -> Asset:
    """The rows of a raw table that keep its contract, sorted; the others go to quarantine with the reason.

    Args:
        references: by column that refers to another table, the keys that are not known there; see
            ``references.unknown_keys``.
    """
    version = version_of(contract)
    unknown = {column: f"unknown {column}" for column in references or {}}

    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                keys = {column: batch.inputs(read, key) for column, read in unknown.items()}
                context = Context(
                    {column: found[column] for column, each in keys.items() for found in each.values()},
                    batch.released(key),
                )
                origin = Origin(", ".join(batch.origin("landed", key)), version)
                size = input_bytes(batch, ["landed"], key)
                if contract.apart is not None and not batch.memory.fits(size * VALIDATED_BY):
                    with validated_in_buckets(batch, contract, key, context, origin) as made:
                        yield key, replace(made, checks=[_kept(made, contract)])
                    continue
                batch.memory.require(
                    name, key, size * VALIDATED_BY, "as its contract says no column in `apart`"
                )
                (table,) = batch.inputs("landed", key).values()
                made = validate(table, contract, key, context, origin)
                yield key, replace(made, checks=[_kept(made, contract)])
            except EXPECTED as error:
                yield key, _answered(error, CONTRACT)

    return Asset(
        name=name,
        grain=raw.grain,
        reads={
            "landed": same(raw.name),
            "released": Read(f"{DECIDED}{name}", gaps="optional", at_least=0),
            **{
                unknown[column]: Read(asset.name, gaps="optional", at_least=0)
                for column, asset in (references or {}).items()
            },
        },
        compute=compute,
        code=(validate, validated_in_buckets, contract.model),
        parameters=contract.parameters,
        columns=contract.catalogue,
        own_checks=(_KEPT,),
        **{"group": "validated", "kinds": ("polars", "pandera"), **catalogue},
    )


@contextmanager
def _read(batch: Batch, key: str, columns: Columns) -> Iterator[Produced]:
    """The rows of a landed file, in parts where they do not fit; these are there within the context."""
    files = batch.landed(key)
    path, data = files[0] if len(files) == 1 else ("", b"")
    needed = landed_bytes(path, data, columns) if data and batch.memory.limit_bytes is not None else 0
    if batch.memory.fits(needed + len(data)):
        yield read_landed(files, columns)
        return
    room = batch.memory.room_bytes
    assert room is not None
    least = least_bytes(path, data)
    batch.memory.require(batch.asset, key, least, "as a landed file lies in memory")
    with batch.memory.folder() as folder:
        yield read_landed_in_parts((path, data), columns, max(room - least, room // 8) // 8, folder)


def _kept(made: Produced, contract: Contract) -> CheckResult:
    """Whether no more rows than usual were kept out, with their numbers."""
    told = ("landed_rows", "valid_rows", "quarantined_rows")
    landed, _, bad = numbers = [made.metadata[name] for name in told]
    passed = bad <= contract.usual_bad_share * landed
    found = (
        ""
        if passed
        else f"{bad:,} of {landed:,} rows are in quarantine, more than {contract.usual_bad_share:.1%}"
    )
    return CheckResult(CONTRACT, passed, dict(zip(told, numbers, strict=True)), found, WARN)


def _answered(error: Exception, check: str) -> Exception:
    """A refusal as the answer to a check; another error as it is."""
    if isinstance(error, Refused):
        error.checks = (CheckResult(check, False, {}, str(error)),)
    return error


@dataclass(frozen=True)
class Origin:
    """Where a partition's rows come from: the landed file's name, where it is known, and the contract's version."""

    file: str = ""
    contract_version: str = ""


def validate(
    table: pl.DataFrame,
    contract: Contract,
    partition: str,
    context: Context | None = None,
    origin: Origin | None = None,
) -> Produced:
    """The valid rows of a partition, and the quarantined ones beside them.

    Raises:
        Refused: the partition cannot be taken as a whole; see ``rows.split_rows``.
    """
    origin = origin or Origin()
    with _named(origin):
        split = split_rows(table, contract, partition, context)
    return _produced(split, table.height, origin)


@contextmanager
def validated_in_buckets(
    batch: Batch, contract: Contract, partition: str, context: Context, origin: Origin
) -> Iterator[Produced]:
    """The same of a partition that does not fit into memory; its parts are there within the context."""
    (file,) = batch.files("landed", partition).values()
    size = input_bytes(batch, ["landed"], partition)
    with ExitStack() as stack:
        with _named(origin):
            split, parts, landed = stack.enter_context(
                divided_in_buckets(Path(file), size, contract, batch.asset, partition, context, batch.memory)
            )
        made = _produced(split, landed, origin, parts)
        yield replace(made, metadata={**made.metadata, "computed": f"in parts by {contract.apart}"})


@contextmanager
def _named(origin: Origin) -> Iterator[None]:
    """Refusals with the landed file's name."""
    try:
        yield
    except Refused as error:
        rows = None if error.rows is None else _told(error.rows, origin)
        named = f"{origin.file}: {error}" if origin.file else str(error)
        raise Refused(named, rows=rows, metadata=error.metadata) from error


def _produced(split: Split, landed: int, origin: Origin, parts: Parts | None = None) -> Produced:
    quarantined = _told(split.quarantined, origin)
    shown = ("row_number", "rule", "column", "value", "reason")
    return Produced(
        split.valid,
        quarantined,
        {
            "landed_rows": landed,
            "valid_rows": landed - quarantined.height,
            "quarantined_rows": quarantined.height,
            "contract_version": origin.contract_version,
            **({"released_rows": split.released} if split.released else {}),
            **(
                {"quarantine": quarantined.head(_MOST_SHOWN).select(shown).to_dicts()}
                if quarantined.height
                else {}
            ),
        },
        parts=parts,
    )


def _told(quarantined: pl.DataFrame, origin: Origin) -> pl.DataFrame:
    return quarantined.with_columns(
        file=pl.lit(origin.file), contract_version=pl.lit(origin.contract_version)
    )
