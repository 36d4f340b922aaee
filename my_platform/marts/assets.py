"""dbt marts as assets: exact like every other asset, and computed together in one dbt call."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import polars as pl

from my_platform.errors import PlatformError
from my_platform.incremental.bucketed import input_bytes
from my_platform.incremental.declare import Asset, Batch, Column, Grain, Produced, Read
from my_platform.incremental.memory import Memory
from my_platform.marts.catalogue import Shown
from my_platform.marts.errors import MartTestFailed
from my_platform.marts.manifest import Mart
from my_platform.marts.runner import check_results, run_marts

GROUP = "marts"
POOL = "duckdb"
_TYPES: dict[str, pl.DataType] = {
    "bigint": pl.Int64(),
    "integer": pl.Int32(),
    "double": pl.Float64(),
    "boolean": pl.Boolean(),
    "date": pl.Date(),
    "timestamp": pl.Datetime("us"),
}


def mart_assets(
    project_dir: Path,
    target_dir: Path,
    marts: tuple[Mart, ...],
    shown: Mapping[str, Shown] | None = None,
    **catalogue: Any,
) -> list[Asset]:
    """The daily assets of a dbt project.

    Args:
        project_dir: the folder of ``dbt_project.yml``.
        target_dir: where the manifest and dbt's caches are kept.
        marts: what ``load_marts`` read.
        shown: what ``current_catalogue`` read; without it Dagster shows no checks and no lineage of them.
    """
    by_asset = {mart.asset: mart for mart in marts}

    def together(batches: Mapping[str, Batch]) -> Iterator[tuple[str, str, Produced | Exception]]:
        memory = next(iter(batches.values())).memory
        days = sorted({key for batch in batches.values() for key in batch.keys})
        for chunk in _chunks(
            batches, days, memory, {asset: list(by_asset[asset].reads) for asset in batches}
        ):
            with _spill(memory) as folder:
                yield from some_days(batches, chunk, memory, folder)

    def some_days(
        batches: Mapping[str, Batch], days: Sequence[str], memory: Memory, folder: Path | None
    ) -> Iterator[tuple[str, str, Produced | Exception]]:
        inputs: dict[str, dict[str, Path]] = {}
        for asset, batch in batches.items():
            for read in by_asset[asset].reads:
                files = inputs.setdefault(read, {})
                for key in _among(batch, days):
                    files |= {day: Path(path) for day, path in batch.files(read, key).items()}
        names = sorted(by_asset[asset].name for asset in batches)
        run = run_marts(
            project_dir, target_dir, names, inputs, days, loaded=marts, memory=memory, folder=folder
        )
        about = {} if memory.limit_bytes is None else {"computed": f"by DuckDB, {len(days)} days together"}
        for asset, batch in batches.items():
            for key in _among(batch, days):
                name = by_asset[asset].name
                checks = check_results(run.tests[name], key)
                yield asset, key, Produced.of(run.tables[name][key], checks=checks, metadata=about)

    def alone(asset: str, batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        done: set[str] = set()
        try:
            for _, key, value in together({asset: batch}):
                yield key, value
                done.add(key)
        except MartTestFailed as error:
            if len(batch.keys) == 1:
                yield batch.keys[0], error
                return
            left = [key for key in batch.keys if key not in done]
            good = [key for key in left if key not in error.days]
            for days in [*([key] for key in left if key not in good), *([good] if good else [])]:
                yield from alone(asset, _some_days(batch, days))
        except PlatformError as error:
            for key in batch.keys:
                if key not in done:
                    yield key, error

    def asset_of(mart: Mart) -> Asset:
        found = (shown or {}).get(mart.name, Shown({"description": mart.description}, {}, (), {}))
        return Asset(
            name=mart.asset,
            grain=Grain.DAY,
            reads={
                name: Read(read.asset, read.first, read.last, read.gaps, read.at_least)
                for name, read in mart.reads.items()
            },
            compute=lambda batch: alone(mart.asset, batch),
            together=(GROUP, together),
            code=(run_marts,),
            parameters={"dbt": mart.code},
            columns={
                name: Column(_TYPES.get(column.type.lower(), pl.String()), column.description)
                for name, column in mart.columns.items()
            },
            own_checks=found.checks,
            lineage=found.lineage,
            shown=found.metadata,
            table_for_analysts=mart.name,
            # One run at a time gives DuckDB the memory of the machine.
            **{"group": GROUP, "kinds": ("dbt", "duckdb"), "pool": POOL, **found.about, **catalogue},
        )

    return [asset_of(mart) for mart in marts]


def _chunks(
    batches: Mapping[str, Batch], days: Sequence[str], memory: Memory, reads: Mapping[str, list[str]]
) -> Iterator[list[str]]:
    """Days that one call of dbt makes: all of them, or as many as have inputs that would fit into memory."""
    chunk: list[str] = []
    taken = 0
    for day in days:
        size = sum(
            input_bytes(batch, reads[asset], day)
            for asset, batch in batches.items()
            if memory.limit_bytes is not None and day in batch.keys
        )
        if chunk and not memory.fits(taken + size):
            yield chunk
            chunk, taken = [], 0
        chunk.append(day)
        taken += size
    yield chunk


@contextmanager
def _spill(memory: Memory) -> Iterator[Path | None]:
    """A folder for what does not fit into memory; none where there is no limit."""
    if memory.limit_bytes is None:
        yield None
        return
    with memory.folder() as folder:
        yield folder


def _among(batch: Batch, days: Sequence[str]) -> list[str]:
    return [key for key in batch.keys if key in days]


def _some_days(batch: Batch, keys: Sequence[str]) -> Batch:
    return cast("Batch", _SomeDays(batch, keys))


class _SomeDays:
    """Some partitions of a batch."""

    def __init__(self, batch: Batch, keys: Sequence[str]) -> None:
        self._batch = batch
        self.keys = keys

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)
