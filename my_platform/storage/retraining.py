"""Decisions to fit a model of a week: which weeks of a model are wanted, and why.

They lie beside the landed files, as decisions about rows do, so that landing alone still reproduces a home:
``retraining/<model>/<week>.json``. Each is created once, by one of those who would at the same moment, and never
changed. That it is there is what counts: what it says is for people, and changes no model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from my_platform.errors import PlatformError
from my_platform.incremental.declare import day_key, ordinal
from my_platform.storage.places import LandingPlace, shown

FOLDER = "retraining"
CHALLENGER, KEPT = "challenger", "kept"


@dataclass(frozen=True)
class FitDecision:
    """Why a week of a model is fitted.

    Attributes:
        role: ``challenger``, ``test`` or ``kept``; see ``learning.retraining.judging``.
        recipe: what the model was made by then.
        by, at: who decided, and when in UTC.
        evidence: the numbers that it rests on, plain values.
    """

    model: str
    week: str
    role: str
    reason: str
    by: str
    at: str
    recipe: str = ""
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()


class FitDecisions:
    """The decisions to fit that lie in a landing place."""

    def __init__(self, place: LandingPlace) -> None:
        self.place = place

    def weeks(self, models: Sequence[str]) -> dict[str, frozenset[int]]:
        """The weeks that are decided, by model, in days since 1970; nothing is read for that."""
        return {model: frozenset(self._weeks(model)) for model in models}

    def of(self, model: str) -> list[FitDecision]:
        """All decisions about a model, by week, the earliest first.

        Raises:
            PlatformError: one of them cannot be read.
        """
        return [self.about(model, week) for week in sorted(self._weeks(model))]

    def about(self, model: str, week: int) -> FitDecision:
        """The decision about a week.

        Raises:
            PlatformError: there is none, or it cannot be read.
        """
        path = _path(model, week)
        try:
            said: dict[str, Any] = json.loads(self.place.read(path))
            decision = FitDecision(**said)
            whole = (decision.model, decision.week) == (model, day_key(week))
        except (FileNotFoundError, ValueError, TypeError) as error:
            raise _damaged(self.place, path) from error
        if not whole:
            raise _damaged(self.place, path)
        return decision

    def add(self, decision: FitDecision) -> bool:
        """Write a decision down, unless its week is decided; whether it was written.

        Raises:
            PlatformError: it cannot be written.
        """
        return self.place.create_new(_path(decision.model, ordinal(decision.week)), decision.data)

    def _weeks(self, model: str) -> list[int]:
        found = []
        for path in self.place.below(f"{FOLDER}/{model}"):
            name = path.removeprefix(f"{FOLDER}/{model}/")
            try:
                key = ordinal(name.removesuffix(".json"))
            except PlatformError:
                continue
            if name == f"{day_key(key)}.json":
                found.append(key)
        return found


def _path(model: str, week: int) -> str:
    return f"{FOLDER}/{model}/{day_key(week)}.json"


def _damaged(place: LandingPlace, path: str) -> PlatformError:
    return PlatformError(
        f"{shown(f'{place.root}/{path}')} is not a decision as `my-platform retrain` wrote it; put it back as it was. "
        "Where it is removed, the model of its week is withdrawn"
    )
