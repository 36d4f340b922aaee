"""No row is lost, in any home of any test: what landed is valid or in quarantine, partition by partition.

Every lake that a test opens is looked at when the test ends, and before its folder goes away. An object is
looked at once: its rows and those in quarantine beside it must be as many as the raw partition has that it
was made from.
"""

import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from my_platform.storage.lake import Lake
from my_platform.storage.objects import FolderStore
from my_platform.storage.sealed import unseal
from my_platform.storage.trace_index import TraceIndex

_lakes: "weakref.WeakSet[Lake]" = weakref.WeakSet()
_homes: set[Path] = set()
_seen: set[tuple[str, int]] = set()


def watch_all_lakes() -> None:
    """Have every lake looked at that is opened in this process from now on."""
    opened = Lake.__init__

    def watched(self: Lake, *arguments: Any, **named: Any) -> None:
        opened(self, *arguments, **named)
        _lakes.add(self)

    Lake.__init__ = watched  # type: ignore[method-assign]


def watch(home: Path) -> None:
    """Have the lake of a home looked at that another process writes."""
    _homes.add(home)


def check() -> None:
    """Raise AssertionError, naming asset and partition, where rows were lost or are there twice."""
    for lake in _known():
        _check(lake)


def _known() -> Iterator[Lake]:
    yield from [lake for lake in _lakes if isinstance(lake.store, FolderStore)]
    while _homes:
        home = _homes.pop()
        index = home / "lake" / "index.sqlite"
        if index.exists():
            yield Lake(FolderStore(home / "lake"), FolderStore(home / "quarantine"), TraceIndex(index))


def _check(lake: Lake) -> None:
    for path, size in list(lake.store.list("validated")):
        if (path, size) in _seen:
            continue
        _seen.add((path, size))
        asset, partition, name = path.rsplit("/", 2)
        key = "" if partition == "all" else partition
        record = lake.record_at(asset, key, name.removesuffix(".parquet"))
        if record is None:
            continue
        raw = asset.replace("validated/", "raw/", 1)
        version = record["inputs"].get(raw, {}).get(key)
        made = version and lake.index.find(raw, key, version)
        trace = made and lake.index.trace(raw, key, made[0])
        if not trace:
            continue
        quarantined = _rows(lake, path)
        assert trace.rows == record["rows"] + quarantined, (
            f"{asset} {key}: {trace.rows} rows landed, {record['rows']} are valid and {quarantined} in quarantine"
        )


def _rows(lake: Lake, path: str) -> int:
    if not lake.quarantine.exists(path):
        return 0
    return unseal(lake.quarantine.read(path), path).select(pl.len()).item()
