import pytest
import torch

from my_platform.errors import PlatformError
from my_platform.learning.nets.compute import Compute, device_kind, pick_device

needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")


@needs_no_cuda
def test_without_a_cuda_device_the_processor_is_taken_in_float32() -> None:
    assert pick_device() == Compute("cpu", "float32")
    assert device_kind("auto") == "cpu"


@needs_no_cuda
def test_a_cuda_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(PlatformError, match=r"expected CUDA device 0, and torch .* sees 0"):
        pick_device("cuda")


def test_what_is_asked_for_is_not_looked_for() -> None:
    assert device_kind("cuda") == "cuda"
    assert pick_device("cpu") == Compute()


def test_threads_and_random_state_are_put_back_after_a_fit() -> None:
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    with Compute(threads=threads + 1).seeded():
        assert torch.get_num_threads() == threads + 1
        torch.rand(3)
    assert torch.get_num_threads() == threads
    assert (torch.get_rng_state() == state).all()
