"""The lake: values by what they were computed from.

The object of a partition lies at ``<asset>/<partition>/<fingerprint>.parquet``: its name depends on nothing
but the fingerprint, so whoever computes the same thing writes the same name, and the first one wins. It
carries the record of its making, and its data version, in its own metadata.
"""

import json
import secrets
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.errors import DamagedObject
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Grain, day_key, ordinal
from my_platform.incremental.parts import Parts, version_of_parts
from my_platform.incremental.planner import Past
from my_platform.storage.accepted import Events, accepted_inputs
from my_platform.storage.objects import BucketStore, FolderStore
from my_platform.storage.sealed import (
    check_seal,
    check_seal_of,
    record_of,
    seal,
    seal_parts,
    tables_of,
    unseal,
)
from my_platform.storage.trace_index import Cost, Trace, TraceIndex

ABSENT = "absent"
# Compressed, of files that are in memory together with their tables.
_READ_TOGETHER_BYTES = 64 << 20
# Objects of a bucket that are asked for before the first of them has come.
_READ_AHEAD = 8


@dataclass(frozen=True)
class Committed:
    """A value that is stored: its trace, whether this call stored it or found it there, and what it cost."""

    trace: Trace
    created: bool
    cost: Cost


class Lake:
    """Sealed tables in an object store, with the local index of their traces."""

    def __init__(
        self, store: FolderStore | BucketStore, quarantine: FolderStore | BucketStore, index: TraceIndex
    ) -> None:
        self.store = store
        self.quarantine = quarantine
        self.index = index
        self.reads = 0
        self.bytes_read = 0
        self._mean_bytes: dict[str, float] = {}

    def path(self, asset: str, partition: str, fingerprint: str) -> str:
        return f"{asset}/{partition or 'all'}/{fingerprint}.parquet"

    def commit(
        self,
        asset: str,
        partition: str,
        fingerprint: str,
        table: pl.DataFrame | Parts,
        record: Mapping[str, Any],
        *,
        code_version: str,
        seconds: float,
        quarantined: pl.DataFrame | None = None,
    ) -> Committed:
        """Store a value under its fingerprint, or adopt the one that another run stored first."""
        rows = table.rows if isinstance(table, Parts) else table.height
        version = version_of_parts(table) if isinstance(table, Parts) else data_version(table)
        nonce = secrets.token_hex(8)
        whole = {
            **record,
            "asset": asset,
            "partition": partition,
            "fingerprint": fingerprint,
            "data_version": version,
            "code_version": code_version,
            "rows": rows,
            "seconds": round(seconds, 6),
            "nonce": nonce,
        }
        path = self.path(asset, partition, fingerprint)
        if quarantined is not None and quarantined.height:
            self.quarantine.create(path, seal(quarantined, {"of": path}))
        if isinstance(table, Parts):
            sealed = seal_parts(table, whole, table.files[0].with_name("sealed.parquet"))
            created, size = self.store.create_from(path, sealed), sealed.stat().st_size
            sealed.unlink()
        else:
            data = seal(table, whole)
            created, size = self.store.create(path, data), len(data)
        if created:
            trace = Trace(asset, partition, fingerprint, version, code_version, rows, size, seconds)
            return Committed(trace, created=True, cost=_cost(whole, size))
        found, stored = self._trace_at(path)
        return Committed(found, created=stored["nonce"] == nonce, cost=_cost(whole, 0))

    def adopt(self, asset: str, partition: str, fingerprint: str) -> Trace | None:
        """The trace of a fingerprint whose object is in the store but not in the index; damaged ones go."""
        path = self.path(asset, partition, fingerprint)
        if not self.store.exists(path):
            return None
        try:
            trace, record = self._trace_at(path)
        except DamagedObject:
            self.discard(asset, partition, fingerprint)
            return None
        self.index.add([trace], [_cost(record, trace.bytes)])
        return trace

    def take(self, other: "Lake", asset: str, partition: str, version: str) -> None:
        """Take over a value from another lake, as it was made there; raises DamagedObject."""
        data = other.data(asset, partition, version)
        fingerprint = record_of(data, f"{asset} {partition}")["fingerprint"]
        self.store.create(self.path(asset, partition, fingerprint), data)
        self.adopt(asset, partition, fingerprint)

    def read(
        self, asset: str, partition: str, version: str, columns: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """The table of a data version, its bytes checked.

        Raises:
            DamagedObject: no whole object holds that version; the damaged ones are taken out of the store.
        """
        return unseal(self.data(asset, partition, version), f"{asset} {partition}".strip(), columns)

    def read_all(
        self, asset: str, versions: Mapping[str, str], columns: Sequence[str] | None = None
    ) -> dict[str, pl.DataFrame]:
        """The tables of several partitions, given with their data versions; as ``read``, and faster."""
        found: dict[str, pl.DataFrame] = {}
        files: dict[str, bytes] = {}
        for number, (partition, data) in enumerate(self._data_of(asset, versions), 1):
            files[partition] = data
            if number == len(versions) or sum(map(len, files.values())) >= _READ_TOGETHER_BYTES:
                found |= dict(zip(files, tables_of(list(files.values()), columns), strict=True))
                files = {}
        return found

    def _data_of(self, asset: str, versions: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        """The checked bytes of objects, in the order of their versions; of a bucket, some are on their way at a time."""
        at_a_time = self._at_a_time(asset) if len(versions) > 1 else 1
        if at_a_time < 2:
            for partition, version in versions.items():
                yield partition, self.data(asset, partition, version)
            return
        under_way: deque[tuple[str, str, Future[bytes] | None]] = deque()

        def first() -> tuple[str, bytes]:
            partition, version, reading = under_way.popleft()
            # What could not be read is read once more, to find another object or to be told.
            ahead = reading.result() if reading is not None and reading.exception() is None else None
            return partition, self.data(asset, partition, version, ahead)

        with ThreadPoolExecutor(at_a_time) as pool:
            for partition, version in versions.items():
                found = self.index.find(asset, partition, version)
                path = self.path(asset, partition, found[0]) if found else ""
                under_way.append((partition, version, pool.submit(self.store.read, path) if found else None))
                if len(under_way) == at_a_time:
                    yield first()
            while under_way:
                yield first()

    def _at_a_time(self, asset: str) -> int:
        """How many objects of an asset may be on their way at a time, and in memory; of a folder one."""
        if isinstance(self.store, FolderStore):
            return 1
        if asset not in self._mean_bytes:
            _, self._mean_bytes[asset] = self.index.mean_cost(asset)
        return min(_READ_AHEAD, int(_READ_TOGETHER_BYTES / max(self._mean_bytes[asset], 1.0)))

    def data(self, asset: str, partition: str, version: str, ahead: bytes | None = None) -> bytes:
        """The checked bytes of an object that holds a data version; raises DamagedObject.

        Args:
            ahead: those of the first object that may hold it, where they were read before.
        """
        damage: DamagedObject | None = None
        for fingerprint in self.index.find(asset, partition, version):
            path = self.path(asset, partition, fingerprint)
            try:
                data, ahead = self.store.read(path) if ahead is None else ahead, None
                if self._is_told_anew(path, data, version):
                    continue
            except DamagedObject as error:
                damage = error
                self.discard(asset, partition, fingerprint)
            else:
                self.reads += 1
                self.bytes_read += len(data)
                return data
        raise damage or self._none_holds(asset, partition, version)

    def _is_told_anew(self, path: str, data: bytes, version: str) -> bool:
        """Check an object's seal, and whether another machine has made it anew with another data version.

        That is so where a function is not deterministic; the index of this machine learns of it.
        """
        name = f"{self.store.root}/{path}"
        if isinstance(self.store, FolderStore):
            check_seal(data, name)
            return False
        record = record_of(data, name)
        if record["data_version"] == version:
            return False
        self.index.add([_trace(record, len(data))])
        return True

    def file(self, asset: str, partition: str, version: str, copies: Path) -> Path:
        """One of ``files``."""
        ((_, file),) = self.files(asset, {partition: version}, copies)
        return file

    def files(self, asset: str, versions: Mapping[str, str], copies: Path) -> Iterator[tuple[str, Path]]:
        """Local files that hold data versions, their bytes checked, by partition; raises DamagedObject.

        Args:
            copies: the folder that gets copies, where objects lie in a bucket.
        """
        if isinstance(self.store, FolderStore):
            for partition, version in versions.items():
                yield partition, self._checked_file(self.store, asset, partition, version)
            return
        for partition, data in self._data_of(asset, versions):
            copy = copies / self.path(asset, partition, versions[partition])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(data)
            yield partition, copy

    def _checked_file(self, store: FolderStore, asset: str, partition: str, version: str) -> Path:
        damage: DamagedObject | None = None
        for fingerprint in self.index.find(asset, partition, version):
            path = Path(store.root, self.path(asset, partition, fingerprint))
            try:
                size = check_seal_of(path)
            except DamagedObject as error:
                damage = error
                self.discard(asset, partition, fingerprint)
            else:
                self.reads += 1
                self.bytes_read += size
                return path
        raise damage or self._none_holds(asset, partition, version)

    def _none_holds(self, asset: str, partition: str, version: str) -> DamagedObject:
        where = f"{self.store.root}/{asset}/{partition or 'all'}"
        return DamagedObject(where, f"no object holds data version {version}")

    def record(self, asset: str, partition: str, version: str) -> dict[str, Any] | None:
        """How a data version was made; None where no whole object tells."""
        try:
            data = self.data(asset, partition, version)
        except DamagedObject:
            return None
        return record_of(data, f"{asset} {partition}")

    def record_at(self, asset: str, partition: str, fingerprint: str) -> dict[str, Any] | None:
        """The record of one object; None where it is missing, or damaged and so taken out."""
        path = self.path(asset, partition, fingerprint)
        try:
            return record_of(self.store.read(path), f"{self.store.root}/{path}")
        except DamagedObject:
            self.discard(asset, partition, fingerprint)
            return None

    def discard(self, asset: str, partition: str, fingerprint: str) -> None:
        """Take an object out of the store and the index, so that its partition is computed again."""
        self.store.delete(self.path(asset, partition, fingerprint))
        self.index.forget(asset, partition, fingerprint)

    def past(
        self,
        asset: str,
        grain: Grain,
        code: str,
        heads: Mapping[str, str],
        events: Events | None = None,
    ) -> Past:
        """What the planner needs to know of an asset; heads that name no stored object are seen through.

        Args:
            events: those of the heads, where they are known.
        """
        traces: dict[bytes, bytes] = {}
        coded: set[int] = set()
        versions: set[tuple[str, str]] = set()
        for trace in self.index.traces([asset]):
            traces[bytes.fromhex(trace.fingerprint)] = bytes.fromhex(trace.data_version)
            versions.add((trace.partition, trace.data_version))
            if trace.code_version == code:
                coded.add(ordinal(trace.partition))
        found: dict[int, bytes] = {}
        for partition, version in heads.items():
            if version == ABSENT or len(version) != 32:
                continue
            if (partition, version) not in versions:
                for trace in self._adopt_all(asset, partition):
                    traces[bytes.fromhex(trace.fingerprint)] = bytes.fromhex(trace.data_version)
                    versions.add((trace.partition, trace.data_version))
            if (partition, version) in versions:
                found[ordinal(partition)] = bytes.fromhex(version)
        refusals = {
            bytes.fromhex(fingerprint): (partition, reason)
            for (name, partition, fingerprint), reason in self.index.refusals().items()
            if name == asset
        }

        refused = {partition for partition, _ in refusals.values()}
        current = {p: found[key].hex() for p in sorted(refused) if (key := ordinal(p)) in found}
        accepted, alike = {}, {}
        for partition, inputs, others in accepted_inputs(self, asset, current, code, events):
            accepted[ordinal(partition)], alike[ordinal(partition)] = inputs, others
        reasons = {fingerprint: reason for fingerprint, (_, reason) in refusals.items()}
        return Past(found, traces, frozenset(coded), reasons, accepted, alike)

    def sweep(self) -> int:
        """Remove what killed writers left half-written; the number of files."""
        return self.store.sweep() + self.quarantine.sweep()

    def rebuild_index(self) -> int:
        """Fill the index from the objects; the number of traces found."""
        traces, costs = [], []
        for path, _ in self.store.list(""):
            if path.endswith(".parquet"):
                try:
                    trace, record = self._trace_at(path)
                except DamagedObject:
                    self.store.delete(path)
                else:
                    traces.append(trace)
                    costs.append(_cost(record, trace.bytes))
        self.index.add(traces, costs)
        return len(traces)

    def verify(self, heads: Mapping[str, Mapping[str, str]]) -> list[str]:
        """Read the objects of all heads; those that are damaged are taken out, and named."""
        damaged = []
        for asset, partitions in heads.items():
            for partition, version in partitions.items():
                if version == ABSENT:
                    continue
                try:
                    self.data(asset, partition, version)
                except DamagedObject as error:
                    damaged.append(str(error))
        return damaged

    def quarantined(
        self, asset: str, partition: str, version: str, made_by: str | None = None
    ) -> pl.DataFrame | None:
        """The rows that were turned away when a data version was made; None where there were none.

        Args:
            made_by: the fingerprint that the version was made by, where it is known; others may have given the
                same version and turned other rows away.

        Raises:
            DamagedObject: they cannot be read; they and the value are taken out, to be computed again.
        """
        known = self.index.find(asset, partition, version)
        for fingerprint in [made_by] if made_by in known else known:
            path = self.path(asset, partition, fingerprint)
            if self.quarantine.exists(path):
                try:
                    return unseal(self.quarantine.read(path), f"{self.quarantine.root}/{path}")
                except DamagedObject:
                    self.quarantine.delete(path)
                    self.discard(asset, partition, fingerprint)
                    raise
        return None

    def keep_refused(self, asset: str, partition: str, fingerprint: str, rows: pl.DataFrame) -> None:
        """Keep the rows for which the inputs of a partition were refused as a whole."""
        path = self.path(asset, partition, fingerprint)
        self.quarantine.create(path, seal(rows, {"refused": path}))

    def refused_rows(self, asset: str, partition: str, fingerprint: str) -> pl.DataFrame | None:
        """The rows for which inputs were refused; None where none are kept, or they are damaged."""
        path = self.path(asset, partition, fingerprint)
        try:
            return unseal(self.quarantine.read(path), f"{self.quarantine.root}/{path}")
        except DamagedObject:
            return None

    def _adopt_all(self, asset: str, partition: str) -> Iterator[Trace]:
        for path, _ in list(self.store.list(f"{asset}/{partition or 'all'}")):
            fingerprint = path.rpartition("/")[2].removesuffix(".parquet")
            trace = self.adopt(asset, partition, fingerprint)
            if trace is not None:
                yield trace

    def _trace_at(self, path: str) -> tuple[Trace, dict[str, Any]]:
        data = self.store.read(path)
        record = record_of(data, f"{self.store.root}/{path}")
        trace = _trace(record, len(data))
        if self.path(trace.asset, trace.partition, trace.fingerprint) != path:
            raise DamagedObject(f"{self.store.root}/{path}", "the object of another partition lies there")
        return trace, record


def _trace(record: Mapping[str, Any], size: int) -> Trace:
    """The trace that the record of an object of so many bytes tells of."""
    return Trace(
        record["asset"],
        record["partition"],
        record["fingerprint"],
        record["data_version"],
        record["code_version"],
        record["rows"],
        size,
        record["seconds"],
    )


def _cost(record: Mapping[str, Any], written_bytes: int) -> Cost:
    """What the record of a value says of its cost; zeros where it says nothing."""
    return Cost(
        record["asset"],
        record["partition"],
        record["fingerprint"],
        record.get("run_id", ""),
        record.get("at", 0.0),
        record["seconds"],
        record.get("cpu_seconds", 0.0),
        record.get("peak_memory_bytes", 0),
        record.get("bytes_read", 0),
        written_bytes,
        record.get("gpu_seconds", 0.0),
        record.get("gpu_idle_seconds"),
        record.get("gpu_waited_seconds"),
    )


def files_table(files: Mapping[str, bytes | str]) -> pl.DataFrame:
    """A table that holds files: one row a file, with its name and its bytes."""
    names = sorted(files)
    contents = [data.encode() if isinstance(data := files[name], str) else data for name in names]
    return pl.DataFrame(
        {"name": names, "content": contents}, schema={"name": pl.String, "content": pl.Binary}
    )


def file_in(table: pl.DataFrame, name: str) -> bytes:
    """The bytes of one file of a table of files."""
    content = table.filter(pl.col("name") == name).get_column("content").item()
    assert isinstance(content, bytes)
    return content


def json_in(table: pl.DataFrame, name: str) -> Any:
    return json.loads(file_in(table, name))


def partition_key(grain: Grain, key: int) -> str:
    """The partition key of the planner's number."""
    return "" if grain is Grain.ONCE else day_key(key)
