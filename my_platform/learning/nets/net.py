"""A fitted net: what its files hold, what it predicts, and how it is pruned."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from my_platform.errors import Refused
from my_platform.learning.device_time import device_at_work
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.tabm import Architecture, TabM
from my_platform.learning.nets.tensors import read_tensors, write_tensors
from my_platform.learning.nets.transforms import Floats, InputTransform
from my_platform.learning.weighted import log_loss

WEIGHTS = "weights.safetensors"
DESCRIPTION = "net.json"
# Parameters that each submodel has for itself.
_OF_MEMBERS = ("adapters", "head_weight", "head_bias")
_ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class Net:
    """A fitted net.

    Attributes:
        weights: the parameters of `tabm.TabM` by name.
        about: how it was fitted.
    """

    architecture: Architecture
    transform: InputTransform
    weights: Mapping[str, NDArray[np.float32]]
    about: Mapping[str, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        """The files of the net by name: weights as safetensors, all else as JSON."""
        description = {
            "architecture": self.architecture.as_json(),
            "transform": self.transform.as_json(),
            "about": self.about,
        }
        return {
            WEIGHTS: write_tensors(self.weights),
            DESCRIPTION: json.dumps(description, sort_keys=True, separators=(",", ":")).encode(),
        }

    @classmethod
    def of_files(cls, files: Mapping[str, bytes]) -> "Net":
        """The net of its files.

        Raises:
            PlatformError: the weights are cut off, or no safetensors file.
        """
        description = json.loads(files[DESCRIPTION])
        arrays, _ = read_tensors(files[WEIGHTS], WEIGHTS)
        return cls(
            Architecture.from_json(description["architecture"]),
            InputTransform.from_json(description["transform"]),
            {name: array.astype(np.float32, copy=False) for name, array in arrays.items()},
            description["about"],
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the files."""
        found = hashlib.sha256()
        for name, data in sorted(self.files().items()):
            found.update(name.encode() + len(data).to_bytes(8, "little") + data)
        return found.hexdigest()

    def module(self, compute: Compute) -> TabM:
        """The net on a device, ready to predict."""
        module = TabM(self.architecture, self.transform.edges, len(self.transform.flagged))
        module.load_state_dict({name: torch.tensor(array) for name, array in self.weights.items()})
        return module.to(compute.device).eval()


def predict(net: Net, features: Floats, compute: Compute) -> NDArray[np.float64]:
    """The probability of label 1 for each row: the mean over the submodels.

    Args:
        features: rows × features, in the net's order, NaN where missing.

    Raises:
        Refused: the number of columns is not that of the net's features.
    """
    return predict_members(net, features, compute).mean(1)


def predict_members(net: Net, features: Floats, compute: Compute) -> NDArray[np.float64]:
    """The probability of label 1 by row and submodel."""
    inputs = torch.from_numpy(net.transform.apply(features))
    with compute.seeded(), device_at_work():
        return probabilities(net.module(compute), inputs, compute)


def probabilities(module: torch.nn.Module, inputs: torch.Tensor, compute: Compute) -> NDArray[np.float64]:
    """The same for transformed rows, on whichever device they are."""
    parts = []
    with torch.inference_mode(), compute.autocast():
        for rows in inputs.split(_ROWS_AT_ONCE):
            parts.append(module(rows.to(compute.device)).float().sigmoid())
    return torch.cat(parts).double().cpu().numpy()


def prune(net: Net, members: Sequence[int]) -> Net:
    """The net with only these of its submodels.

    Raises:
        Refused: none is named, or one that the net has not.
    """
    if not members or not set(members) <= set(range(net.architecture.members)):
        raise Refused(
            f"expected some of the submodels 0 to {net.architecture.members - 1}, found {list(members)}"
        )
    chosen = list(members)
    weights = {name: array[chosen] if name in _OF_MEMBERS else array for name, array in net.weights.items()}
    return replace(net, architecture=replace(net.architecture, members=len(chosen)), weights=weights)


def best_members(
    probability: NDArray[np.float64], labels: NDArray[np.bool_], weights: NDArray[np.float64], count: int
) -> list[int]:
    """The submodels whose mean predicts best, chosen one after the other by log loss.

    Args:
        probability: by row and submodel, of rows that the net was not fitted on.
        weights: of the rows.
    """
    chosen: list[int] = []
    total = np.zeros(len(probability))
    for number in range(1, min(count, probability.shape[1]) + 1):
        left = [member for member in range(probability.shape[1]) if member not in chosen]
        losses = [log_loss((total + probability[:, member]) / number, labels, weights) for member in left]
        best = left[int(np.argmin(losses))]
        chosen.append(best)
        total += probability[:, best]
    return sorted(chosen)
