"""Fits by Ray Train: LightGBM whose workers hold shards of the rows, and nets whose workers share each batch."""

import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import PlatformError, Refused
from my_platform.learning.engines import Cluster, OverWorkers
from my_platform.learning.ray_cluster import connected

if TYPE_CHECKING:
    from my_platform.learning.nets.fit import TrainingSet
    from my_platform.learning.nets.net import Net

_ROOM_S = 600.0
_LOOK_S = 1.0
# Where workers listened is no part of a model.
_WHERE = re.compile(r"^\[(machines|local_listen_port): .*\]$", re.M)


class Mailbox:
    """Where the first worker leaves what all have fitted: an actor, as workers may be on other nodes."""

    def __init__(self) -> None:
        self._left: dict[str, Any] = {}

    def leave(self, found: Mapping[str, Any]) -> None:
        self._left.update(found)

    def take(self) -> dict[str, Any]:
        return self._left


def fit_trees(
    matrix: NDArray[np.float32] | NDArray[np.float64],
    target: NDArray[np.float32],
    names: Sequence[str],
    settings: Mapping[str, object],
    rounds: int,
    workers: int,
    threads: int,
    cluster: Cluster,
) -> OverWorkers[str]:
    """LightGBM's text of trees that workers fitted together, each on a shard of the rows.

    Histograms are added up over the workers (Meng et al.: A Communication-Efficient Parallel Algorithm for Decision
    Tree, 2016, is its relative; this is LightGBM's `tree_learner=data`, which adds all of them). The trees differ from
    those of one process in where features are cut into bins. The same arguments give the same text.

    Args:
        matrix: rows × features, NaN where missing.
        settings: LightGBM's parameters, with all that fixes the result.

    Raises:
        PlatformError: the cluster cannot be reached or has no room, or a worker broke off.
    """
    import ray

    with connected(cluster.address):
        # Every so-manieth row, so that each shard has rows of all days.
        shards = [
            ray.put((np.ascontiguousarray(matrix[rank::workers]), target[rank::workers]))
            for rank in range(workers)
        ]
        told = {"names": list(names), "settings": dict(settings), "rounds": rounds, "threads": threads}
        left = _train("lightgbm", _fit_shard, {**told, "shards": shards}, workers, threads, 0, cluster)
    text = _WHERE.sub(lambda found: f"[{found[1]}: ]", left["text"])
    return OverWorkers(text.replace(f"[num_threads: {threads}]", "[num_threads: 0]", 1), left["fit_s"])


def fit_net_over_workers(
    rows: "TrainingSet",
    recipe: Mapping[str, Any],
    kind: Literal["cpu", "cuda"],
    workers: int,
    threads: int,
    cluster: Cluster,
) -> "OverWorkers[Net]":
    """A net that workers fitted together; each batch is shared by them, so that it is that of one but for rounding.

    Raises:
        Refused: as `fit_net`.
        PlatformError: as `fit_trees`.
    """
    import ray

    from my_platform.learning.nets.net import Net

    with connected(cluster.address):
        held = [ray.put(part) for part in (rows.features, rows.labels, rows.days)]
        told = {"rows": held, "names": list(rows.names), "recipe": dict(recipe), "kind": kind}
        left = _train("torch", _fit_part, told, workers, threads, int(kind == "cuda"), cluster)
    return OverWorkers(Net.of_files(left["files"]), left["fit_s"])


def _fit_shard(told: dict[str, Any]) -> None:
    """What each worker of a LightGBM fit does."""
    import lightgbm as lgb
    import ray
    from ray.train.lightgbm import get_network_params

    rank = ray.train.get_context().get_world_rank()
    matrix, target = ray.get(told["shards"][rank])
    settings = {
        **told["settings"],
        "num_threads": told["threads"],
        "tree_learner": "data",
        "pre_partition": True,
        **get_network_params(),
    }
    started = time.perf_counter()
    data = lgb.Dataset(matrix, label=target, feature_name=told["names"], params=dict(settings))
    booster = lgb.train(settings, data, num_boost_round=told["rounds"])
    if rank == 0:
        _leave(told, {"text": booster.model_to_string(), "fit_s": time.perf_counter() - started})


def _fit_part(told: dict[str, Any]) -> None:
    """What each worker of a net's fit does."""
    import ray

    from my_platform.learning.nets.compute import pick_device
    from my_platform.learning.nets.distributed import Group
    from my_platform.learning.nets.fit import Host, Recipe, TrainingSet, fit_net

    context = ray.train.get_context()
    rank = context.get_world_rank()
    features, labels, days = ray.get(told["rows"])
    rows = TrainingSet(features, labels, days, tuple(told["names"]))
    group = Group(rank, context.get_world_size())
    started = time.perf_counter()
    try:
        # Ray shows a worker its own devices only.
        net = fit_net(rows, Recipe.from_json(told["recipe"]), Host(pick_device(told["kind"]), group=group))
    except Refused as error:
        _leave(told, {"refused": str(error)})
        return
    if rank == 0:
        _leave(told, {"files": net.files(), "fit_s": time.perf_counter() - started})


def _leave(told: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    import ray

    ray.get(told["mailbox"].leave.remote(found))


def _train(
    framework: Literal["lightgbm", "torch"],
    loop: Callable[[dict[str, Any]], None],
    told: Mapping[str, Any],
    workers: int,
    cpus: int,
    gpus: int,
    cluster: Cluster,
) -> dict[str, Any]:
    """Have Ray Train run a loop on several workers; what they left."""
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.lightgbm import LightGBMTrainer
    from ray.train.torch import TorchTrainer

    each = {"CPU": cpus, **({"GPU": gpus} if gpus else {})}
    _wait_for_room(workers, each)
    name = f"fit-{uuid.uuid4().hex[:12]}"
    mailbox: Any = ray.remote(Mailbox).options(num_cpus=0).remote()
    trainer = (LightGBMTrainer if framework == "lightgbm" else TorchTrainer)(
        loop,
        train_loop_config={**told, "mailbox": mailbox},
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=bool(gpus), resources_per_worker=each, placement_strategy="SPREAD"
        ),
        run_config=RunConfig(name=name, storage_path=str(cluster.folder)),
    )
    try:
        trainer.fit()
        left: dict[str, Any] = ray.get(mailbox.take.remote())
    except ray.train.TrainingFailedError as error:
        raise PlatformError(f"a fit over {workers} Ray workers broke off: {error}") from error
    finally:
        ray.kill(mailbox)
        shutil.rmtree(cluster.folder / name, ignore_errors=True)
    if "refused" in left:
        raise Refused(left["refused"])
    return left


def _wait_for_room(workers: int, each: Mapping[str, float]) -> None:
    """Wait until the cluster has room for so many workers; other fits and backfills may be using it."""
    import ray

    wanted = {name: number * workers for name, number in each.items()}
    ends = time.monotonic() + _ROOM_S
    while True:
        has, free = ray.cluster_resources(), ray.available_resources()
        if all(free.get(name, 0) >= number for name, number in wanted.items()):
            return
        never = [name for name, number in wanted.items() if has.get(name, 0) < number]
        if never or time.monotonic() > ends:
            raise PlatformError(
                f"a fit over {workers} Ray workers needs {wanted}, and the cluster has "
                f"{ {name: has.get(name, 0) for name in wanted} }, of which { {name: free.get(name, 0) for name in wanted} } "
                "is free. Start nodes, or lower MY_PLATFORM_FIT_WORKERS, MY_PLATFORM_THREADS or MY_PLATFORM_WORKERS"
            )
        time.sleep(_LOOK_S)
