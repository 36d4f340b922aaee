"""Where a net is fitted: a CUDA device in bfloat16 where there is one, else the processor in float32."""

import importlib.metadata
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from my_platform.errors import PlatformError

Kind = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Compute:
    """A device and the precision of the products on it.

    Attributes:
        device: as torch names it, `cpu` or `cuda:0`.
        threads: of the processor. One, whatever the machine has: a fit then gives the same bytes everywhere, and
            on a busy machine more threads wait for each other longer than they compute.
    """

    device: str = "cpu"
    precision: Precision = "float32"
    threads: int = 1

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def autocast(self) -> AbstractContextManager[object]:
        """Within it, products are computed in the precision; weights and losses stay in float32."""
        import torch

        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(self.device.partition(":")[0], dtype=torch.bfloat16)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """Within it, torch has these threads and a random state of its own; both are put back afterwards."""
        import torch

        threads = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with torch.random.fork_rng([self.device] if self.on_cuda else []):
                yield
        finally:
            torch.set_num_threads(threads)

    def free_bytes(self) -> int | None:
        """Memory of a CUDA device that nothing holds; None for the processor."""
        import torch

        return int(torch.cuda.mem_get_info(self.device)[0]) if self.on_cuda else None


def pick_device(wanted: Kind = "auto", number: int = 0) -> Compute:
    """The compute for a fit.

    Args:
        wanted: `auto` takes CUDA where torch sees a device, and the processor otherwise.
        number: which CUDA device.

    Raises:
        PlatformError: a CUDA device was asked for and torch sees none.
    """
    import torch

    if wanted == "cpu" or (wanted == "auto" and not torch.cuda.is_available()):
        return Compute()
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        raise PlatformError(
            f"expected CUDA device {number}, and torch {torch.__version__} sees {torch.cuda.device_count()}. Set "
            "MY_PLATFORM_DEVICE=cpu, or install the CUDA build of torch and check nvidia-smi"
        )
    return Compute(f"cuda:{number}", "bfloat16" if torch.cuda.is_bf16_supported() else "float32")


def device_kind(wanted: Kind) -> Literal["cpu", "cuda"]:
    """What `pick_device` will take, told without importing torch, which costs a process a second or two."""
    if wanted != "auto":
        return wanted
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1")
    devices = any(Path("/dev").glob("nvidia[0-9]*"))
    built_for_cpu = importlib.metadata.version("torch").endswith("+cpu")
    return "cuda" if devices and not hidden and not built_for_cpu else "cpu"
