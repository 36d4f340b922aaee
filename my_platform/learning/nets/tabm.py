"""TabM-mini: one multilayer perceptron that acts as many, over piecewise-linear embeddings of its inputs.

Each of the k submodels has a vector of its own that scales the inputs, and a head of its own; everything between
is shared. Each is trained on its own loss, and their probabilities are averaged.

Sources: Gorishniy, Kotelnikov, Babenko, "TabM: Advancing Tabular Deep Learning with Parameter-Efficient
Ensembling", ICLR 2025; Gorishniy, Rubachev, Babenko, "On Embeddings for Numerical Features in Tabular Deep
Learning", NeurIPS 2022.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Architecture:
    """The size of a net.

    Attributes:
        members: submodels.
        embedding: numbers that each feature is embedded in.
        width, blocks: of the shared perceptron.
        dropout: share of its activations that are dropped in training.
    """

    members: int = 32
    embedding: int = 8
    width: int = 128
    blocks: int = 2
    dropout: float = 0.1

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> "Architecture":
        return cls(**found)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class TabM(torch.nn.Module):
    """Logits of every submodel (rows × members) for transformed rows (rows × inputs, see `transforms`)."""

    def __init__(self, architecture: Architecture, edges: Sequence[Sequence[float]], flags: int) -> None:
        super().__init__()
        self.architecture = architecture
        features, bins = len(edges), max(len(found) for found in edges) - 1
        members, embedding, width = architecture.members, architecture.embedding, architecture.width
        starts, inverse_widths = torch.zeros(features, bins), torch.zeros(features, bins)
        for feature, found in enumerate(edges):
            bounds = torch.tensor(found)
            starts[feature, : len(found) - 1] = bounds[:-1]
            inverse_widths[feature, : len(found) - 1] = 1 / (bounds[1:] - bounds[:-1])
        self.register_buffer("starts", starts, persistent=False)
        self.register_buffer("inverse_widths", inverse_widths, persistent=False)
        bound = embedding**-0.5
        self.linear = torch.nn.Parameter(torch.empty(features, embedding).uniform_(-bound, bound))
        self.offset = torch.nn.Parameter(torch.empty(features, embedding).uniform_(-bound, bound))
        self.piecewise = torch.nn.Parameter(torch.zeros(features, bins, embedding))
        inputs = features * embedding + flags
        scales = torch.randn(members, features + flags)
        self.adapters = torch.nn.Parameter(
            torch.cat([scales[:, :features].repeat_interleave(embedding, 1), scales[:, features:]], 1)
        )
        first = torch.nn.Linear(inputs, width)
        self.first_weight, self.first_bias = first.weight, first.bias
        self.shared = torch.nn.ModuleList(
            torch.nn.Linear(width, width) for _ in range(architecture.blocks - 1)
        )
        bound = width**-0.5
        self.head_weight = torch.nn.Parameter(torch.empty(members, width).uniform_(-bound, bound))
        self.head_bias = torch.nn.Parameter(torch.empty(members).uniform_(-bound, bound))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        # Scaling the weights by each adapter instead of the rows makes one large product of the first layer.
        weight = self.adapters.T[:, :, None] * self.first_weight.T[:, None, :]
        hidden = self.embedded(rows) @ weight.flatten(1)
        hidden = self._activated(hidden.view(len(rows), *weight.shape[1:]) + self.first_bias)
        for layer in self.shared:
            hidden = self._activated(layer(hidden))
        heads = torch.baddbmm(
            self.head_bias[:, None, None], hidden.transpose(0, 1), self.head_weight[:, :, None]
        )
        return heads[:, :, 0].T

    def start_from(self, base_rate: float) -> None:
        """Let every submodel begin near the share of rows labelled 1."""
        with torch.no_grad():
            self.head_bias += math.log(base_rate / (1 - base_rate))

    def embedded(self, rows: torch.Tensor) -> torch.Tensor:
        """Embeddings of all features, and the flags (rows × inputs of the perceptron)."""
        features = len(self.linear)
        scores = rows[:, :features]
        filled = ((scores[:, :, None] - self.starts) * self.inverse_widths).clamp(0, 1)
        pieces = torch.bmm(filled.transpose(0, 1), self.piecewise).transpose(0, 1)
        embedded = scores[:, :, None] * self.linear + self.offset + pieces
        return torch.cat([embedded.flatten(1), rows[:, features:]], 1)

    def _activated(self, hidden: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(hidden)
        if self.training and self.architecture.dropout:
            return torch.nn.functional.dropout(hidden, self.architecture.dropout)
        return hidden
