"""Cases: what has flagged rows, for people to look at, and what they decide of it.

A case is derived from the prediction log, which holds the flagged rows anyway. What is confirmed becomes labels, on
the way of every label, and its entity is blocked until the decision is taken back.
"""

import json
import logging
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from my_platform.errors import PlatformError
from my_platform.serving.declaration import Cases, Service
from my_platform.serving.log import LABELS_OF, PredictionLog
from my_platform.serving.outcomes import (
    ALL_OUTCOMES,
    OUTCOMES_OF,
    History,
    Outcome,
    Outcomes,
    State,
    histories,
)
from my_platform.serving.requests import MOST_AHEAD_S, Invalid, Label, Problem, RequestModels
from my_platform.serving.scorer import Conflict, Scorer
from my_platform.serving.state import UnknownRow

_SHOWN_ROWS = 100
_REASONED_ROWS = 20
# Of an integer that fits into 64 bits, whatever its digits.
_MOST_DIGITS = 18

logger = logging.getLogger("my_platform.serving")


class UnknownCase(PlatformError):
    """There is no such case."""


@dataclass
class Case:
    """A case and its flagged rows, in brief.

    Attributes:
        entity: the value that it is about; `id` names it with the number of the case.
        first_us, last_us: when the first and the last of the rows were scored.
    """

    entity: Any
    number: int
    state: State
    rows: int = 0
    highest: float = 0.0
    first_us: int = 0
    last_us: int = 0

    @property
    def id(self) -> str:
        return f"{self.entity}-{self.number}"

    def as_json(self, column: str) -> dict[str, Any]:
        """The case as it is told."""
        return {
            "id": self.id,
            column: self.entity,
            "state": self.state,
            "rows": self.rows,
            "highest_probability": self.highest,
            "first_scored_at": _iso(self.first_us),
            "last_scored_at": _iso(self.last_us),
        }


class CaseDesk:
    """The cases of a service.

    `listed` and `shown` only read, on connections of their own: other threads may call them. All else is called by the
    thread that scores.
    """

    def __init__(
        self, service: Service, cases: Cases, models: RequestModels, scorer: Scorer, log: PredictionLog
    ) -> None:
        self.column = cases.entity
        self._service, self._cases, self._models, self._scorer = service, cases, models, scorer
        self._log, self._outcomes = log, Outcomes(log)
        self._integer = service.contract.schema[cases.entity].is_integer()
        path = f'$."{cases.entity}"'
        self._entity = f"json_extract(row, '{path}')"
        # Only flagged rows are in it, so that others cost nothing when they are written.
        log.connection.execute(
            f"create index if not exists flagged on predictions ({self._entity}, probability, at_us) where flagged = 1"
        )
        # An entity's rows between two places of the log.
        self._of_case = f"flagged = 1 and {self._entity} = ? and rowid > ? and rowid <= ?"
        self._blocked: set[Any] = set()
        for history in histories(self._outcomes.all()).values():
            for number in history.outcomes:
                try:
                    self._let_have_effect(history, number)
                except (Conflict, UnknownRow) as error:
                    # Its labels have to come by their file.
                    logger.error("what was decided of a case has no effect: %s", error)

    def blocks(self, row: Mapping[str, Any]) -> bool:
        """Whether a row's entity is blocked."""
        return row[self.column] in self._blocked

    def listed(self, most: int, skipped: int) -> dict[str, Any]:
        """Cases, the open ones first, those by highest probability and the others the latest first."""
        with closing(self._reading()) as log:
            cases = self._all(log)
        page = sorted(cases, key=_order)[skipped : skipped + most]
        return {
            "cases": [case.as_json(self.column) for case in page],
            "open": sum(case.state == "open" for case in cases),
            "total": len(cases),
            "next": skipped + most if skipped + most < len(cases) else None,
        }

    def shown(self, name: str) -> dict[str, Any]:
        """A case with its outcomes and its latest rows, each with what speaks for its answer; raises UnknownCase."""
        entity, number = self._named(name)
        with closing(self._reading()) as log:
            history = History()
            for row in log.execute(OUTCOMES_OF, (str(entity),)):
                history.add(Outcome(*row))
            case = self._case(log, entity, number, history)
            rows = log.execute(
                f"select key, at_us, row, bundle, features, probability, threshold from predictions where {self._of_case} "
                f"order by rowid desc limit {_SHOWN_ROWS}",
                (entity, *history.span(number)),
            ).fetchall()
            labels = {
                key: [json.loads(label) for (label,) in log.execute(LABELS_OF, (key,))] for key, *_ in rows
            }
        told = [
            {
                "row": json.loads(row),
                "probability": probability,
                "threshold": threshold,
                "scored_at": _iso(at_us),
                "labels": labels[key],
                "reasons": self._reasons(bundle, features) if place < _REASONED_ROWS else None,
            }
            for place, (key, at_us, row, bundle, features, probability, threshold) in enumerate(rows)
        ]
        outcomes = [
            {**each.said["sent"], "who": each.who, "decided_at": _iso(each.at_us)}
            for each in history.outcomes.get(number, [])
        ]
        return {
            **case.as_json(self.column),
            "blocked": history.blocked,
            "outcomes": outcomes,
            "flagged": told,
        }

    def decide(self, name: str, body: bytes, who: str) -> dict[str, Any]:
        """Write down what was decided of a case, and let it have its effect; what came of it.

        Raises:
            Invalid: the body is not what is asked for.
            UnknownCase: there is no such case.
            UnknownRow: a confirmed row is too old for its label to be taken in.
            Conflict: another outcome stands, or a row is known with another label.
        """
        asked: Any = self._models.outcome_of(body)
        entity, number = self._named(name)
        history = histories(self._outcomes.all(str(entity))).get(str(entity), History())
        case = self._case(self._log.connection, entity, number, history)
        sent = asked.model_dump(mode="json", exclude_none=True)
        known = history.outcomes.get(number, [])
        if known and known[-1].said["sent"] == sent:
            return {"new": False, "id": case.id, "state": case.state}
        if (asked.outcome == "reopened") == (case.state == "open"):
            stands = (
                "it is open"
                if case.state == "open"
                else f"it is {case.state}; take that back with `reopened`"
            )
            raise Conflict(f"case {case.id} cannot be {asked.outcome}: {stands}")
        now_us = time.time_ns() // 1000
        labels = self._labels(case, asked, now_us // 1_000_000, history)
        for label in labels:
            self._scorer.knows(label)
        told = {
            "outcome": asked.outcome,
            "sent": sent,
            "labels": {str(each.key): each.sent for each in labels},
        }
        outcome = self._outcomes.append(str(entity), number, now_us, who, told)
        history.add(outcome)
        self._let_have_effect(history, number)
        return {"new": True, "id": case.id, "state": history.state(number)}

    def _let_have_effect(self, history: History, number: int) -> None:
        """Labels of what is confirmed, and none of what was taken back; doing it again changes nothing."""
        outcomes = history.outcomes[number]
        last = outcomes[-1]
        (self._blocked.add if history.blocked else self._blocked.discard)(self._typed(last.entity))
        if last.decision == "confirmed":
            for key, sent in last.said["labels"].items():
                self._scorer.label(
                    Label(self._models.key_of(key), self._models.label_of(sent), sent), last.at_us
                )
        for earlier in outcomes if last.decision == "reopened" else ():
            for key, sent in earlier.said["labels"].items():
                self._scorer.withdraw(key, sent, last.at_us)

    def _labels(self, case: Case, asked: Any, now_s: int, history: History) -> list[Label]:
        """The labels that an outcome gives."""
        if asked.outcome != "confirmed":
            if asked.rows is not None:
                raise Invalid([Problem("rows", "only `confirmed` takes rows")])
            return []
        keys = asked.rows
        if keys is None:
            after, through = history.span(case.number)
            keys = [
                self._models.key_of(key)
                for (key,) in self._log.connection.execute(
                    f"select key from predictions where {self._of_case} order by rowid",
                    (case.entity, after, through),
                )
            ]
        at_s = now_s if asked.at is None else int(asked.at.replace(tzinfo=asked.at.tzinfo or UTC).timestamp())
        if not 0 <= at_s <= now_s + MOST_AHEAD_S:
            raise Invalid([Problem("at", "expected a time from 1970 to a day ahead of now")])
        found = self._log.find([str(key) for key in keys])
        labels = []
        for place, key in enumerate(dict.fromkeys(keys)):
            row = found.get(str(key))
            if row is None or json.loads(row.row)[self.column] != case.entity:
                raise Invalid(
                    [
                        Problem(
                            f"rows.{place}", f"expected the id of a scored row of {self.column} {case.entity}"
                        )
                    ]
                )
            # A label is known no earlier than its row.
            known = datetime.fromtimestamp(max(at_s, row.second), UTC).replace(tzinfo=None)
            columns = {self._service.labels.known: known, **self._cases.confirmed}
            labels.append(self._models.label_made(key, columns))
        return labels

    def _named(self, name: str) -> tuple[Any, int]:
        """The entity and the number of a case."""
        entity, _, number = name.rpartition("-")
        # Each case has one name.
        for text in (number, entity) if self._integer else (number,):
            if not text.isascii() or not text.isdigit() or len(text) > _MOST_DIGITS or str(int(text)) != text:
                raise UnknownCase(f"there is no case {name[:100]!r}; GET /v1/cases lists them")
        return self._typed(entity), int(number)

    def _typed(self, entity: str) -> Any:
        return int(entity) if self._integer else entity

    def _case(self, log: sqlite3.Connection, entity: Any, number: int, history: History) -> Case:
        """A case with what its rows say; raises UnknownCase where it has none."""
        if 0 <= number <= len(history.ends):
            rows, highest, first_us, last_us = log.execute(
                f"select count(*), max(probability), min(at_us), max(at_us) from predictions where {self._of_case}",
                (entity, *history.span(number)),
            ).fetchone()
            if rows:
                return Case(entity, number, history.state(number), rows, highest, first_us, last_us)
        raise UnknownCase(f"there is no case {entity}-{number}; GET /v1/cases lists them")

    def _all(self, log: sqlite3.Connection) -> list[Case]:
        known = histories(Outcome(*row) for row in log.execute(ALL_OUTCOMES))
        nothing, cases = History(), []
        # Summed by the database, which lets the thread that scores go on meanwhile.
        for entity, *rows in log.execute(
            f"select {self._entity}, count(*), max(probability), min(at_us), max(at_us) from predictions "
            f"where flagged = 1 group by {self._entity}"
        ):
            history = known.get(str(entity), nothing)
            if not history.ends:
                cases.append(Case(entity, 0, history.state(0), *rows))
                continue
            for number in range(len(history.ends) + 1):
                with suppress(UnknownCase):
                    cases.append(self._case(log, entity, number, history))
        return cases

    def _reasons(self, digest: str, features: str) -> list[dict[str, Any]] | None:
        """Reasons of the bundle that answered; None where that serves no more."""
        model = self._scorer.model
        if model is None or model.digest != digest:
            return None
        return [reason.__dict__ for reason in model.reasons(json.loads(features), self._service.words)]

    def _reading(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._log.path}?mode=ro", uri=True, timeout=5.0)


def _order(case: Case) -> tuple[bool, float, int, str]:
    """Open cases first by the highest probability, then the others, the latest first."""
    is_open = case.state == "open"
    return not is_open, -case.highest if is_open else 0.0, -case.last_us, case.id


def _iso(us: int) -> str:
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat(timespec="seconds")
