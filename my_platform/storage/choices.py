"""Choices: parameters of models that a finished search has chosen, and those that were withdrawn.

They lie beside the landed files, as decisions about rows do, so that landing alone still reproduces a home:
``choices/<model>/<id>.json``. Each is a file of its own whose name is the digest of its bytes, written once and
never changed; the latest one counts. A choice without parameters goes back to those that the domain declares.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from my_platform.errors import PlatformError
from my_platform.storage.landing import content_digest
from my_platform.storage.places import LandingPlace, shown

FOLDER = "choices"


@dataclass(frozen=True)
class Choice:
    """Parameters of a model, and what they were chosen by.

    Attributes:
        model: the model asset.
        parameters: by name; empty for those that the domain declares.
        folds: the weeks whose tests were looked at; no test of them tells how good the choice is.
        figures: what was found, in plain JSON values: scores, seeds, trials.
        study: the name of the study.
        by, at: who took it, and when in UTC.
    """

    model: str
    parameters: Mapping[str, float | int]
    folds: Sequence[str]
    by: str
    at: str
    study: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> bytes:
        return json.dumps(asdict(self), sort_keys=True, indent=1).encode()

    @property
    def id(self) -> str:
        return content_digest(self.data).hex()


class Choices:
    """The choices that lie in a landing place."""

    def __init__(self, place: LandingPlace) -> None:
        self.place = place

    def of(self, model: str) -> list[Choice]:
        """All choices for a model, the latest last.

        Raises:
            PlatformError: one of them cannot be read.
        """
        paths = [path for path in self.place.below(f"{FOLDER}/{model}") if path.endswith(".json")]
        return sorted((self._read(path) for path in paths), key=lambda choice: (choice.at, choice.id))

    def present(self, model: str) -> Choice | None:
        """The choice that counts; None where the domain's own parameters do.

        Raises:
            PlatformError: a choice cannot be read.
        """
        choices = self.of(model)
        return choices[-1] if choices and choices[-1].parameters else None

    def add(self, choice: Choice) -> str:
        """Write a choice down; its path."""
        path = f"{FOLDER}/{choice.model}/{choice.id}.json"
        self.place.create(path, choice.data)
        return f"{self.place.root}/{path}"

    def _read(self, path: str) -> Choice:
        try:
            data = self.place.read(path)
            said: dict[str, Any] = json.loads(data)
            choice = Choice(**said)
            whole = choice.data == data and path.rpartition("/")[2] == f"{choice.id}.json"
        except (FileNotFoundError, ValueError, TypeError, AttributeError) as error:
            raise _damaged(self.place, path) from error
        if not whole:
            raise _damaged(self.place, path)
        return choice


def _damaged(place: LandingPlace, path: str) -> PlatformError:
    return PlatformError(
        f"{shown(f'{place.root}/{path}')} is not a choice as `my-platform tune` wrote it; put it back as it was, or "
        "remove it"
    )
