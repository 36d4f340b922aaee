"""The loop that fits a net: its steps, when it stops, and how it goes on after it was interrupted.

A fit on the processor is deterministic: the same arguments give the same bytes, also where it was interrupted
and went on from its checkpoint. On CUDA, sums come in another order each time.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.swa_utils import get_ema_multi_avg_fn

from my_platform.errors import Refused
from my_platform.learning.nets.checkpoints import State, forget_state, load_state, save_state
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.distributed import Group
from my_platform.learning.nets.net import probabilities
from my_platform.learning.nets.sampling import Labels
from my_platform.learning.nets.sources import Rows
from my_platform.learning.nets.tabm import TabM
from my_platform.learning.weighted import average_precision, log_loss

_WARM_UP_STEPS = 50
_LONGEST_NORM = 1.0


@dataclass(frozen=True)
class Training:
    """How a net is fitted.

    Attributes:
        epochs: at most; the learning rate falls to zero over them as a cosine does.
        parts: an epoch takes all rows labelled 1 and one of so many parts of the others; the logits are shifted
            by what that changes in the odds, so that probabilities stay probabilities.
        averaging: share of the averaged weights that a step keeps; the averaged weights are the net.
        bins: of each feature's embedding, at most.
        stopping_share: the last days with this share of the rows labelled 1 are not fitted on but tell which
            epoch was the best by log loss.
        stopping_parts: of the other rows of those days, one of so many is looked at.
        patience: epochs without a better one before the fit ends.
        keep: submodels that are kept in the end.
        rows_in_memory: a training set of more rows is read in shards, wherever it is fitted.
    """

    epochs: int = 10
    batch_rows: int = 512
    learning_rate: float = 0.01
    weight_decay: float = 3e-4
    parts: int = 10
    averaging: float = 0.99
    bins: int = 32
    stopping_share: float = 0.1
    stopping_parts: int = 4
    patience: int = 3
    keep: int = 32
    rows_in_memory: int = 10_000_000


@dataclass(frozen=True)
class Stopping:
    """The rows that tell which epoch was the best: transformed inputs, labels, and the weight of each row."""

    inputs: NDArray[np.float32]
    labels: Labels
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Interruptible:
    """Where a fit leaves checkpoints, and how many seconds lie between two."""

    folder: Path
    every_s: float = 30.0


class Fit:
    """A fit under way. After `run`, `best` holds the averaged weights of the best epoch."""

    def __init__(
        self,
        module: TabM,
        rows: Rows,
        stopping: Stopping,
        training: Training,
        seed: int,
        compute: Compute,
        group: Group,
        checkpoints: Interruptible | None,
    ) -> None:
        self.rows, self.stopping, self.training, self.seed = rows, stopping, training, seed
        self.compute, self.group, self.checkpoints = compute, group, checkpoints
        self.module = module.to(compute.device)
        self.shared = group.wrapped(self.module, compute)
        self.parameters = dict(self.module.named_parameters())
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        self.best = {name: value.clone() for name, value in self.average.items()}
        decayed = [value for name, value in self.parameters.items() if name.endswith("weight")]
        others = [value for name, value in self.parameters.items() if not name.endswith("weight")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": decayed, "weight_decay": training.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=training.learning_rate,
            fused=compute.on_cuda,
        )
        self.inputs = torch.from_numpy(stopping.inputs).to(compute.device)
        self.shift = math.log(training.parts)
        self.step = 0
        self.loss = torch.zeros((), device=compute.device)
        self.history: list[dict[str, float]] = []
        self.saved_at = time.monotonic()

    def run(self, name: str, on_epoch: Callable[[Mapping[str, float]], None]) -> dict[str, Any]:
        """Fit to the end, from the checkpoint of that name where there is one; what is to be said about it."""
        state = load_state(self.checkpoints.folder, name) if self.checkpoints else None
        if state is not None:
            self._restore(state)
        steps = self.rows.steps
        while not self._ended:
            epoch, first = divmod(self.step, steps)
            for inputs, targets in self.rows.epoch(epoch, first):
                self.take_step(inputs, targets)
                if self.step % steps:
                    self._save_if_due(name)
            self._end_epoch(epoch)
            on_epoch(self.history[-1])
            self._save_if_due(name)
        self._check_learned()
        if self.checkpoints and self.group.rank == 0:
            forget_state(self.checkpoints.folder, name)
        return {"history": self.history, "best_epoch": self._best_epoch, "steps": self.step}

    @property
    def _best_epoch(self) -> int:
        losses = [line["stopping_loss"] for line in self.history]
        return losses.index(min(losses))

    @property
    def _ended(self) -> bool:
        done = len(self.history)
        return done == self.training.epochs or (
            done > 0 and done - 1 - self._best_epoch >= self.training.patience
        )

    def take_step(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        """One step on a batch; the device may still be at it afterwards."""
        training = self.training
        progress = self.step / (training.epochs * self.rows.steps)
        rate = training.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
        for part in self.optimizer.param_groups:
            part["lr"] = rate * min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        if self.module.architecture.dropout:
            # So that a step draws the same whether or not the fit was interrupted before it.
            torch.manual_seed(((self.seed << 32) + self.step) * self.group.processes + self.group.rank)
        self.shared.train()
        with self.compute.autocast():
            logits = self.shared(inputs)
        logits = logits.float() + self.shift
        # One mean over rows and submodels has the gradient of the mean of the submodels' losses.
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            logits, targets[:, None].expand_as(logits)
        )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), _LONGEST_NORM)
        self.optimizer.step()
        self.step += 1
        kept = min(training.averaging, self.step / (self.step + 9))
        get_ema_multi_avg_fn(kept)(list(self.average.values()), list(self.parameters.values()), None)
        self.loss += loss.detach()

    def _end_epoch(self, epoch: int) -> None:
        """Judge the averaged weights on the stopping rows, and keep them if they are the best so far."""
        fitted = self._checked_loss() / self.rows.steps
        self.loss.zero_()
        self.module.eval()
        found = probabilities(_with(self.module, self.average), self.inputs, self.compute)
        judged = found.mean(1), self.stopping.labels, self.stopping.weights
        loss = self.group.agreed(log_loss(*judged), self.compute)
        if not math.isfinite(loss):
            raise self._diverged(epoch, loss)
        precision = average_precision(*judged)
        line = {"epoch": epoch, "training_loss": fitted, "stopping_loss": loss}
        self.history.append({**line, "stopping_average_precision": precision})
        if self._best_epoch == epoch:
            self.best = {name: value.clone() for name, value in self.average.items()}

    def _checked_loss(self) -> float:
        """The sum of the epoch's losses so far; waits for the device."""
        loss = float(self.loss.item())
        if not math.isfinite(loss):
            raise self._diverged(self.step // self.rows.steps, loss)
        return loss

    def _diverged(self, epoch: int, loss: float) -> Refused:
        return Refused(
            f"the fit diverged: the loss was {loss} in epoch {epoch}, step {self.step}, at a learning rate of "
            f"{self.training.learning_rate}; lower it, or look for features that grew without bound"
        )

    def _check_learned(self) -> None:
        rate = float((self.stopping.labels * self.stopping.weights).sum() / self.stopping.weights.sum())
        constant = np.full(len(self.stopping.labels), rate)
        known = log_loss(constant, self.stopping.labels, self.stopping.weights)
        best = self.history[self._best_epoch]["stopping_loss"]
        if best >= known:
            raise Refused(
                f"the net learned nothing: its log loss on the last days is {best:.5f}, and {known:.5f} where every "
                "row gets their share of rows labelled 1; fit more epochs, or look at the features"
            )

    def _save_if_due(self, name: str) -> None:
        if self.checkpoints is None or self.group.rank:
            return
        if time.monotonic() - self.saved_at < self.checkpoints.every_s:
            return
        loss = self._checked_loss()
        arrays = {f"net.{key}": value for key, value in self.parameters.items()}
        arrays |= {f"average.{key}": value for key, value in self.average.items()}
        arrays |= {f"best.{key}": value for key, value in self.best.items()}
        for number, moments in self.optimizer.state_dict()["state"].items():
            arrays |= {f"moments.{number}.{key}": moments[key] for key in ("exp_avg", "exp_avg_sq")}
        values = {"step": self.step, "loss": loss, "history": self.history}
        plain = {key: value.detach().cpu().numpy() for key, value in arrays.items()}
        save_state(self.checkpoints.folder, name, State(plain, values))
        self.saved_at = time.monotonic()

    def _restore(self, state: State) -> None:
        found = {key: torch.tensor(array) for key, array in state.arrays.items()}
        with torch.no_grad():
            for prefix, kept in (("net", self.parameters), ("average", self.average), ("best", self.best)):
                for name, value in kept.items():
                    value.copy_(found[f"{prefix}.{name}"])
        self.step, self.history = state.values["step"], state.values["history"]
        self.loss.fill_(state.values["loss"])
        whole = self.optimizer.state_dict()
        whole["state"] = {
            number: {
                "step": torch.tensor(float(self.step)),
                **{key: found[f"moments.{number}.{key}"] for key in ("exp_avg", "exp_avg_sq")},
            }
            for number in range(len(self.parameters))
        }
        self.optimizer.load_state_dict(whole)


def _with(module: TabM, weights: Mapping[str, torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The module as it would be with these weights."""
    return lambda rows: torch.func.functional_call(module, dict(weights), (rows,))
