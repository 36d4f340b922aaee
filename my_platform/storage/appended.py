"""Files of JSON lines that are only ever appended to, under a lock that the kernel releases when its holder dies."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from my_platform.errors import PlatformError
from my_platform.storage.objects import locked


class AppendedLines:
    """A file of JSON objects, one a line."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines, the earliest first.

        Raises:
            PlatformError: a finished line is no JSON.
        """
        if not self.path.exists():
            return
        for number, text in enumerate(self.path.read_bytes().splitlines(keepends=True), 1):
            # A line without its end is one that a dying machine did not finish: it never counted.
            if text.endswith(b"\n") and text.strip():
                try:
                    yield json.loads(text)
                except ValueError as error:
                    raise PlatformError(
                        f"{self.path}, line {number}: {error}; put the line back as it was, or remove it"
                    ) from error

    def append(self, line: Mapping[str, Any], *, unless: Callable[[], bool]) -> bool:
        """Write a line and have it on the disk, unless something holds once the lock is held; whether it was written."""
        with locked(self.path.with_suffix(".lock")):
            if unless():
                return False
            self._end_torn_line()
            with open(self.path, "ab") as file:
                file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        return True

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
