"""A fitted net as it is exported: from the features as they are to the probability, in one graph.

Between two knots of a feature its normal score is a line, and so is the embedding of that score, because the edges
of the bins are knots too. Both are one table of lines here: a row's feature looks up its line and goes along it.
"""

import numpy as np
import torch

from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.net import Net

# The line of a value is found in two looks: which block of knots, then which knot of the block.
_BLOCK = 16


class ServedTabM(torch.nn.Module):
    """Probabilities (rows, float64) for features (rows × features, float64, NaN where missing)."""

    low: torch.Tensor
    inverse: torch.Tensor
    knots: torch.Tensor
    inner: torch.Tensor
    blocks: torch.Tensor
    offsets: torch.Tensor
    knot_offsets: torch.Tensor
    block_offsets: torch.Tensor

    def __init__(self, net: Net) -> None:
        super().__init__()
        transform, module = net.transform, net.module(Compute())
        features, most = len(transform.names), max(2, *map(len, transform.values))
        number_of_blocks = -(-(most - 2) // _BLOCK) or 1
        # The first line of each feature is flat, for rows where it is missing.
        low, inverse = np.zeros((features, most)), np.zeros((features, most))
        inner = np.full((features, number_of_blocks * _BLOCK), np.inf)
        scores = np.zeros((most + 1, features + len(transform.flagged)), dtype=np.float32)
        for column, (values, found) in enumerate(zip(transform.values, transform.scores, strict=True)):
            lines = len(values) - 1
            low[column, 1 : lines + 1] = values[:-1]
            inverse[column, 1 : lines + 1] = 1 / np.diff(values)
            inner[column, : max(0, lines - 1)] = values[1:-1]
            scores[1 : lines + 2, column] = found
        # On one thread, so that the table is the same everywhere.
        with Compute().seeded(), torch.no_grad():
            width = features * net.architecture.embedding
            knots = module.embedded(torch.from_numpy(scores))[:, :width].view(most + 1, features, -1)
        buffers = {
            "low": torch.from_numpy(low).flatten(),
            "inverse": torch.from_numpy(inverse).flatten(),
            "knots": knots.transpose(0, 1).flatten(0, 1),
            "inner": torch.from_numpy(inner).view(-1, _BLOCK),
            "blocks": torch.from_numpy(inner[:, _BLOCK::_BLOCK].copy()),
            "offsets": torch.arange(features) * most,
            "knot_offsets": torch.arange(features) * (most + 1),
            "block_offsets": torch.arange(features) * number_of_blocks,
        }
        for name, value in buffers.items():
            self.register_buffer(name, value.contiguous())
        self.flagged = list(transform.flagged)
        self.net = module

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        missing = torch.isnan(features)
        filled = torch.where(missing, 0.0, features)
        block = (filled[:, :, None] >= self.blocks).sum(2)
        of_block = self.inner[block + self.block_offsets]
        line = 1 + block * _BLOCK + (filled[:, :, None] >= of_block).sum(2)
        line = torch.where(missing, 0, line)
        at = line + self.offsets
        along = ((filled - self.low[at]) * self.inverse[at]).clamp(0, 1).float()
        start, end = self.knots[line + self.knot_offsets], self.knots[line + self.knot_offsets + 1]
        embedded = (start + along[:, :, None] * (end - start)).flatten(1)
        if self.flagged:
            embedded = torch.cat([embedded, missing[:, self.flagged].float()], 1)
        # For one row, scaling it by each adapter takes less memory than scaling the weights.
        hidden = (embedded[:, None, :] * self.net.adapters) @ self.net.first_weight.T + self.net.first_bias
        hidden = torch.relu(hidden)
        for layer in self.net.shared:
            hidden = torch.relu(hidden @ layer.weight.T + layer.bias)
        logits = (hidden * self.net.head_weight).sum(2) + self.net.head_bias
        return torch.sigmoid(logits).double().mean(1)
