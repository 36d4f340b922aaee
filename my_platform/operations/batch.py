"""The partitions of an asset that are computed together, and the tables that they read."""

from collections.abc import Mapping, Sequence

import polars as pl

from my_platform.incremental.declare import ordinal
from my_platform.incremental.planner import Entry
from my_platform.operations.inputs import Inputs
from my_platform.operations.table_cache import TableCache


class InputBatch:
    """See ``declare.Batch``.

    Args:
        entries: what the planner said of each partition, by partition key.
    """

    def __init__(self, inputs: Inputs, cache: TableCache, entries: Mapping[str, Entry]) -> None:
        self.read_by = inputs
        self.cache = cache
        self.entries = entries
        self.keys: Sequence[str] = sorted(entries)
        self.asset = inputs.asset.name
        self.memory = inputs.workspace.memory
        self._versions: dict[tuple[str, str], dict[str, str]] = {}

    def versions(self, read: str, key: str) -> Mapping[str, str]:
        if (read, key) not in self._versions:
            self._versions[read, key] = self.read_by.versions(self.entries[key], read)
        return self._versions[read, key]

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        declared = self.read_by.asset.reads[read]
        return self.cache.get(declared.asset, self.versions(read, key), declared.columns)

    def empty(self, read: str) -> pl.DataFrame:
        return pl.DataFrame(schema=dict(self.types(read)))

    def types(self, read: str) -> Mapping[str, pl.DataType]:
        declared = self.read_by.asset.reads[read]
        columns = self.read_by.workspace.project.assets[declared.asset].columns
        names = declared.columns or tuple(columns)
        return {name: columns[name].type for name in names if name in columns}

    def row_counts(self, read: str, key: str) -> Mapping[str, int]:
        declared = self.read_by.asset.reads[read]
        return {
            partition: self.cache.rows(declared.asset, partition, version)
            for partition, version in self.versions(read, key).items()
        }

    def files(self, read: str, key: str) -> Mapping[str, str]:
        declared = self.read_by.asset.reads[read]
        found = self.cache.local(declared.asset, self.versions(read, key))
        return {partition: str(file) for partition, file in found.items()}

    def landed(self, key: str) -> list[tuple[str, bytes]]:
        return self.read_by.landed(ordinal(key))

    def origin(self, read: str, key: str) -> Sequence[str]:
        return self.read_by.origin(self.entries[key], read)

    def released(self, key: str) -> frozenset[str]:
        return self.read_by.released(self.entries[key])

    def all_versions(self, key: str) -> dict[str, dict[str, str]]:
        """Input versions by asset and partition, as they stand in the record of a value."""
        whole: dict[str, dict[str, str]] = {}
        for name, read in self.read_by.asset.reads.items():
            whole.setdefault(read.asset, {}).update(self.versions(name, key))
        return whole
