"""The promotion ledger: who made which model champion, when, why, and on what figures. Only ever appended to.

It is the truth about what serves: the champion is what its last line says. A change is compared with what its
author had seen and appended so that no other comes in between, so two promotions at once become one after the other,
the second one knowing of the first. No lock of a process that died keeps anybody out: see ``storage.appended`` for the
ledger of one machine, ``storage.shared_lines`` for one of several.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from my_platform.errors import PlatformError
from my_platform.incremental.declare import ordinal
from my_platform.storage.appended import AppendedLines, Lines
from my_platform.storage.traffic import Traffic

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


def standing_of(lines: Sequence[Line]) -> Standing:
    """Who serves by all lines of a use."""
    serving: list[Served] = []
    for line in lines:
        if line.action == "rollback":
            serving.pop()
        else:
            serving.append(line.after)
    return Standing(serving, len(lines))


class PromotionLedger:
    """The ledger in a file of JSON lines.

    Args:
        file: how the file is read and appended to; by default it is this machine's alone. One that several machines share
            is brought up to date at each call that reads, by one request; who needs more calls ``by_use`` once.
    """

    def __init__(self, path: Path, file: Lines | None = None) -> None:
        self.path = path
        self._file = file or AppendedLines(path)

    @property
    def traffic(self) -> Traffic | None:
        """What was asked of a bucket; None where the ledger is this machine's alone."""
        return self._file.traffic

    def by_use(self) -> dict[str, list[Line]]:
        """The lines of each use that models were ever promoted for, the earliest first."""
        return _by_use(self._file.read())

    def uses(self) -> list[str]:
        """What models were ever promoted for."""
        return list(self.by_use())

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
        return self.by_use().get(use, [])

    def standing(self, use: str) -> Standing:
        """Who serves a use now, and who did before."""
        return standing_of(self.lines(use))

    def append(self, line: Line, seen: Standing) -> bool:
        """Write a line, unless another has come since its author looked; whether it was written."""
        return self._file.append(
            line.as_json(), unless=lambda lines: len(_by_use(lines).get(line.use, ())) != seen.lines
        )


def _by_use(stored: Iterable[Mapping[str, Any]]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in map(Line.of_json, stored):
        found.setdefault(line.use, []).append(line)
    return dict(sorted(found.items()))
