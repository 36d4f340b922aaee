"""What the function of a declared asset is given of what it reads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from my_platform.incremental.declare import Produced, Read, same, table
from my_platform.incremental.memory import Memory

ROWS = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})


class Stored:
    """Partitions of one asset that lie in files, and of which nothing may be read into memory beforehand."""

    keys = ("2025-01-01",)
    memory = Memory()

    def __init__(self, folder: Path, *partitions: str) -> None:
        self.paths = {key: str(folder / f"{key} [1].parquet") for key in partitions}
        for path in self.paths.values():
            ROWS.write_parquet(path)

    def files(self, _read: str, _key: str) -> Mapping[str, str]:
        return self.paths

    def empty(self, _read: str) -> pl.DataFrame:
        return ROWS.clear()


def given(stored: Stored, read: Read) -> pl.LazyFrame:
    """What a function gets of a read."""
    seen: list[pl.LazyFrame] = []

    @table("made", reads={"rows": read})
    def made(rows: pl.LazyFrame) -> pl.LazyFrame:
        seen.append(rows)
        return rows

    batch: Any = stored
    ((_, produced),) = made.compute(batch)
    assert isinstance(produced, Produced)
    assert produced.table.equals(seen[0].collect())
    return seen[0]


def test_a_scanned_read_is_a_scan_of_the_stored_files_and_not_in_memory(folder: Path) -> None:
    rows = given(Stored(folder, "2025-01-01", "2025-01-02"), same("other", scanned=True))
    assert "Parquet SCAN" in rows.explain()
    assert rows.collect().equals(pl.concat([ROWS, ROWS]))


@pytest.mark.parametrize("partitions", [(), ("2025-01-01",)])
def test_of_a_scanned_read_only_the_declared_columns_are_given(
    folder: Path, partitions: tuple[str, ...]
) -> None:
    rows = given(Stored(folder, *partitions), same("other", columns=["a"], scanned=True)).collect()
    assert rows.equals(ROWS.select("a").head(2 * len(partitions)))
