"""Scoring: groups of requests go through features, model, log and state together, once for each row.

The log is written first, the state after it, the reply last. A process that dies in between leaves rows in the
log that the state lacks; they are taken in from there when the next one starts.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from pydantic_core import to_json

from my_platform.errors import PlatformError
from my_platform.features.declaration import FeatureError
from my_platform.features.online import Answer
from my_platform.serving.declaration import Service
from my_platform.serving.log import Feedback, Prediction, PredictionLog
from my_platform.serving.model import ServedModel
from my_platform.serving.requests import Label, RequestModels, Row
from my_platform.serving.state import OnlineState, UnknownRow
from my_platform.serving.write_behind import MOST_WAITING

# So many logged rows are taken into the state at once.
_REPLAYED_AT_ONCE = 500
# As many may have waited for the state's store, or been on their way into it, when the process died.
_LABELS_LOOKED_AT = 2 * MOST_WAITING


class NotReady(PlatformError):
    """There is no model that may serve yet."""


class Conflict(PlatformError):
    """The id of a row or label came before with another body."""


@dataclass
class Waiting:
    """The rows of one request, and what came of them: `found` one by one, or `failed`."""

    rows: Sequence[Row]
    started_ns: int
    found: list[Prediction] = field(default_factory=list)
    failed: Exception | None = None


class Scorer:
    """What scores; one for a service, called by one thread.

    Attributes:
        model: the champion that serves; None before there is one.
        shadow: a model whose answers are logged beside the champion's and given to nobody.
    """

    def __init__(
        self, service: Service, models: RequestModels, state: OnlineState, log: PredictionLog
    ) -> None:
        self.service = service
        self.model: ServedModel | None = None
        self.shadow: ServedModel | None = None
        self._models = models
        self._state = state
        self._log = log

    def score(self, group: Sequence[Waiting]) -> None:
        """Answer requests; each gets its predictions or its failure, and what it gets is logged."""
        model = self.model
        if model is None:
            raise NotReady(f"no champion of {self.service.use} can serve; GET /readyz says why")
        rows = [row for waiting in group for row in waiting.rows]
        known = self._log.find([row.text for row in rows])
        landed = self._state.known_rows([row.key for row in rows if row.text not in known])
        fresh: list[tuple[Waiting, Row]] = []
        told: dict[str, str] = {key: found.row for key, found in known.items()}
        for waiting in group:
            own = dict(told)
            new = []
            for row in waiting.rows:
                before = own.setdefault(row.text, row.sent)
                if row.text not in told and before is row.sent:
                    new.append(row)
                if before != row.sent or landed.get(row.key, row.values) != row.values:
                    waiting.failed = Conflict(
                        f"{self.service.key} {row.text} came before with another body; send each row under its own id"
                    )
                    break
            else:
                told = own
                fresh += [(waiting, row) for row in new]
        if fresh:
            self._score_new(model, group, fresh, known)
        for waiting in group:
            if waiting.failed is None:
                waiting.found = [known[row.text] for row in waiting.rows]

    def label(self, label: Label, now_us: int) -> bool:
        """Take a label in; whether it was new. Raises UnknownRow and Conflict."""
        text = str(label.key)
        if any(known.label == label.sent for known in self._log.labels(text)):
            return False
        try:
            return self._state.label(
                self.service.labels.table,
                label.key,
                label.values,
                first=lambda: self._log.tell(text, now_us, label.sent),
            )
        except FeatureError as error:
            raise Conflict(str(error)) from error

    def knows(self, label: Label) -> bool:
        """Whether the label of a row is known already. Raises UnknownRow and Conflict."""
        try:
            return self._state.knows_label(self.service.labels.table, label.key, label.values)
        except FeatureError as error:
            raise Conflict(str(error)) from error

    def withdraw(self, key: str, sent: str, now_us: int) -> bool:
        """Let a label stand no more, by the row's id and its own columns as JSON; whether it stood."""
        found = [known for known in self._log.labels(key) if known.label == sent]
        for known in found:
            self._log.withdraw(known, now_us)
            self._forget(known)
        return bool(found)

    def _forget(self, label: Feedback) -> None:
        key, own = self._models.key_of(label.key), self._models.label_of(label.label)
        with suppress(UnknownRow):
            self._state.withdraw(self.service.labels.table, key, own)

    def catch_up(self, *, whole: bool) -> int:
        """Take into the state what the log has and the state lacks; how many rows and labels that were.

        Args:
            whole: whether the state is new, so that nothing of the log can be in it.
        """
        lost: list[Prediction] = []
        for found in self._log.latest_predictions():
            row = self._models.row_of(found.row)
            known = self._state.remembered(row[self.service.key])
            if not whole and known is not None and "features" in known:
                break
            lost.append(found)
        labels: list[Feedback] = []
        for label in self._log.latest_labels():
            labels.append(label)
            if not whole and len(labels) >= _LABELS_LOOKED_AT:
                break
        taken = 0
        for part in _parts(lost[::-1]):
            rows = [self._models.row_of(found.row) for found in part]
            try:
                self._state.score(rows)
            except FeatureError:
                for row in rows:
                    # What a corrected partition says of a row counts, not what was sent before.
                    with suppress(FeatureError):
                        self._state.score([row])
            taken += len(part)
        for label in self._log.withdrawn():
            if all(other.label != label.label for other in self._log.labels(label.key)):
                self._forget(label)
        for label in reversed(labels):
            key, own = self._models.key_of(label.key), self._models.label_of(label.label)
            with suppress(FeatureError, UnknownRow):
                taken += self._state.label(self.service.labels.table, key, own)
        return taken

    def _score_new(
        self,
        model: ServedModel,
        group: Sequence[Waiting],
        fresh: Sequence[tuple[Waiting, Row]],
        known: dict[str, Prediction],
    ) -> None:
        written: list[Prediction] = []

        def write(answers: Sequence[Answer]) -> None:
            written.extend(self._predictions(model, fresh, answers))
            self._log.append(written)

        try:
            self._state.score([row.values for _, row in fresh], first=write)
        except FeatureError as error:
            if len(group) > 1:
                # One of them is at fault; the others are answered.
                for waiting in group:
                    if waiting.failed is None:
                        self.score([waiting])
                        known |= {found.key: found for found in waiting.found}
                return
            group[0].failed = Conflict(str(error))
            return
        known |= {found.key: found for found in written}

    def _predictions(
        self, model: ServedModel, fresh: Sequence[tuple[Waiting, Row]], answers: Sequence[Answer]
    ) -> Iterator[Prediction]:
        matrix = model.matrix([answer.values for answer in answers])
        probabilities = model.probabilities(matrix)
        shadow = self.shadow
        shadowed: Sequence[float | None] = [None] * len(fresh)
        if shadow is not None:
            shadowed = shadow.probabilities(shadow.matrix([answer.values for answer in answers]))
        now_ns, now_us = time.perf_counter_ns(), time.time_ns() // 1000
        threshold, pick = model.threshold, model.pick
        for (waiting, row), answer, probability, other in zip(
            fresh, answers, probabilities, shadowed, strict=True
        ):
            values = answer.values
            yield Prediction(
                row.text,
                row.second,
                now_us,
                row.sent,
                model.digest,
                to_json(pick(values), inf_nan_mode="constants").decode(),
                answer.degraded,
                probability,
                threshold,
                int(probability >= threshold),
                (now_ns - waiting.started_ns) // 1000,
                shadow.digest if shadow is not None else None,
                other,
            )


def _parts(found: Sequence[Prediction]) -> Iterator[Sequence[Prediction]]:
    return (found[first : first + _REPLAYED_AT_ONCE] for first in range(0, len(found), _REPLAYED_AT_ONCE))
