"""Where landed files lie: a local folder or an S3 bucket.

Sources write here, and people make mistakes: what is no plain file is listed as what it is, and never
followed, opened or waited for.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from my_platform.errors import PlatformError
from my_platform.storage.bucket import Patience, open_bucket
from my_platform.storage.objects import create_file, replace_file

if TYPE_CHECKING:
    from obstore import ObjectMeta

SUFFIXES = (".parquet", ".csv", ".csv.zst", ".csv.gz")
_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_LONGEST_SHOWN = 300
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Listed:
    """A file as a listing shows it; ``mark`` changes whenever the file is replaced.

    Attributes:
        kind: what it is where it is no plain file, such as "a pipe"; empty for plain files.
    """

    path: str
    size: int
    mtime_ns: int
    mark: int
    kind: str = ""


class Unreadable(PlatformError):
    """What lies in landing cannot be listed or read; its text says what, why, and what to do."""


class LandingPlace(Protocol):
    """Where landed files lie."""

    root: str

    def list(self, name: str) -> Iterator[Listed]:
        """What lies in a folder, or the files of that name with any suffix; hidden names left out.

        Raises:
            Unreadable: the folder cannot be listed.
        """
        ...

    def read(self, path: str) -> bytes:
        """The bytes of a plain file.

        Raises:
            FileNotFoundError: there is none any more.
            Unreadable: it cannot be read.
        """
        ...

    def read_listed(self, path: str) -> tuple[bytes, Listed | None]:
        """The same, and how a listing shows the file now that it was read; None where it is gone.

        Raises:
            FileNotFoundError: there is none any more.
            Unreadable: it cannot be read.
        """
        ...

    def stat(self, path: str) -> Listed | None: ...

    def below(self, folder: str) -> Iterator[str]:
        """The paths of all plain files in a folder and those within it; hidden names left out."""
        ...

    def create(self, path: str, data: bytes) -> None:
        """Write a file whole; only decisions and choices are written here, each under a name of its own.

        Raises:
            PlatformError: it cannot be written.
        """
        ...

    def create_new(self, path: str, data: bytes) -> bool:
        """The same where there is no such file yet; of several that do it at once one has written it.

        Raises:
            PlatformError: it cannot be written.
        """
        ...


class LandingFolder:
    """Landed files in a local folder."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)

    def list(self, name: str) -> Iterator[Listed]:
        try:
            names = os.listdir(f"{self.root}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            names = []
        except OSError as error:
            raise self._unreadable(name, error) from error
        for path in (*(f"{name}/{found}" for found in names), *(f"{name}{suffix}" for suffix in SUFFIXES)):
            listed = self.stat(path)
            if listed is not None:
                yield listed

    def read(self, path: str) -> bytes:
        # A link or a pipe that has taken the place of a file is neither followed nor waited for.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with open(os.open(f"{self.root}/{path}", flags), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise FileNotFoundError(f"{self.root}/{path} is no plain file")
                return file.read()
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.ENOTDIR):
                raise FileNotFoundError(f"{self.root}/{path} is no plain file") from error
            raise self._unreadable(path, error) from error

    def read_listed(self, path: str) -> tuple[bytes, Listed | None]:
        return self.read(path), self.stat(path)

    def stat(self, path: str) -> Listed | None:
        if os.path.basename(path).startswith("."):
            return None
        try:
            found = os.lstat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._unreadable(path, error) from error
        kind = "" if stat.S_ISREG(found.st_mode) else _KINDS.get(stat.S_IFMT(found.st_mode), "no plain file")
        return Listed(path, found.st_size, found.st_mtime_ns, found.st_ino, kind)

    def below(self, folder: str) -> Iterator[str]:
        for found, folders, files in os.walk(f"{self.root}/{folder}"):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = os.path.relpath(found, self.root)
            for name in files:
                listed = self.stat(f"{inside}/{name}")
                if listed is not None and not listed.kind:
                    yield listed.path

    def create(self, path: str, data: bytes) -> None:
        try:
            replace_file(Path(self.root) / path, data)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def create_new(self, path: str, data: bytes) -> bool:
        try:
            return create_file(Path(self.root) / path, data)
        except OSError as error:
            raise self._unwritable(path, error) from error

    def _unwritable(self, path: str, error: OSError) -> PlatformError:
        return PlatformError(
            f"{self.root}/{path} cannot be written: {error.strerror}. Give the user of this process the right "
            "to write there"
        )

    def _unreadable(self, path: str, error: OSError) -> Unreadable:
        return Unreadable(
            f"{shown(f'{self.root}/{path}')} cannot be read: {error.strerror}. Give the user of this process "
            "the right to read what lands"
        )


class LandingBucket:
    """Landed files in an S3-compatible bucket; an object's mark is its ETag."""

    def __init__(self, url: str, patience: Patience | None = None) -> None:
        self.bucket = open_bucket(url, patience)
        self.root = self.bucket.root
        self.traffic = self.bucket.traffic

    def list(self, name: str) -> Iterator[Listed]:
        for path, size, modified, tag in self._entries(f"{name}/"):
            if not path.rpartition("/")[2].startswith("."):
                yield self._listed(path, size, modified, tag)
        for suffix in SUFFIXES:
            listed = self.stat(f"{name}{suffix}")
            if listed is not None:
                yield listed

    def read(self, path: str) -> bytes:
        return self.bucket.get(path)

    def read_listed(self, path: str) -> tuple[bytes, Listed | None]:
        # The answer that brings an object says what it is: it changes as a whole.
        data, found = self.bucket.get_known(path)
        return data, self._found(path, found)

    def stat(self, path: str) -> Listed | None:
        found = self.bucket.head(path)
        return self._found(path, found) if found else None

    def below(self, folder: str) -> Iterator[str]:
        for path, _, _, _ in self._entries(f"{folder}/"):
            if not path.rpartition("/")[2].startswith("."):
                yield path

    def create(self, path: str, data: bytes) -> None:
        self.bucket.put(path, data)

    def create_new(self, path: str, data: bytes) -> bool:
        # What lies there may be what this call has written, if its reply was lost.
        return self.bucket.put_new(path, data) or self.bucket.get(path) == data

    def _entries(self, prefix: str) -> Iterator[tuple[str, int, datetime, str]]:
        from obstore.exceptions import InvalidPathError

        try:
            for entry in self.bucket.list(prefix):
                yield entry["path"], entry["size"], entry["last_modified"], str(entry["e_tag"])
        except InvalidPathError:
            # One key that obstore holds for no path, such as `a/../b`, keeps it from listing all others.
            yield from self._every_key(prefix)

    def _every_key(self, prefix: str) -> Iterator[tuple[str, int, datetime, str]]:
        import boto3

        bucket, _, folder = self.root.removeprefix("s3://").partition("/")
        below = f"{folder}/" if folder else ""
        answers = (
            boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=below + prefix)
        )
        for page in answers:
            self.traffic.count(list=1)
            for entry in page.get("Contents", ()):
                yield entry["Key"].removeprefix(below), entry["Size"], entry["LastModified"], entry["ETag"]

    def _found(self, path: str, found: "ObjectMeta") -> Listed:
        return self._listed(path, found["size"], found["last_modified"], str(found["e_tag"]))

    @staticmethod
    def _listed(path: str, size: int, modified: datetime, tag: str) -> Listed:
        mark = int.from_bytes(hashlib.sha256(tag.strip('"').encode()).digest()[:7], "little")
        # A listing tells milliseconds, the head of one object whole seconds.
        return Listed(path, size, int(modified.timestamp()) * 1_000_000_000, mark)


def open_place(url: str, patience: Patience | None = None) -> LandingPlace:
    """The landing place of a folder or of s3://bucket/prefix; ``patience`` is with a bucket."""
    return LandingBucket(url, patience) if "://" in url else LandingFolder(Path(url))


def is_hostile(path: str) -> bool:
    """Whether a name is none that a source gives by mistake: it leaves its folder, is not to be printed, or endless."""
    steps = path.replace("\\", "/").split("/")
    return (
        any(step in ("", ".", "..") or len(step) > _LONGEST_NAME for step in steps) or not path.isprintable()
    )


def shown(name: str) -> str:
    """A name as it can be printed: control characters escaped, and the middle of a long one left out."""
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
    if len(text) <= _LONGEST_SHOWN:
        return text
    half = _LONGEST_SHOWN // 2
    return f"{text[:half]}…{text[-half:]} ({len(name)} characters)"
