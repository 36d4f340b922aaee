"""Run by `make gpu-check` on a machine with a CUDA device: by unittest, so that torch and numpy are all it needs."""

import tempfile
import unittest
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch

from assets_tests.learning.nets.rows import NAMES, SMALL, average_precision, changed, training_set
from my_platform.learning.nets.compute import Compute, device_kind, pick_device
from my_platform.learning.nets.distributed import fit_in_processes
from my_platform.learning.nets.fit import Host, fit_net, fit_streamed
from my_platform.learning.nets.net import Net, predict
from my_platform.learning.nets.sampling import last_rows
from my_platform.learning.nets.sources import ArrayShard
from my_platform.learning.nets.training import Interruptible

ROWS = training_set(20_000)
RECIPE = changed(epochs=6)


@cache
def reference() -> np.ndarray:
    """What a net fitted on the processor predicts."""
    return predict(fit_net(ROWS, RECIPE, Host(Compute())), ROWS.features, Compute())


@unittest.skipUnless(torch.cuda.is_available(), "torch sees no CUDA device")
class OnCuda(unittest.TestCase):
    def assert_ranks_as_well(self, net: Net) -> None:
        found = average_precision(ROWS.labels, predict(net, ROWS.features, Compute()))
        assert abs(found - average_precision(ROWS.labels, reference())) < 0.02

    def test_a_cuda_device_is_picked_by_itself_in_bfloat16(self) -> None:
        assert device_kind("auto") == "cuda"
        assert pick_device() == Compute("cuda:0", "bfloat16")

    def test_a_net_fitted_on_cuda_ranks_as_one_fitted_on_the_processor(self) -> None:
        for precision in ("float32", "bfloat16"):
            with self.subTest(precision):
                net = fit_net(ROWS, RECIPE, Host(replace(pick_device(), precision=precision)))
                assert (net.about["device"], net.about["precision"]) == ("cuda", precision)
                self.assert_ranks_as_well(net)
                expected = predict(net, ROWS.features, Compute()).sum()
                assert abs(expected / ROWS.labels.sum() - 1) < 0.15

    def test_a_net_predicts_on_cuda_what_it_predicts_on_the_processor(self) -> None:
        net = fit_net(ROWS, changed(epochs=1), Host(Compute()))
        on_cuda = predict(net, ROWS.features, replace(pick_device(), precision="float32"))
        np.testing.assert_allclose(on_cuda, predict(net, ROWS.features, Compute()), atol=1e-5)

    def test_an_interrupted_fit_goes_on_where_it_was(self) -> None:
        class Interrupted(Exception):
            pass

        def stop(line: Mapping[str, float]) -> None:
            if line["epoch"] == 2:
                raise Interrupted

        epochs: list[Mapping[str, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            host = Host(pick_device(), Interruptible(Path(folder), every_s=0))
            with self.assertRaises(Interrupted):  # noqa: PT027
                fit_net(ROWS, RECIPE, replace(host, on_epoch=stop))
            fit_net(ROWS, RECIPE, replace(host, on_epoch=epochs.append))
        assert [line["epoch"] for line in epochs] == [2, 3, 4, 5]

    def test_shards_streamed_to_the_device_give_a_net_as_good(self) -> None:
        last = last_rows(ROWS.days, ROWS.labels, SMALL.training.stopping_share)
        order = np.random.default_rng(0).permutation(np.flatnonzero(~last))
        shards = [
            ArrayShard(f"shard {number}", ROWS.features, ROWS.labels, part)
            for number, part in enumerate(np.array_split(order, 7))
        ]
        held_out = ArrayShard("last days", ROWS.features, ROWS.labels, np.flatnonzero(last))
        self.assert_ranks_as_well(fit_streamed(shards, held_out, NAMES, RECIPE, Host(pick_device())))

    @unittest.skipIf(torch.cuda.device_count() < 2, "this machine has no second CUDA device")
    def test_two_devices_fit_a_net_as_good_as_one(self) -> None:
        self.assert_ranks_as_well(fit_in_processes(ROWS, RECIPE, 2, "cuda"))
