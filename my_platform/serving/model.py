"""A bundle as it serves: the ONNX model, the order of its features, its threshold, and what speaks for an answer."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.export.scoring import OnnxModel, load_onnx
from my_platform.learning.threshold_ledger import Chosen
from my_platform.learning.thresholds import ByBundle, Resolved, resolve

MODEL, TREES = "model.onnx", "model.txt"
# An export differs from the model it was made of by no more.
PARITY = 1e-4
_TRIED_ROWS = 16


class CannotServe(PlatformError):
    """A bundle that must not serve here; the message says why and what to do."""


@dataclass(frozen=True)
class Reason:
    """What a feature adds to an answer: in log odds for trees, in probability for others."""

    feature: str
    value: float | None
    contribution: float
    words: str


@dataclass(frozen=True)
class ServedModel:
    """A model that is loaded and was found to work.

    Attributes:
        digest: of its bundle.
        pick: takes the model's features out of the online state's answer for a row, in the model's order.
        threshold: probabilities from here on are flagged; infinite where none is known.
        decided: the policy that the threshold comes of, and why it is another one than that asks for.
        about: what the bundle says of it.
        trees: LightGBM's own model, which tells contributions; None for others.
    """

    digest: str
    features: tuple[str, ...]
    pick: Callable[[Sequence[Any]], tuple[Any, ...]]
    threshold: float
    about: Mapping[str, Any]
    onnx: OnnxModel
    trees: Any
    decided: tuple[Chosen, str] = (Chosen(ByBundle()), "")

    def by(self, chosen: Chosen) -> "ServedModel":
        """The model with the threshold that a policy means for it."""
        found: Resolved = resolve(chosen.policy, self.about)
        return replace(self, threshold=found.score, decided=(chosen, found.note))

    def matrix(self, answers: Sequence[Sequence[Any]]) -> NDArray[np.float64]:
        """The state's answers as rows × features of the model, NaN where missing."""
        return np.array([self.pick(values) for values in answers], dtype=np.float64)

    def probabilities(self, matrix: NDArray[np.float64]) -> list[float]:
        """The probability of each row.

        Raises:
            CannotServe: one is no probability.
        """
        found: list[float] = self.onnx.rows(matrix).tolist()
        for probability in found:
            if not 0.0 <= probability <= 1.0:
                raise CannotServe(
                    f"the model of bundle {self.digest[:12]} gave {probability!r}, which is no probability; roll it back"
                )
        return found

    def reasons(
        self, features: Sequence[float | None], words: Mapping[str, str], most: int = 5
    ) -> list[Reason]:
        """The features that moved a row's answer most, the strongest first."""
        row = np.array([features], dtype=np.float64)
        contributions = self._contributions(row)
        order = sorted(range(len(contributions)), key=lambda at: -abs(contributions[at]))[:most]
        found = []
        for at in order:
            name, value, added = self.features[at], features[at], contributions[at]
            direction = "speaks for it" if added > 0 else "speaks against it"
            shown = "unknown" if value is None else f"{value:,.6g}"
            found.append(Reason(name, value, added, f"{words.get(name, name)}: {shown}, {direction}"))
        return found

    def _contributions(self, row: NDArray[np.float64]) -> list[float]:
        if self.trees is not None:
            told: list[float] = self.trees.predict(row, pred_contrib=True, num_threads=1)[0].tolist()
            return told[:-1]
        # Each feature in turn is left out, which models take for not known.
        without = np.repeat(row, len(self.features) + 1, axis=0)
        np.fill_diagonal(without, np.nan)
        scores = self.onnx.rows(without)
        return [float(scores[-1] - score) for score in scores[:-1]]


def load_model(
    bundles: Path, digest: str, known: Sequence[str], code_versions: Mapping[str, str] | None
) -> ServedModel:
    """The model of a bundle, every byte checked, after it has scored rows made for the purpose.

    Args:
        known: the features of the online state, in its order.
        code_versions: of the running code by asset; None leaves out the comparison, for a model that only looks back.

    Raises:
        DamagedBundle: the bundle is not whole.
        CannotServe: it was made by other code, has features that are not online, or fails its self-test.
    """
    bundle = read_bundle(bundles, digest)
    if code_versions is not None and (other := bundle.other_code(code_versions)):
        raise CannotServe(
            f"bundle {digest[:12]} was made by other code of {', '.join(other)} than the one that runs here; serve it "
            "with that code, or fit the model anew and promote it"
        )
    if MODEL not in bundle.files:
        raise CannotServe(
            f"bundle {digest[:12]} holds no {MODEL}; declare an export of its model and promote it again"
        )
    features = tuple(bundle.about["features"])
    if lacking := [name for name in features if name not in known]:
        raise CannotServe(
            f"bundle {digest[:12]} takes {', '.join(lacking)}, which the service does not compute; declare the feature "
            "sets of its service so that they are there"
        )
    trees = None
    if TREES in bundle.files:
        import lightgbm

        trees = lightgbm.Booster(model_str=bundle.files[TREES].decode())
    at = {name: number for number, name in enumerate(known)}
    threshold = bundle.about["operating_threshold"]["score"]
    return ServedModel(
        digest,
        features,
        itemgetter(*(at[name] for name in features)),
        math.inf if threshold is None else float(threshold),
        bundle.about,
        load_onnx(bundle.files[MODEL], features),
        trees,
    )


def self_test(model: ServedModel, stored: Sequence[Mapping[str, float | None]]) -> None:
    """Score stored rows, and rows that are made up: each answer must be a probability, and that of the model's own file.

    Args:
        stored: features by name of rows that were scored before.

    Raises:
        CannotServe: an answer is not.
    """
    width = len(model.features)
    spread = np.linspace(-1.0, 100.0, _TRIED_ROWS)[:, None] * np.linspace(0.0, 3.0, width)[None, :]
    rows = np.vstack([np.full((1, width), np.nan), np.zeros((1, width)), spread])
    if stored:
        kept = [[found.get(name) for name in model.features] for found in stored]
        rows = np.vstack([rows, np.array(kept, dtype=np.float64)])
    scores = model.probabilities(rows)
    if model.trees is None:
        return
    own: list[float] = model.trees.predict(rows, num_threads=1).tolist()
    for number, (score, expected) in enumerate(zip(scores, own, strict=True)):
        if not math.isclose(score, expected, rel_tol=0.0, abs_tol=PARITY):
            raise CannotServe(
                f"bundle {model.digest[:12]}: {MODEL} gives row {number} of the self-test {score!r}, and {TREES} "
                f"{expected!r}; export the model again and promote it"
            )


def features_by_name(about: Mapping[str, Any], features: str) -> dict[str, float | None]:
    """Logged features, a JSON array in the order of their bundle, by name."""
    return dict(zip(about["features"], json.loads(features), strict=True))
