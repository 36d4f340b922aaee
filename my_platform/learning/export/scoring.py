"""Scores of an ONNX model by ONNX Runtime on one thread."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.export.canonical import FEATURES, PROBABILITY

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# A net holds some tens of kilobytes for each row that it is at.
ROWS_AT_ONCE = 2048
_ERRORS_ONLY = 3


class OnnxModel:
    """A loaded model. Calling it scores a frame; `rows` scores an array without looking at names.

    Attributes:
        features: names of the columns, in order.
    """

    def __init__(self, session: "InferenceSession", features: Sequence[str], rows_at_once: int) -> None:
        self.features = list(features)
        self._session = session
        self._rows_at_once = rows_at_once

    def __call__(self, features: pl.DataFrame) -> NDArray[np.float64]:
        """The probability of label 1 for each row, in [0, 1].

        Raises:
            Refused: the columns are not the model's features in the model's order, one is not numeric, or a value
                is infinite.
        """
        if features.columns != self.features:
            missing = sorted(set(self.features) - set(features.columns))
            more = sorted(set(features.columns) - set(self.features))
            found = (
                f"{missing} missing and {more} too many"
                if missing or more
                else f"them in the order {features.columns}"
            )
            raise Refused(
                f"expected the {len(self.features)} features of the model in its order, found {found}"
            )
        other = {name: str(kind) for name, kind in features.schema.items() if not _is_number(kind)}
        if other:
            raise Refused(f"expected numeric features, found {other}; encode or leave them out")
        return self.rows(as_matrix(features))

    def rows(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """The same for an array of rows × features, NaN where missing.

        Raises:
            Refused: it has another number of columns than the model has features, or a value is infinite.
        """
        if features.ndim != 2 or features.shape[1] != len(self.features):
            raise Refused(
                f"expected rows of the {len(self.features)} features of the model, found an array of shape "
                f"{features.shape}"
            )
        if np.isinf(features).any():
            columns = np.flatnonzero(np.isinf(features).any(axis=0))
            names = [self.features[column] for column in columns]
            raise Refused(f"expected finite features or missing ones, found infinite values in {names}")
        whole = np.ascontiguousarray(features, dtype=np.float64)
        most = self._rows_at_once
        if len(whole) <= most:
            return self._scores(whole) if len(whole) else np.zeros(0)
        parts = range(0, len(whole), most)
        return np.concatenate([self._scores(whole[first : first + most]) for first in parts])

    def _scores(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        (found,) = self._session.run([PROBABILITY], {FEATURES: features})
        return np.asarray(found, dtype=np.float64)


def as_matrix(features: pl.DataFrame) -> NDArray[np.float64]:
    """Numeric columns as rows × features, NaN where missing."""
    return features.select(pl.all().cast(pl.Float64).fill_null(float("nan"))).to_numpy()


def load_onnx(model: bytes, features: Sequence[str], rows_at_once: int = ROWS_AT_ONCE) -> OnnxModel:
    """The model of its bytes, whose digest was checked before, with the names of its features in order.

    Args:
        rows_at_once: at most; 1 for a model whose score of a row depends on the rows beside it.

    Raises:
        Refused: the model takes another number of features, or has not the input and output of this package.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _ERRORS_ONLY
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs, outputs = session.get_inputs(), session.get_outputs()
    found = [(value.name, value.type) for value in (*inputs, *outputs)]
    wanted = [(FEATURES, "tensor(double)"), (PROBABILITY, "tensor(double)")]
    if found != wanted or inputs[0].shape[1] != len(features):
        shapes = [value.shape for value in inputs]
        raise Refused(f"expected {wanted} of {len(features)} features, found {found} of shapes {shapes}")
    return OnnxModel(session, features, rows_at_once)


def _is_number(kind: pl.DataType) -> bool:
    return kind.is_numeric() or kind == pl.Boolean
