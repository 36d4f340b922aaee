"""Tables that a run has read or made, kept in memory for what reads them next; and files that it has copied."""

import tempfile
from collections import OrderedDict
from pathlib import Path

import polars as pl

from my_platform.storage.lake import Lake

_CACHE_BYTES = 1 << 30


class TableCache:
    """Tables that were read or made in this run, least recently used first, up to a number of bytes."""

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.tables: OrderedDict[tuple[str, str, str, tuple[str, ...] | None], pl.DataFrame] = OrderedDict()
        self.bytes = 0.0
        self.files: dict[tuple[str, str, str], Path] = {}
        self._copies: tempfile.TemporaryDirectory[str] | None = None

    def get(self, asset: str, partition: str, version: str, columns: tuple[str, ...] | None) -> pl.DataFrame:
        whole = self.tables.get((asset, partition, version, None))
        if whole is not None:
            self.tables.move_to_end((asset, partition, version, None))
            return whole.select(columns) if columns is not None else whole
        key = (asset, partition, version, columns)
        table = self.tables.get(key)
        if table is None:
            table = self.lake.read(asset, partition, version, columns)
            self._keep(key, table)
        else:
            self.tables.move_to_end(key)
        return table

    def put(self, asset: str, partition: str, version: str, table: pl.DataFrame) -> None:
        self._keep((asset, partition, version, None), table)

    def file(self, asset: str, partition: str, version: str) -> Path:
        """A local file that holds a data version, its bytes checked; it stays until ``close``."""
        file = self.files.get((asset, partition, version))
        if file is None:
            if self._copies is None:
                self._copies = tempfile.TemporaryDirectory(prefix="my_platform_inputs_")
            file = self.lake.file(asset, partition, version, Path(self._copies.name))
            self.files[asset, partition, version] = file
        return file

    def close(self) -> None:
        """Remove the copies."""
        self.files.clear()
        if self._copies is not None:
            self._copies.cleanup()
            self._copies = None

    def _keep(self, key: tuple[str, str, str, tuple[str, ...] | None], table: pl.DataFrame) -> None:
        self.tables[key] = table
        self.bytes += table.estimated_size()
        while self.bytes > _CACHE_BYTES and len(self.tables) > 1:
            _, gone = self.tables.popitem(last=False)
            self.bytes -= gone.estimated_size()
