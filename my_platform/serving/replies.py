"""What is answered: predictions, reasons and errors as JSON, which never holds what is not finite."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic_core import to_json

from my_platform.serving.log import Prediction
from my_platform.serving.model import Reason
from my_platform.serving.requests import Problem

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """A status, a body, and the headers beside its type and length."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    kind: Header = JSON


class Failure(Exception):
    """A request that gets an error: a status, a word for programs, a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        problems: Sequence[Problem] = (),
        *,
        wait_s: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.problems = problems
        self.wait_s = wait_s
        self.close = close

    def reply(self) -> Reply:
        """The error as it is sent."""
        problems = [{"field": problem.field, "why": problem.why} for problem in self.problems]
        body = to_json({"error": {"code": self.code, "message": str(self), "problems": problems}})
        headers: list[Header] = []
        if self.wait_s is not None:
            headers.append((b"retry-after", str(max(1, round(self.wait_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.close:
            headers.append((b"connection", b"close"))
        return Reply(self.status, body, tuple(headers))


class Answers:
    """Writes predictions as they are answered, whichever bundle made them.

    Args:
        key: the name of the rows' id.
        bundles: the folder of all bundles.
        sets: the feature sets, whose code versions are told.
    """

    def __init__(self, key: str, bundles: Path, sets: Sequence[str]) -> None:
        self._key = json.dumps(key)
        self._bundles = bundles
        self._sets = sets
        self._models: dict[str, str] = {}

    def answer(
        self, key: int | str, found: Prediction, reasons: Sequence[Reason] | None, *, blocked: bool = False
    ) -> str:
        """The JSON object of one row."""
        degraded = "null" if found.degraded is None else json.dumps(found.degraded)
        threshold = to_json(found.threshold, inf_nan_mode="null").decode()
        told = "" if reasons is None else f',"reasons":{_reasons(reasons)}'
        return (
            f'{{{self._key}:{key if isinstance(key, int) else json.dumps(key)},"probability":{found.probability!r},'
            f'"flagged":{"true" if found.flagged else "false"},"threshold":{threshold},'
            f'"blocked":{"true" if blocked else "false"},'
            f'"degraded":{degraded},{self._model(found.bundle)}{told}}}'
        )

    def _model(self, digest: str) -> str:
        """Model and versions of a bundle as they stand in each answer."""
        if digest not in self._models:
            told = told_of(
                json.loads((self._bundles / digest / "bundle.json").read_bytes()), digest, self._sets
            )
            self._models[digest] = to_json(told).decode()[1:-1]
        return self._models[digest]


def told_of(about: Mapping[str, Any], digest: str, sets: Sequence[str]) -> dict[str, Any]:
    """What is said of the model that answered, and of the code of its feature sets."""
    return {
        "model": {
            "asset": about["model"],
            "week": about["week"],
            "data_version": about["data_version"],
            "bundle": digest,
        },
        "feature_versions": {name: about["code"][name] for name in sets if name in about["code"]},
    }


def _reasons(reasons: Sequence[Reason]) -> str:
    return to_json([reason.__dict__ for reason in reasons], inf_nan_mode="null").decode()
