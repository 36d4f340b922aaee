"""Landed files and the ledger of their content.

Landing is written by source systems and only read here. A daily table is a folder of files named by day, a
table without partitions is one file. What a file says is known by its SHA-256 (its first 16 bytes), never
by its times; a file whose size, time and inode have not moved since it was hashed is not hashed again.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from my_platform.errors import PlatformError
from my_platform.incremental.declare import Grain, day_key, ordinal
from my_platform.storage.trace_index import LandedFile, TraceIndex

SUFFIXES = (".parquet", ".csv", ".csv.zst", ".csv.gz")
# A file that changed this recently may change again without its time moving on: it is hashed every time.
_UNSETTLED_NS = 2_000_000_000
# A file that was replaced while it was hashed is hashed again, this often.
_MOST_TRIES = 3


@dataclass(frozen=True)
class Listed:
    """A file as a listing shows it; ``mark`` changes whenever the file is replaced."""

    path: str
    size: int
    mtime_ns: int
    mark: int


class LandingPlace(Protocol):
    """Where landed files lie."""

    root: str

    def list(self, name: str) -> Iterator[Listed]:
        """Regular files in a folder, or the files of that name with any suffix; hidden ones left out."""
        ...

    def read(self, path: str) -> bytes: ...

    def stat(self, path: str) -> Listed | None: ...


class LandingFolder:
    """Landed files in a local folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        self.root = str(root)

    def list(self, name: str) -> Iterator[Listed]:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self.folder / name) as entries,
        ):
            for entry in entries:
                listed = self._listed(entry.path)
                if listed is not None:
                    yield listed
        for suffix in SUFFIXES:
            listed = self._listed(str(self.folder / f"{name}{suffix}"))
            if listed is not None:
                yield listed

    def read(self, path: str) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except PermissionError as error:
            raise PlatformError(
                f"{self.folder / path} cannot be read: {error.strerror}. Give the user of this process the right "
                "to read what lands"
            ) from error

    def stat(self, path: str) -> Listed | None:
        return self._listed(str(self.folder / path))

    def _listed(self, path: str) -> Listed | None:
        if os.path.basename(path).startswith("."):
            return None
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(found.st_mode):
            return None
        return Listed(os.path.relpath(path, self.folder), found.st_size, found.st_mtime_ns, found.st_ino)


class LandingBucket:
    """Landed files in an S3-compatible bucket; an object's mark is its ETag."""

    def __init__(self, url: str) -> None:
        from obstore.store import S3Store

        self.store = S3Store.from_url(url)
        self.root = url.rstrip("/")

    def list(self, name: str) -> Iterator[Listed]:
        import obstore

        for page in obstore.list(self.store, f"{name}/"):
            for entry in page:
                if not entry["path"].rpartition("/")[2].startswith("."):
                    yield self._listed(entry["path"], entry)
        for suffix in SUFFIXES:
            listed = self.stat(f"{name}{suffix}")
            if listed is not None:
                yield listed

    def read(self, path: str) -> bytes:
        import obstore

        return bytes(obstore.get(self.store, path).bytes())

    def stat(self, path: str) -> Listed | None:
        import obstore

        try:
            return self._listed(path, obstore.head(self.store, path))
        except FileNotFoundError:
            return None

    @staticmethod
    def _listed(path: str, entry: Mapping[str, object]) -> Listed:
        mark = int.from_bytes(hashlib.sha256(str(entry["e_tag"]).encode()).digest()[:7], "little")
        # A listing tells milliseconds, the head of one object whole seconds.
        modified_s = int(entry["last_modified"].timestamp())  # type: ignore[attr-defined]
        return Listed(path, int(str(entry["size"])), modified_s * 1_000_000_000, mark)


@dataclass(frozen=True)
class Landed:
    """What has landed of one table: digests and files by partition."""

    digests: Mapping[int, bytes] = field(default_factory=dict)
    files: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


class Landing:
    """Landed tables by name, with the ledger of what their files said when they were last read."""

    def __init__(self, place: LandingPlace, index: TraceIndex) -> None:
        self.place = place
        self.index = index
        self.hashed = 0

    def scan(self, tables: Mapping[str, Grain], *, verify: bool = False) -> dict[str, Landed]:
        """What has landed of each table.

        Args:
            tables: grain by table name.
            verify: hash every file, also those that have not moved.
        """
        known = {} if verify else self.index.landed()
        fresh: list[LandedFile] = []
        seen: set[str] = set()
        found: dict[str, Landed] = {}
        for name, grain in tables.items():
            parts: dict[int, list[tuple[str, bytes]]] = {}
            ignored = []
            for listed in sorted(self.place.list(name), key=lambda file: file.path):
                key = key_of(listed.path, name, grain)
                if key is None:
                    ignored.append(listed.path)
                    continue
                digest = self._digest(listed, known.get(listed.path), fresh)
                if digest is not None:
                    seen.add(listed.path)
                    parts.setdefault(key, []).append((listed.path, digest))
            found[name] = Landed(
                {key: _together([digest for _, digest in files]) for key, files in parts.items()},
                {key: tuple(path for path, _ in files) for key, files in parts.items()},
                tuple(ignored),
            )
        gone = [path for path in known if path not in seen and any(_belongs(path, name) for name in tables)]
        if fresh or gone:
            self.index.replace_landed(fresh, gone)
        return found

    def read(self, files: tuple[str, ...], digest: bytes) -> list[tuple[str, bytes]] | None:
        """Names and bytes of the files of a partition; None when they no longer say what the digest says."""
        contents = []
        for path in files:
            try:
                contents.append((f"{self.place.root}/{path}", self.place.read(path)))
            except FileNotFoundError:
                return None
        whole = _together([content_digest(data) for _, data in contents])
        return contents if whole == digest else None

    def still(self, files: tuple[str, ...], digest: bytes) -> bool:
        """Whether the files of a partition have not moved since they were hashed."""
        digests = []
        for path in files:
            listed, before = self.place.stat(path), self.index.landed_file(path)
            if listed is None or before is None:
                return False
            if (listed.size, listed.mtime_ns, listed.mark) != (before.size, before.mtime_ns, before.inode):
                return False
            digests.append(bytes.fromhex(before.digest))
        return _together(digests) == digest

    def has(self, name: str, grain: Grain, key: int) -> bool:
        """Whether there is a file for a partition now."""
        stem = name if grain is Grain.ONCE else f"{name}/{day_key(key)}"
        return any(self.place.stat(f"{stem}{suffix}") is not None for suffix in SUFFIXES)

    def _digest(self, listed: Listed, known: LandedFile | None, fresh: list[LandedFile]) -> bytes | None:
        if (
            known is not None
            and (known.size, known.mtime_ns, known.inode) == (listed.size, listed.mtime_ns, listed.mark)
            and known.hashed_at_ns - known.mtime_ns > _UNSETTLED_NS
        ):
            return bytes.fromhex(known.digest)
        for _ in range(_MOST_TRIES):
            hashed_at = TraceIndex.now_ns()
            try:
                digest = content_digest(self.place.read(listed.path))
            except FileNotFoundError:
                return None
            self.hashed += 1
            after = self.place.stat(listed.path)
            if after is None:
                return None
            if after == listed:
                fresh.append(
                    LandedFile(
                        listed.path, listed.size, listed.mtime_ns, listed.mark, digest.hex(), hashed_at
                    )
                )
                return digest
            listed = after
        # It is being written: until that is done, what it said before counts. It is not gone.
        return bytes.fromhex(known.digest) if known is not None else None


def key_of(path: str, name: str, grain: Grain) -> int | None:
    """The partition that a landed file holds by its name; None where the name is not that of a partition."""
    stem = path[: -len(suffix)] if (suffix := next((s for s in SUFFIXES if path.endswith(s)), "")) else ""
    if grain is Grain.ONCE:
        return 0 if stem == name else None
    folder, _, day = stem.rpartition("/")
    if folder != name:
        return None
    try:
        key = ordinal(day)
    except PlatformError:
        return None
    return key if day_key(key) == day else None


def _belongs(path: str, name: str) -> bool:
    return path.startswith(f"{name}/") or path.partition(".")[0] == name


def content_digest(data: bytes) -> bytes:
    """What a landed file says: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(data).digest()[:16]


def _together(digests: list[bytes]) -> bytes:
    return digests[0] if len(digests) == 1 else content_digest(b"".join(digests))
