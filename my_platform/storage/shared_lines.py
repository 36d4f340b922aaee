"""Lines that machines append to together: objects of a store are the truth, and a file of each machine a copy of them.

Line 7 is the object ``00000007.json``. To create it, which one of all can, is to append it: so a line comes after all that
its author knew of, and there is no lock that a dead process could hold. The copy is what all readers read. How much of it
is known to be the shared lines stands in a note beside it; where the two do not fit, every line is compared again.
"""

import hashlib
import json
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from my_platform.errors import DamagedObject, PlatformError
from my_platform.storage.appended import AppendedLines, Unless
from my_platform.storage.objects import ObjectStore, replace_file
from my_platform.storage.traffic import Traffic

Line = Mapping[str, Any]


def _nothing(_line: Line) -> None:
    return None


class SharedLines:
    """A file of JSON objects, one a line, whose truth lies in a store. Safe for threads and processes.

    Every method raises StorageUnavailable where the store does not answer.

    Args:
        path: the file; lines that it has and the store lacks are sent there.
        name: the folder of the objects in the store.
        before_sent: makes sure that what a line names is in the store before the line is.
        before_taken: makes sure that what a line names is on this machine before the line is.
    """

    def __init__(
        self,
        path: Path,
        store: ObjectStore,
        name: str,
        *,
        before_sent: Callable[[Line], None] = _nothing,
        before_taken: Callable[[Line], None] = _nothing,
    ) -> None:
        self.path = path
        self.name = name
        self._store = store
        self._before_sent, self._before_taken = before_sent, before_taken
        self._copy = AppendedLines(path)
        self._note = path.with_suffix(".shared")

    @property
    def traffic(self) -> Traffic | None:
        """What was asked of the store; None where it is no bucket."""
        return getattr(self._store, "traffic", None)

    def read(self) -> Iterator[dict[str, Any]]:
        """The lines, the earliest first; the copy has them all then. See ``pull``."""
        yield from self.pull()

    def append(self, line: Line, *, unless: Unless) -> bool:
        """Write a line after all others, unless something holds of these; whether it was written. See ``pull``.

        A line counts from the moment at which its object is there, also where the call is cut off after that.
        """
        # Told apart from a line with the same words: a reply may be lost, and the next try finds its own object.
        data = _sealed(line, secrets.token_hex(16))
        ready = False
        while True:
            lines = self.pull()
            if unless(iter(lines)):
                return False
            if lines and not self._store.exists(self._object(len(lines))):
                # Objects were lost. What is compared again is sent again.
                self._forget()
                continue
            if not ready:
                self._before_sent(line)
                ready = True
            if self._claim(len(lines) + 1, data):
                self._take([line], lines)
                return True

    def pull(self) -> list[dict[str, Any]]:
        """Bring the copy up to date and give its lines: one request where nothing is new.

        Raises:
            PlatformError: the copy has another line than the store, or an object is missing or no line.
        """
        while True:
            texts = self._copy.texts()
            here = list(self._copy.parsed(texts))
            known = self._known(texts)
            new = self._compared(here, known)
            if not new and known == len(texts):
                return here
            # Where another process has taken lines meanwhile, it begins anew.
            if self._copy.extend(new, after=texts):
                self._remember(self._copy.texts()[: len(here) + len(new)])
                return [*here, *new]

    def compare(self) -> list[dict[str, Any]]:
        """The same, each line compared with what lies in the store, and sent again where it is gone there."""
        self._forget()
        return self.pull()

    def _compared(self, here: Sequence[dict[str, Any]], known: int) -> list[dict[str, Any]]:
        """The lines of the store that come after those that are here; of these, the ones not known are compared."""
        # Only who starts from nothing lists: afterwards, a line more is seen by asking for it.
        last = 0 if known else self._last()
        new: list[dict[str, Any]] = []
        number = known
        while True:
            number += 1
            there = self._fetch(number) if known or number <= last else None
            if number <= len(here):
                self._settle(number, here[number - 1], there)
            elif there is None:
                break
            else:
                self._before_taken(there)
                new.append(there)
        if number <= last:
            raise PlatformError(
                f"{self._called(number)} is missing, and later ones are there: put it back, or call `my-platform "
                f"doctor` on a machine that has line {number} in its {self.path.name}, which sends it again"
            )
        return new

    def _settle(self, number: int, here: dict[str, Any], there: dict[str, Any] | None) -> None:
        """Send a line of the copy to where it belongs, unless it lies there."""
        if there is None:
            self._before_sent(here)
            if self._claim(number, _sealed(here, secrets.token_hex(16))):
                return
            there = self._fetch(number)
        if there != here:
            raise PlatformError(
                f"{self.path}, line {number} is not what {self._called(number)} says: this machine's lines are not "
                f"those that all machines share. Nothing was changed. The shared ones count: move {self.path} away, "
                "which keeps what it says, and do again what of it is to count"
            )
        self._before_taken(there)

    def _claim(self, number: int, data: bytes) -> bool:
        """Whether the line of that number is this one, by this call."""
        path = self._object(number)
        return self._store.create(path, data) or self._store.read(path) == data

    def _fetch(self, number: int) -> dict[str, Any] | None:
        """The line of that number; None where there is none."""
        try:
            data = self._store.read(self._object(number))
        except DamagedObject:
            return None
        try:
            line = json.loads(data)["line"]
        except (ValueError, LookupError, TypeError) as error:
            raise self._no_line(number, error) from error
        if not isinstance(line, dict):
            raise self._no_line(number, "its line is no JSON object")
        return line

    def _no_line(self, number: int, why: object) -> PlatformError:
        return PlatformError(
            f"{self._called(number)} is damaged, as it holds no line ({why}): put it back as it was, or remove "
            f"it: `my-platform doctor` on a machine that has line {number} in its {self.path.name} sends it again"
        )

    def _last(self) -> int:
        """The highest number that is there."""
        names = (path.rpartition("/")[2].removesuffix(".json") for path, _ in self._store.list(self.name))
        return max((int(name) for name in names if name.isdecimal()), default=0)

    def _take(self, new: Sequence[Line], after: Sequence[Line]) -> None:
        """Write lines that are shared now into the copy; another process, or the next look, may have to."""
        texts = self._copy.texts()
        if len(texts) == len(after) and self._copy.extend(new, after=texts):
            self._remember(self._copy.texts()[: len(after) + len(new)])

    def _known(self, texts: Sequence[bytes]) -> int:
        """How many lines of the copy are known to be the shared ones."""
        try:
            note = json.loads(self._note.read_bytes())
            place, lines, digest = note["place"], int(note["lines"]), note["sha256"]
        except (FileNotFoundError, ValueError, LookupError, TypeError):
            return 0
        fits = (place, digest) == (self._place, _digest(texts[:lines])) and lines <= len(texts)
        return lines if fits else 0

    def _forget(self) -> None:
        self._note.unlink(missing_ok=True)

    def _remember(self, texts: Sequence[bytes]) -> None:
        note = {"place": self._place, "lines": len(texts), "sha256": _digest(texts)}
        replace_file(self._note, json.dumps(note).encode() + b"\n")

    @property
    def _place(self) -> str:
        return f"{self._store.root}/{self.name}"

    def _called(self, number: int) -> str:
        return f"{self._store.root}/{self._object(number)}"

    def _object(self, number: int) -> str:
        return f"{self.name}/{number:08}.json"


def _sealed(line: Line, nonce: str) -> bytes:
    return json.dumps({"line": line, "nonce": nonce}, sort_keys=True).encode()


def _digest(texts: Sequence[bytes]) -> str:
    return hashlib.sha256(b"".join(texts)).hexdigest()
