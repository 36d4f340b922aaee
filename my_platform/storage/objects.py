"""Where objects lie: one small interface over a folder or an S3 bucket.

An object is written once, whole, and only if its name is free: the first writer wins and a reader sees all
of it or nothing. No lock is held, so none can be left by a process that died.
"""

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from my_platform.errors import DamagedObject
from my_platform.storage.bucket import Bucket, Patience, open_bucket

STAGING = ".staging"
# What a writer on another machine, or in another container, has staged for longer than this was left behind.
_LONGEST_WRITE_S = 86_400


class ObjectStore(Protocol):
    """Objects by relative path, parts separated by ``/``."""

    root: str

    def create(self, path: str, data: bytes) -> bool:
        """Write an object if its name is free; False where it was taken. Both outcomes leave it whole."""
        ...

    def create_from(self, path: str, file: Path) -> bool:
        """The same with the bytes of a local file."""
        ...

    def read(self, path: str) -> bytes:
        """The bytes of an object.

        Raises:
            DamagedObject: it is not there.
        """
        ...

    def exists(self, path: str) -> bool: ...

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def modified(self, path: str) -> float | None:
        """When an object was written, in seconds since 1970; None where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Paths and sizes in bytes of the objects below a folder, in no order."""
        ...


class FolderStore:
    """Objects in a local folder. A write goes to a staging folder and is linked to its name in one step."""

    def __init__(self, root: Path) -> None:
        self.folder = root
        self.root = str(root)

    def create(self, path: str, data: bytes) -> bool:
        return self._create(path, lambda staged: staged.write_bytes(data))

    def create_from(self, path: str, file: Path) -> bool:
        return self._create(path, lambda staged: shutil.copyfile(file, staged))

    def _create(self, path: str, write: Callable[[Path], object]) -> bool:
        target = self.folder / path
        staged = self._staged()
        try:
            write(staged)
            with contextlib.suppress(FileNotFoundError):
                return _link(staged, target)
            target.parent.mkdir(parents=True, exist_ok=True)
            return _link(staged, target)
        finally:
            staged.unlink(missing_ok=True)

    def read(self, path: str) -> bytes:
        try:
            return (self.folder / path).read_bytes()
        except FileNotFoundError:
            raise DamagedObject(f"{self.root}/{path}", "the object is not there") from None

    def exists(self, path: str) -> bool:
        return (self.folder / path).exists()

    def delete(self, path: str) -> None:
        (self.folder / path).unlink(missing_ok=True)

    def modified(self, path: str) -> float | None:
        try:
            return (self.folder / path).stat().st_mtime
        except FileNotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        base = self.folder / prefix
        for folder, names, files in os.walk(base):
            names[:] = [name for name in names if name != STAGING]
            for name in files:
                file = Path(folder) / name
                yield file.relative_to(self.folder).as_posix(), file.stat().st_size

    def sweep(self) -> int:
        """Remove what writers that no longer run left in the staging folder; the number of files."""
        removed = 0
        staging = self.folder / STAGING
        for writer in staging.iterdir() if staging.is_dir() else ():
            if has_ended(writer.name, writer):
                removed += sum(1 for _ in writer.iterdir())
                shutil.rmtree(writer, ignore_errors=True)
        return removed

    def _staged(self) -> Path:
        folder = self.folder / STAGING / this_writer()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / secrets.token_hex(8)


class BucketStore:
    """Objects in an S3-compatible bucket, created with a conditional put (``If-None-Match: *``).

    A put whose reply was lost is tried again and then finds its own object: the caller tells the two apart by the
    nonce that every sealed object carries.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.root = bucket.root
        self.traffic = bucket.traffic

    @classmethod
    def from_url(cls, url: str, patience: Patience | None = None) -> "BucketStore":
        """A store for ``s3://bucket/prefix``; credentials and endpoint come from the ``AWS_…`` environment."""
        return cls(open_bucket(url, patience))

    def create(self, path: str, data: bytes) -> bool:
        return self.bucket.put_new(path, data)

    def create_from(self, path: str, file: Path) -> bool:
        # A conditional write is one request, and its body lies in memory.
        return self.create(path, file.read_bytes())

    def read(self, path: str) -> bytes:
        try:
            return self.bucket.get(path)
        except FileNotFoundError:
            raise DamagedObject(f"{self.root}/{path}", "the object is not there") from None

    def exists(self, path: str) -> bool:
        return self.bucket.head(path) is not None

    def delete(self, path: str) -> None:
        self.bucket.delete(path)

    def modified(self, path: str) -> float | None:
        found = self.bucket.head(path)
        return float(found["last_modified"].timestamp()) if found is not None else None

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        for path, size, _ in self.entries(prefix):
            yield path, size

    def entries(self, prefix: str) -> Iterator[tuple[str, int, str]]:
        """Paths, sizes in bytes and ETags of the objects below a folder, in no order."""
        for entry in self.bucket.list(prefix.rstrip("/") + "/" if prefix else ""):
            yield entry["path"], entry["size"], str(entry["e_tag"])

    def replace(self, path: str, data: bytes) -> str:
        """Write an object whatever lies there; its ETag."""
        return self.bucket.put(path, data)

    def sweep(self) -> int:
        """A bucket has no staging area: an upload that was cut off leaves nothing behind."""
        return 0


def sweep_spill(folder: Path) -> int:
    """Remove what processes that no longer run left where rows are spilled; the number of processes."""
    left = [each for each in folder.glob("*@*") if has_ended(each.name, each)]
    for each in left:
        shutil.rmtree(each, ignore_errors=True)
    return len(left)


def open_store(location: str, patience: Patience | None = None) -> FolderStore | BucketStore:
    """The store at a folder or at ``s3://bucket/prefix``; ``patience`` is with a bucket."""
    if location.startswith("s3://"):
        return BucketStore.from_url(location, patience)
    return FolderStore(Path(location))


def replace_file(path: Path, data: bytes) -> None:
    """Write a local file so that a reader sees the whole of it or what was there before."""
    with _staged_beside(path, data) as staged:
        os.replace(staged, path)


def create_file(path: Path, data: bytes) -> bool:
    """Write a local file that is not there yet, whole and at once; whether this call has written it."""
    with _staged_beside(path, data) as staged:
        return _link(staged, path)


@contextlib.contextmanager
def _staged_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A hidden file with the data in the folder of a file; what writers that no longer run left is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        if has_ended(left.name.rpartition(".tmp-")[2].rpartition("-")[0], left):
            left.unlink(missing_ok=True)
    staged = path.with_name(f".{path.name}.tmp-{this_writer()}-{secrets.token_hex(4)}")
    try:
        staged.write_bytes(data)
        yield staged
    finally:
        staged.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Held by one process at a time; the kernel releases it when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def locked_if_free(path: Path, *, wait: bool) -> Iterator[bool]:
    """The same, and whether it is held: where it is not waited for and another process holds it, it is not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _link(staged: Path, target: Path) -> bool:
    try:
        os.link(staged, target)
    except FileExistsError:
        return False
    return True


def this_writer() -> str:
    """How this process is named where it stages what it writes."""
    return f"{os.getpid()}@{socket.gethostname()}"


def has_ended(writer: str, left: Path) -> bool:
    """Whether the process that left a path has ended; one of another machine is given a day."""
    pid, _, host = writer.partition("@")
    if host != socket.gethostname():
        with contextlib.suppress(FileNotFoundError):
            return time.time() - left.stat().st_mtime > _LONGEST_WRITE_S
        return False
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return True
    except PermissionError:
        return False
    return False
