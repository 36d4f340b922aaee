"""The promotion ledger: who made which model champion, when, why, and on what figures. Only ever appended to.

It is the truth about what serves: the champion is what its last line says. A change is compared with what its
author had seen and appended under a lock that the kernel releases when its holder dies, so two promotions at
once become one after the other, the second one knowing of the first.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from my_platform.errors import PlatformError
from my_platform.incremental.declare import ordinal
from my_platform.storage.appended import AppendedLines

Action = Literal["promote", "rollback"]


@dataclass(frozen=True)
class Served:
    """A model that serves or has served.

    Attributes:
        model, week, version: asset, partition and data version.
        recipe: what it is made by; see ``contender.recipe_of``.
        bundle: the digest of the bundle that holds it.
        number: its version in MLflow's registry; empty where it has none.
    """

    model: str
    week: str
    version: str
    recipe: str
    bundle: str
    number: str = ""


@dataclass(frozen=True)
class Line:
    """One line of the ledger.

    Attributes:
        at: when, ISO 8601 in UTC.
        why: in words.
        forced: whether a person overruled the gate.
        gate: the verdict with its figures; empty for a rollback.
        measured: what the model took, beside its budget.
        from_day: the first day whose rows it scores in bulk, YYYY-MM-DD: the one after the last that had landed.
    """

    at: str
    who: str
    action: Action
    use: str
    why: str
    before: Served | None
    after: Served
    forced: bool = False
    gate: Mapping[str, Any] = field(default_factory=dict)
    measured: Mapping[str, Any] = field(default_factory=dict)
    from_day: str = ""

    def as_json(self) -> dict[str, Any]:
        """The line as it stands in the file."""
        return asdict(self)

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> "Line":
        """The line that ``as_json`` gave."""
        before = Served(**stored["before"]) if stored["before"] else None
        return cls(**{**stored, "before": before, "after": Served(**stored["after"])})


@dataclass(frozen=True)
class Standing:
    """Who serves a use: the champion on top of those before it, and how many lines say so."""

    serving: Sequence[Served]
    lines: int

    @property
    def champion(self) -> Served | None:
        return self.serving[-1] if self.serving else None

    @property
    def previous(self) -> Served | None:
        """What a rollback goes back to."""
        return self.serving[-2] if len(self.serving) > 1 else None


def champions_by_day(lines: Sequence[Line], last: int) -> dict[int, bytes]:
    """The champion of each day up to a last one, by the first 16 bytes of its bundle's name; days since 1970.

    A promotion or a rollback counts from its own day on and changes no day before it. A line of an earlier version,
    which names none, counts from the day on which it was written.
    """
    found: dict[int, bytes] = {}
    first = None
    for line in lines:
        day = ordinal(line.from_day or line.at[:10])
        first = day if first is None else max(first, day)
        found |= dict.fromkeys(range(first, last + 1), bytes.fromhex(line.after.bundle)[:16])
    return found


def now() -> str:
    """The time of a line."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class PromotionLedger:
    """The ledger in a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = AppendedLines(path)

    def uses(self) -> list[str]:
        """What models were ever promoted for."""
        return sorted({line.use for line in self._read()})

    def use_named(self, name: str | None) -> str:
        """The use of that name, or the only one where none is named.

        Raises:
            PlatformError: no model was ever promoted for it, or it has to be said which.
        """
        known = self.uses()
        if name is None and len(known) == 1:
            return known[0]
        if name is None or name not in known:
            told = ", ".join(known) or "none, as no model was ever promoted"
            raise PlatformError(f"say for which use of models; there are {told}")
        return name

    def lines(self, use: str) -> list[Line]:
        """The lines of a use, the earliest first."""
        return [line for line in self._read() if line.use == use]

    def standing(self, use: str) -> Standing:
        """Who serves a use now, and who did before."""
        lines = self.lines(use)
        serving: list[Served] = []
        for line in lines:
            if line.action == "rollback":
                serving.pop()
            else:
                serving.append(line.after)
        return Standing(serving, len(lines))

    def append(self, line: Line, seen: Standing) -> bool:
        """Write a line, unless another has come since its author looked; whether it was written."""
        return self._file.append(line.as_json(), unless=lambda: self.standing(line.use).lines != seen.lines)

    def _read(self) -> Iterator[Line]:
        return map(Line.of_json, self._file.read())
