"""Files of JSON lines that are only ever appended to, under a lock that the kernel releases when its holder dies."""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from my_platform.errors import PlatformError
from my_platform.storage.objects import locked
from my_platform.storage.traffic import Traffic

Unless = Callable[[Iterator[dict[str, Any]]], bool]
"""Whether a line is not to be written, after the lines that are there; they are read only if they are asked for."""


class Lines(Protocol):
    """JSON objects that are only ever appended to, with a file that has them."""

    path: Path

    @property
    def traffic(self) -> Traffic | None:
        """What was asked of a bucket; None where none is asked."""
        ...

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines, the earliest first."""
        ...

    def append(self, line: Mapping[str, Any], *, unless: Unless) -> bool:
        """Write a line after all others, unless something holds of these; whether it was written."""
        ...


class AppendedLines:
    """A file of JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.traffic: Traffic | None = None

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines, the earliest first.

        Raises:
            PlatformError: a finished line is no JSON.
        """
        yield from self.parsed(self.texts())

    def append(self, line: Mapping[str, Any], *, unless: Unless) -> bool:
        """Write a line and have it on the disk, unless something holds once the lock is held; whether it was written."""
        with locked(self.path.with_suffix(".lock")):
            if unless(self.read()):
                return False
            self._write([line])
        return True

    def texts(self) -> list[bytes]:
        """The lines as their bytes."""
        if not self.path.exists():
            return []
        # A line without its end is one that a dying machine did not finish: it never counted.
        found = self.path.read_bytes().splitlines(keepends=True)
        return [text for text in found if text.endswith(b"\n") and text.strip()]

    def parsed(self, texts: Sequence[bytes]) -> Iterator[dict[str, Any]]:
        """What lines of the file say; raises as ``read`` does."""
        for number, text in enumerate(texts, 1):
            try:
                yield json.loads(text)
            except ValueError as error:
                raise PlatformError(
                    f"{self.path}, line {number}: {error}; put the line back as it was, or remove it"
                ) from error

    def extend(self, lines: Sequence[Mapping[str, Any]], *, after: Sequence[bytes]) -> bool:
        """Write lines behind those that were seen, unless the file has others by now; whether they were written."""
        with locked(self.path.with_suffix(".lock")):
            if self.texts() != after:
                return False
            self._write(lines)
        return True

    def _write(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._end_torn_line()
        with open(self.path, "ab") as file:
            file.write(b"".join(json.dumps(line, sort_keys=True).encode() + b"\n" for line in lines))
            file.flush()
            os.fsync(file.fileno())

    def _end_torn_line(self) -> None:
        """Take off what a dying machine had begun to write; no other writer is there while the lock is held."""
        if not self.path.exists() or self._ends_whole():
            return
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            os.truncate(self.path, len(whole))

    def _ends_whole(self) -> bool:
        with open(self.path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            return file.read(1) in (b"\n", b"")
