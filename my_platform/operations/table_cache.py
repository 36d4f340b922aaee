"""Tables that a run has read or made, kept in memory for what reads them next; and files that it has copied."""

import gc
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import polars as pl

from my_platform.storage.lake import Lake

# Of what may be kept, how much goes by before circles are looked for.
_TIDIED_SHARE = 0.25


class TableCache:
    """Tables that were read or made in this run, least recently used first, up to a number of bytes."""

    def __init__(self, lake: Lake, most_bytes: int) -> None:
        self.lake = lake
        self.most_bytes = most_bytes
        self.tables: OrderedDict[tuple[str, str, str, tuple[str, ...] | None], pl.DataFrame] = OrderedDict()
        self.bytes = 0.0
        self._passed_bytes = 0.0
        self.files: dict[tuple[str, str, str], Path] = {}
        self._rows: dict[tuple[str, str, str], int] = {}
        self._copies: tempfile.TemporaryDirectory[str] | None = None

    def get(
        self, asset: str, versions: Mapping[str, str], columns: tuple[str, ...] | None
    ) -> dict[str, pl.DataFrame]:
        """The tables of partitions, which are given with their data versions, in the same order."""
        found = {key: self._kept(asset, key, version, columns) for key, version in versions.items()}
        missing = {key: versions[key] for key, table in found.items() if table is None}
        read = self.lake.read_all(asset, missing, columns)
        for partition, table in read.items():
            self._keep((asset, partition, versions[partition], columns), table)
        return {key: read[key] if table is None else table for key, table in found.items()}

    def put(self, asset: str, partition: str, version: str, table: pl.DataFrame) -> None:
        self._keep((asset, partition, version, None), table)

    def local(self, asset: str, versions: Mapping[str, str]) -> dict[str, Path]:
        """Local files that hold data versions, by partition, their bytes checked; they stay until ``close``."""
        missing = {
            key: version for key, version in versions.items() if (asset, key, version) not in self.files
        }
        if missing and self._copies is None:
            self._copies = tempfile.TemporaryDirectory(prefix="my_platform_inputs_")
        if self._copies is not None:
            for partition, file in self.lake.files(asset, missing, Path(self._copies.name)):
                self.files[asset, partition, missing[partition]] = file
        return {key: self.files[asset, key, version] for key, version in versions.items()}

    def rows(self, asset: str, partition: str, version: str) -> int:
        """The rows of a data version, as the index has them; 0 where it has none."""
        place = asset, partition, version
        if place not in self._rows:
            self._rows[place] = self.lake.index.rows_of(*place)
        return self._rows[place]

    def tidy(self) -> None:
        """Free the tables that nothing refers to any more but objects in a circle, as validation leaves them behind.

        Python looks for such circles by numbers of objects, and a few hold gigabytes.
        """
        if self._passed_bytes > self.most_bytes * _TIDIED_SHARE:
            self._passed_bytes = 0.0
            gc.collect()

    def close(self) -> None:
        """Remove the copies."""
        self.files.clear()
        if self._copies is not None:
            self._copies.cleanup()
            self._copies = None

    def _kept(
        self, asset: str, partition: str, version: str, columns: tuple[str, ...] | None
    ) -> pl.DataFrame | None:
        for kept in dict.fromkeys((None, columns)):
            table = self.tables.get((asset, partition, version, kept))
            if table is not None:
                self.tables.move_to_end((asset, partition, version, kept))
                return table.select(columns) if columns is not None and kept is None else table
        return None

    def _keep(self, key: tuple[str, str, str, tuple[str, ...] | None], table: pl.DataFrame) -> None:
        self.tables[key] = table
        self.bytes += table.estimated_size()
        self._passed_bytes += table.estimated_size()
        while self.bytes > self.most_bytes and len(self.tables) > 1:
            _, gone = self.tables.popitem(last=False)
            self.bytes -= gone.estimated_size()
