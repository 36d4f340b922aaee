"""Several processes that fit one net, each on a device of its own, through torch's DistributedDataParallel."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from my_platform.errors import PlatformError, Refused
from my_platform.learning.device_time import DeviceTime, device_time, tell_device_time
from my_platform.learning.nets.compute import Compute, pick_device

if TYPE_CHECKING:
    from my_platform.learning.nets.fit import Recipe, TrainingSet
    from my_platform.learning.nets.net import Net
    from my_platform.learning.nets.training import Interruptible

_PACKAGES = Path(__file__).resolve().parents[3]
_LOOK_EVERY_S = 0.1


@dataclass(frozen=True)
class Group:
    """The processes of a fit; torch's default process group where there are several.

    Attributes:
        rank: the number of this process.
    """

    rank: int = 0
    processes: int = 1

    def wrapped(self, module: torch.nn.Module, compute: Compute) -> torch.nn.Module:
        """The module whose gradients are the means over all processes."""
        if self.processes == 1:
            return module
        devices = [torch.device(compute.device)] if compute.on_cuda else None
        return torch.nn.parallel.DistributedDataParallel(module, device_ids=devices)

    def agreed(self, value: float, compute: Compute) -> float:
        """The value of process 0, so that all decide alike."""
        if self.processes == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64, device=compute.device)
        torch.distributed.broadcast(shared, src=0)
        return float(shared.item())


def fit_in_processes(
    rows: "TrainingSet",
    recipe: "Recipe",
    processes: int,
    kind: Literal["cpu", "cuda"],
    checkpoints: "Interruptible | None" = None,
) -> "Net":
    """Fit a net in several processes on this machine, one a CUDA device, or over gloo on the processor.

    A batch is shared between them, so that the net is that of one process but for rounding.

    Raises:
        Refused: as `fit_net`.
        PlatformError: a process broke off for another reason; its own words are in it.
    """
    from my_platform.learning.nets.net import Net

    with tempfile.TemporaryDirectory(prefix="my_platform_fit_") as name:
        folder = Path(name)
        for part in ("features", "labels", "days"):
            np.save(folder / f"{part}.npy", getattr(rows, part), allow_pickle=False)
        task = {
            "names": rows.names,
            "recipe": recipe.as_json(),
            "processes": processes,
            "kind": kind,
            "checkpoints": checkpoints and {**asdict(checkpoints), "folder": str(checkpoints.folder)},
        }
        (folder / "task.json").write_text(json.dumps(task))
        with _workers(folder, processes) as workers:
            while any(worker.poll() is None for worker in workers):
                _raise_problem(folder, workers)
                time.sleep(_LOOK_EVERY_S)
            _raise_problem(folder, workers)
        for rank in range(processes):
            tell_device_time(DeviceTime(**json.loads((folder / f"devices-{rank}.json").read_text())))
        return Net.of_files({path.name: path.read_bytes() for path in (folder / "net").iterdir()})


@contextlib.contextmanager
def _workers(folder: Path, processes: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """The processes; those that still run at the end are killed. They end by themselves when this one is gone."""
    path = os.pathsep.join([str(_PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])])
    # All are on this machine, whose own name need not be known to the network.
    environment = {"GLOO_SOCKET_IFNAME": "lo", **os.environ, "PYTHONPATH": path}
    call = f"import sys; from {__name__} import {work.__name__}; {work.__name__}(*sys.argv[1:])"
    command = [sys.executable, "-c", call, str(folder)]
    workers: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(processes):
            with open(folder / f"output-{rank}.txt", "wb") as output:
                workers.append(
                    subprocess.Popen(
                        [*command, str(rank)],
                        env=environment,
                        stdin=subprocess.PIPE,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
                )
        yield workers
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            assert worker.stdin is not None
            worker.stdin.close()


def _raise_problem(folder: Path, workers: list["subprocess.Popen[bytes]"]) -> None:
    """One that broke off leaves the others waiting for it."""
    for path in sorted(folder.glob("refused-*.txt")):
        raise Refused(path.read_text())
    for rank, worker in enumerate(workers):
        if worker.returncode:
            said = (folder / f"output-{rank}.txt").read_text(errors="replace").strip().splitlines()[-5:]
            raise PlatformError(
                f"process {rank} of {len(workers)} that fitted a net ended with {worker.returncode}: "
                + " | ".join(said)
            )


def work(folder_name: str, rank_text: str) -> None:
    """What one of the processes does: it fits with the others, and process 0 leaves the net in the folder."""
    from my_platform.learning.nets.fit import Host, Recipe, TrainingSet, fit_net
    from my_platform.learning.nets.training import Interruptible

    folder, rank = Path(folder_name), int(rank_text)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    task = json.loads((folder / "task.json").read_text())
    compute = pick_device(task["kind"], rank)
    group = _join(folder, rank, task["processes"], compute)
    features, labels, days = (
        np.load(folder / f"{part}.npy", mmap_mode="r", allow_pickle=False)
        for part in ("features", "labels", "days")
    )
    found = task["checkpoints"]
    checkpoints = Interruptible(Path(found["folder"]), found["every_s"]) if found else None
    rows = TrainingSet(features, np.asarray(labels), np.asarray(days), tuple(task["names"]))
    try:
        net = fit_net(rows, Recipe.from_json(task["recipe"]), Host(compute, checkpoints, group))
    except Refused as error:
        (folder / f"refused-{rank}.txt").write_text(str(error))
        sys.exit(1)
    (folder / f"devices-{rank}.json").write_text(json.dumps(asdict(device_time())))
    if rank == 0:
        (folder / "net").mkdir()
        for name, data in net.files().items():
            (folder / "net" / name).write_bytes(data)
    torch.distributed.destroy_process_group()


def _join(folder: Path, rank: int, processes: int, compute: Compute) -> Group:
    """Make this process one of those that meet at a file in the folder."""
    options: dict[str, Any] = {"device_id": torch.device(compute.device)} if compute.on_cuda else {}
    torch.distributed.init_process_group(
        "nccl" if compute.on_cuda else "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=processes,
        **options,
    )
    return Group(rank, processes)


def _end_with_parent() -> None:
    """Nobody writes here; it ends when the process that started this one does, however that happens."""
    os.read(sys.stdin.fileno(), 1)
    os._exit(1)
