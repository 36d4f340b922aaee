"""What became of cases: decisions of people, only ever appended to the prediction log, and what stands by them.

A case is an entity and a number, and its flagged rows are those between two boundaries in the log. The first case of
an entity begins with its first row. Dismissing a case ends it with the last row of that moment, so that rows which are
flagged later make the next one; a confirmed case goes on, as its entity is blocked.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from my_platform.serving.log import PredictionLog
from my_platform.serving.transactions import transaction

State = Literal["open", "confirmed", "dismissed"]
Decision = Literal["confirmed", "dismissed", "reopened"]
_COLUMNS = "number, entity, case_number, at_us, who, through, body"
ALL_OUTCOMES = f"select {_COLUMNS} from outcomes order by number"
OUTCOMES_OF = f"select {_COLUMNS} from outcomes where entity = ? order by number"
# Above any row's number in the log.
ENDLESS = 2**63 - 1


class Outcome(NamedTuple):
    """A decision about a case.

    Attributes:
        through: the number in the log of the last row that was written by then.
        body: what was decided, as JSON: `outcome`, the body as it was `sent`, and the `labels` of confirmed rows by
            their id, each as the log keeps labels.
    """

    number: int
    entity: str
    case_number: int
    at_us: int
    who: str
    through: int
    body: str

    @property
    def said(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    @property
    def decision(self) -> Decision:
        found: Decision = self.said["outcome"]
        return found


@dataclass
class History:
    """The outcomes of one entity's cases, by case number, and where each case ends in the log."""

    outcomes: dict[int, list[Outcome]] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        """Take the next outcome in."""
        self.outcomes.setdefault(outcome.case_number, []).append(outcome)
        if outcome.decision == "dismissed" and outcome.case_number == len(self.ends):
            self.ends.append(outcome.through)

    def standing(self, case_number: int) -> Outcome | None:
        """The outcome that stands; None where the case is open."""
        found = self.outcomes.get(case_number, [])
        return found[-1] if found and found[-1].decision != "reopened" else None

    def state(self, case_number: int) -> State:
        """How a case stands."""
        standing = self.standing(case_number)
        if standing is None:
            return "open"
        return "confirmed" if standing.decision == "confirmed" else "dismissed"

    def span(self, case_number: int) -> tuple[int, int]:
        """The numbers in the log after which a case begins, and with which it ends."""
        ends = [0, *self.ends, ENDLESS]
        return ends[case_number], ends[case_number + 1]

    @property
    def blocked(self) -> bool:
        """Whether a confirmed case stands."""
        return any(self.state(number) == "confirmed" for number in self.outcomes)


def histories(outcomes: Iterable[Outcome]) -> dict[str, History]:
    """What stands by outcomes in their order, by entity."""
    found: dict[str, History] = {}
    for outcome in outcomes:
        found.setdefault(outcome.entity, History()).add(outcome)
    return found


class Outcomes:
    """The outcomes in a prediction log."""

    def __init__(self, log: PredictionLog) -> None:
        self._database = log.connection

    def all(self, entity: str | None = None) -> list[Outcome]:
        """Those of an entity, or all of them, in their order."""
        rows = (
            self._database.execute(ALL_OUTCOMES)
            if entity is None
            else self._database.execute(OUTCOMES_OF, (entity,))
        )
        return [Outcome(*row) for row in rows]

    def append(self, entity: str, case_number: int, at_us: int, who: str, body: Mapping[str, Any]) -> Outcome:
        """Write a decision down; it is durable when this returns."""
        with transaction(self._database):
            (through,) = self._database.execute("select coalesce(max(rowid), 0) from predictions").fetchone()
            text = json.dumps(body, sort_keys=True)
            number = self._database.execute(
                "insert into outcomes (entity, case_number, at_us, who, through, body) values (?, ?, ?, ?, ?, ?)",
                (entity, case_number, at_us, who, through, text),
            ).lastrowid
        assert number is not None
        return Outcome(number, entity, case_number, at_us, who, through, text)
