"""The ONNX models that serve: which one belongs to a candidate."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.errors import PlatformError
from my_platform.learning.contender import Contender
from my_platform.learning.export.parity import MODEL_FILE
from my_platform.learning.export.scoring import as_matrix, load_onnx
from my_platform.learning.registry import Candidate
from my_platform.operations.weekly_tests import WeeklyTests
from my_platform.storage.lake import file_in, json_in


class NotExported(PlatformError):
    """A model has no export, or one that was made of another model."""


@dataclass(frozen=True)
class Exported:
    """A model as ONNX.

    Attributes:
        files: of the bundle.
        parity: how it compares with the model that it was made of.
    """

    asset: str
    version: str
    features: tuple[str, ...]
    files: Mapping[str, bytes]
    parity: Mapping[str, Any]

    def load(self, files: Mapping[str, bytes]) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
        """The files as a function that scores rows as a service has them."""
        return load_onnx(files[MODEL_FILE], self.features).rows

    def one_by_one(self, rows: pl.DataFrame) -> list[NDArray[np.float64]]:
        """What that function takes of each row."""
        matrix = as_matrix(rows)
        return [matrix[at : at + 1] for at in range(len(matrix))]

    def as_json(self) -> dict[str, Any]:
        """What a bundle says of it."""
        return {"asset": self.asset, "data_version": self.version, "parity": dict(self.parity)}


def find_export(weekly: WeeklyTests, contender: Contender, candidate: Candidate) -> Exported | None:
    """What serves of a candidate; None where its own files do.

    Raises:
        NotExported: there is none of this very model.
        DamagedObject: it is not stored whole.
    """
    if not contender.export:
        return None
    name = f"{contender.export} {candidate.week}"
    again = f"run `my-platform refresh --select {contender.export}`, and look at its check onnx_parity"
    version = weekly.current(contender.export).get(candidate.week)
    if version is None:
        raise NotExported(f"{name} is not there, and {candidate.model} is served as ONNX; {again}")
    record = weekly.lake.record(contender.export, candidate.week, version) or {}
    made_of = record.get("inputs", {}).get(candidate.model, {}).get(candidate.week, "nothing")
    if made_of != candidate.version:
        raise NotExported(
            f"{name} was made of {candidate.model} {made_of[:12]}, and the candidate is {candidate.version[:12]}; {again}"
        )
    table = weekly.lake.read(contender.export, candidate.week, version)
    parity = json_in(table, "about.json")["parity"]
    files = {MODEL_FILE: file_in(table, MODEL_FILE)}
    return Exported(contender.export, version, contender.columns.features, files, parity)
