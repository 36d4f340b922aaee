"""Run by `make gpu-check` on a machine with a CUDA device that has torch, numpy and pytest."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from assets_tests.learning.nets.rows import NAMES, SMALL, average_precision, changed, training_set
from my_platform.learning.nets.compute import Compute, device_kind, pick_device
from my_platform.learning.nets.distributed import fit_in_processes
from my_platform.learning.nets.fit import Host, fit_net, fit_streamed
from my_platform.learning.nets.net import predict
from my_platform.learning.nets.sampling import last_rows
from my_platform.learning.nets.sources import ArrayShard
from my_platform.learning.nets.training import Interruptible

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

ROWS = training_set(20_000)
RECIPE = changed(epochs=6)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """What a net fitted on the processor predicts."""
    return predict(fit_net(ROWS, RECIPE, Host(Compute())), ROWS.features, Compute())


def test_a_cuda_device_is_picked_by_itself_in_bfloat16() -> None:
    assert device_kind("auto") == "cuda"
    assert pick_device() == Compute("cuda:0", "bfloat16")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_net_fitted_on_cuda_ranks_as_one_fitted_on_the_processor(
    precision: str, reference: np.ndarray
) -> None:
    compute = replace(pick_device(), precision=precision)
    net = fit_net(ROWS, RECIPE, Host(compute))
    assert (net.about["device"], net.about["precision"]) == ("cuda", precision)
    found = predict(net, ROWS.features, Compute())
    assert average_precision(ROWS.labels, found) == pytest.approx(
        average_precision(ROWS.labels, reference), abs=0.02
    )
    assert found.sum() == pytest.approx(ROWS.labels.sum(), rel=0.15)


def test_a_net_predicts_on_cuda_what_it_predicts_on_the_processor() -> None:
    net = fit_net(ROWS, changed(epochs=1), Host(Compute()))
    on_cuda = predict(net, ROWS.features, replace(pick_device(), precision="float32"))
    np.testing.assert_allclose(on_cuda, predict(net, ROWS.features, Compute()), atol=1e-5)


def test_an_interrupted_fit_goes_on_where_it_was(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(line: Mapping[str, float]) -> None:
        if line["epoch"] == 2:
            raise Interrupted

    host = Host(pick_device(), Interruptible(tmp_path, every_s=0))
    with pytest.raises(Interrupted):
        fit_net(ROWS, RECIPE, replace(host, on_epoch=stop))
    epochs: list[Mapping[str, float]] = []
    fit_net(ROWS, RECIPE, replace(host, on_epoch=epochs.append))
    assert [line["epoch"] for line in epochs] == [2, 3, 4, 5]


def test_shards_streamed_to_the_device_give_a_net_as_good(reference: np.ndarray) -> None:
    last = last_rows(ROWS.days, ROWS.labels, SMALL.training.stopping_share)
    order = np.random.default_rng(0).permutation(np.flatnonzero(~last))
    shards = [
        ArrayShard(f"shard {number}", ROWS.features, ROWS.labels, part)
        for number, part in enumerate(np.array_split(order, 7))
    ]
    held_out = ArrayShard("last days", ROWS.features, ROWS.labels, np.flatnonzero(last))
    net = fit_streamed(shards, held_out, NAMES, RECIPE, Host(pick_device()))
    assert average_precision(ROWS.labels, predict(net, ROWS.features, Compute())) == pytest.approx(
        average_precision(ROWS.labels, reference), abs=0.02
    )


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="this machine has one CUDA device")
def test_two_devices_fit_a_net_as_good_as_one(reference: np.ndarray) -> None:
    net = fit_in_processes(ROWS, RECIPE, 2, "cuda")
    assert average_precision(ROWS.labels, predict(net, ROWS.features, Compute())) == pytest.approx(
        average_precision(ROWS.labels, reference), abs=0.02
    )
