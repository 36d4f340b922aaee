"""What the benchmark asks of a system: build the small domain, take an edit, say what was computed for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks._peers.shop import Contents


@dataclass(frozen=True)
class Answer:
    """What a system did about an edit.

    Attributes:
        computed: a partition for each time that it was computed, as asset and day.
        contents: the rows that the system shows afterwards.
    """

    computed: Sequence[tuple[str, str]]
    contents: Contents


@dataclass(frozen=True)
class Edit:
    """An edit of landed data or of the feature's code.

    Attributes:
        apply: makes the edit in a system's folder.
        kind: ``data`` or ``code``.
        day: the day that landed again; empty for code.
        real: whether the code means something else afterwards.
    """

    apply: Callable[[Path], None]
    kind: str
    day: str = ""
    real: bool = False


@dataclass(frozen=True)
class Way:
    """How a system is driven: what its user runs after an edit of data, and after one of code."""

    name: str
    on_data: str
    on_code: str

    def on(self, edit: Edit) -> str:
        return self.on_data if edit.kind == "data" else self.on_code


@dataclass(frozen=True)
class Code:
    """Where the feature's code lies in a system's folder, and its two edits as texts to replace."""

    file: str
    cosmetic: tuple[tuple[str, str], ...]
    real: tuple[tuple[str, str], ...]


class System(Protocol):
    """One system with the small domain; its folder holds ``landing`` and all that it writes."""

    name: str
    ways: Sequence[Way]
    code: Code

    def versions(self) -> str:
        """The packages that are measured, with their versions."""
        ...

    def build(self, folder: Path) -> None:
        """Build everything from what has landed."""
        ...

    def contents(self, folder: Path) -> Contents: ...

    def answer(self, folder: Path, way: Way, edit: Edit) -> Answer:
        """Apply an edit to a folder that was built, and do what the system does about it."""
        ...
