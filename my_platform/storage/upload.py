"""Carrying files of a folder over into a bucket, each proved by its digest.

What lies in the bucket already, with the same bytes, is not sent again; so a transfer that was cut off goes on where
it was. An ETag that is the MD5 of the bytes proves them; where a store makes other ETags, the bytes are read back.
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from my_platform.errors import PlatformError
from my_platform.storage.objects import BucketStore

_AT_A_TIME = 8


@dataclass(frozen=True)
class Carried:
    """What a transfer did: files that are there now, with their bytes, and those of them that it sent."""

    files: int = 0
    bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0

    def __add__(self, other: "Carried") -> "Carried":
        return Carried(
            self.files + other.files,
            self.bytes + other.bytes,
            self.sent + other.sent,
            self.sent_bytes + other.sent_bytes,
        )


@dataclass(frozen=True)
class Piece:
    """Files of a folder and where they go.

    Attributes:
        names: relative to the folder, and to the prefix.
        prefix: below the root of the bucket store.
        check: raises where the bytes of a file are not what they should be, given them and its name.
        changes: whether a file of that name may be replaced, as landed files are; objects of a lake are not.
    """

    folder: Path
    prefix: str
    names: tuple[str, ...]
    check: Callable[[bytes, str], object] = lambda _data, _name: None
    changes: bool = False


def present(store: BucketStore, prefix: str) -> dict[str, tuple[int, str]]:
    """Size and ETag of what lies below a prefix, by its name there; a thousand a request."""
    return {path.removeprefix(f"{prefix}/"): (size, tag) for path, size, tag in store.entries(prefix)}


def carry(store: BucketStore, piece: Piece, *, dry_run: bool = False) -> Carried:
    """Bring the files of a piece into the bucket.

    Args:
        dry_run: only say what would be sent.

    Raises:
        PlatformError: another object lies under a name that is not to change, or the store gives other bytes back.
    """
    there = present(store, piece.prefix)
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        done = pool.map(lambda name: _carry(store, piece, name, there.get(name), dry_run), piece.names)
        return sum(done, Carried())


def signatures(piece: Piece) -> dict[str, tuple[int, int]]:
    """Size and time of change, in nanoseconds, of the files of a piece that are there."""
    found = {}
    for name in piece.names:
        with contextlib.suppress(FileNotFoundError):
            about = (piece.folder / name).stat()
            found[name] = (about.st_size, about.st_mtime_ns)
    return found


def files_below(folder: Path, leave: Callable[[str], bool] = lambda _: False) -> Iterator[str]:
    """The plain files in a folder and those within it, by relative path; hidden ones left out."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hidden = any(part.startswith(".") for part in name.split("/"))
        if not hidden and path.is_file() and not path.is_symlink() and not leave(name):
            yield name


def foreign(store: BucketStore, prefixes: Iterable[str]) -> str | None:
    """An object that lies below one of the prefixes; None where there is none."""
    for prefix in prefixes:
        for path, _, _ in store.entries(prefix):
            return path
    return None


def _carry(
    store: BucketStore, piece: Piece, name: str, there: tuple[int, str] | None, dry_run: bool
) -> Carried:
    try:
        data = (piece.folder / name).read_bytes()
    except FileNotFoundError:
        # Gone since it was listed: landed files are replaced and removed by their sources.
        return Carried()
    piece.check(data, f"{piece.folder}/{name}")
    path = f"{piece.prefix}/{name}"
    if there is not None and there[0] == len(data) and _proved(store, path, data, there[1]):
        return Carried(1, len(data))
    if there is not None and not piece.changes:
        raise PlatformError(
            f"{store.root}/{path} holds something else than {piece.folder}/{name}; move into a place that is empty"
        )
    if not dry_run:
        tag = store.replace(path, data)
        if not _proved(store, path, data, tag):
            raise PlatformError(
                f"{store.root}/{path} does not hold the bytes that were sent; use another store"
            )
    return Carried(1, len(data), 1, len(data))


def _proved(store: BucketStore, path: str, data: bytes, tag: str) -> bool:
    if tag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest():
        return True
    return hashlib.sha256(store.read(path)).digest() == hashlib.sha256(data).digest()
