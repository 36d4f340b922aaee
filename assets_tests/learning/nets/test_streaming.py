import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from assets_tests.learning.nets.rows import NAMES, SMALL, training_set
from my_platform.errors import Refused
from my_platform.learning.device_time import device_time
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.fit import Host, fit_net, fit_streamed
from my_platform.learning.nets.net import predict
from my_platform.learning.nets.sampling import Labels, last_rows
from my_platform.learning.nets.sources import ArrayShard, NpyShard, Sampling, StreamedRows, survey
from my_platform.learning.nets.training import Interruptible
from my_platform.learning.nets.transforms import Floats, fit_transform

ROWS = training_set()
LAST = last_rows(ROWS.days, ROWS.labels, SMALL.training.stopping_share)
HELD_OUT = ArrayShard("last days", ROWS.features, ROWS.labels, np.flatnonzero(LAST))


def shards(count: int = 5) -> list[ArrayShard]:
    order = np.random.default_rng(0).permutation(np.flatnonzero(~LAST))
    return [
        ArrayShard(f"shard {number}", ROWS.features, ROWS.labels, part)
        for number, part in enumerate(np.array_split(order, count))
    ]


def stream(sampling: Sampling, parts: list[ArrayShard]) -> StreamedRows:
    transform = fit_transform(ROWS.features, NAMES, 8)
    return StreamedRows(parts, survey(parts, 1_000, 1), transform, sampling, Compute())


def test_a_streamed_fit_is_as_good_as_one_in_memory() -> None:
    streamed = fit_streamed(shards(), HELD_OUT, NAMES, SMALL, Host())
    whole = fit_net(ROWS, SMALL, Host())
    assert streamed.about["history"][-1]["stopping_loss"] == pytest.approx(
        whole.about["history"][-1]["stopping_loss"], rel=0.05
    )


def test_shards_from_files_give_the_bytes_of_shards_from_memory(folder: Path) -> None:
    files = []
    for number, shard in enumerate(shards()):
        paths = folder / f"features-{number}.npy", folder / f"labels-{number}.npy"
        for path, array in zip(paths, shard.read(), strict=True):
            np.save(path, array, allow_pickle=False)
        files.append(NpyShard(*paths))
    from_files = fit_streamed(files, HELD_OUT, NAMES, SMALL, Host())
    assert from_files.digest == fit_streamed(shards(), HELD_OUT, NAMES, SMALL, Host()).digest


def test_an_interrupted_streamed_fit_goes_on_and_ends_with_the_same_bytes(folder: Path) -> None:
    class Interrupted(Exception):
        pass

    def stop(line: Mapping[str, float]) -> None:
        if line["epoch"] == 1:
            raise Interrupted

    host = Host(checkpoints=Interruptible(folder, every_s=0))
    with pytest.raises(Interrupted):
        fit_streamed(shards(), HELD_OUT, NAMES, SMALL, replace(host, on_epoch=stop))
    resumed = fit_streamed(shards(), HELD_OUT, NAMES, SMALL, host)
    assert resumed.digest == fit_streamed(shards(), HELD_OUT, NAMES, SMALL, Host()).digest


def test_batches_from_the_middle_of_an_epoch_are_those_it_would_have_had() -> None:
    rows = stream(Sampling(batch_rows=64, parts=2, seed=1), shards())
    whole = [inputs for inputs, _ in rows.epoch(3, 0)]
    assert len(whole) == rows.steps
    for first in (1, rows.steps // 2, rows.steps - 1):
        rest = [inputs for inputs, _ in rows.epoch(3, first)]
        assert len(rest) == rows.steps - first
        assert all((a == b).all() for a, b in zip(rest, whole[first:], strict=True))


def test_an_epoch_takes_no_row_twice() -> None:
    rows = stream(Sampling(batch_rows=32, parts=2, seed=1), shards())
    taken = Counter(row.tobytes() for inputs, _ in rows.epoch(0, 0) for row in inputs.numpy())
    assert sum(taken.values()) == rows.steps * 32
    assert set(taken.values()) == {1}


def test_processes_share_each_batch() -> None:
    whole, *halves = (
        [inputs.numpy() for inputs, _ in stream(Sampling(64, 2, 1, *group), shards()).epoch(0, 0)]
        for group in ((0, 1), (0, 2), (1, 2))
    )
    for batch, first, second in zip(whole, *halves, strict=True):
        assert {row.tobytes() for row in batch} == {row.tobytes() for row in (*first, *second)}
        assert len(first) == len(second) == 32


def test_a_shard_that_changes_while_a_net_is_fitted_on_it_is_refused() -> None:
    parts = shards()
    rows = stream(Sampling(64, 2, 1), parts)
    rows._shards = [replace(part, labels=~part.labels) for part in parts]
    with pytest.raises(Refused, match=r"shard shard \d has changed"):
        list(rows.epoch(0, 0))


def test_a_set_that_does_not_fit_on_the_device_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_net(ROWS, SMALL, Host())
    monkeypatch.setattr(Compute, "free_bytes", lambda _: 1_000)
    streamed = fit_net(ROWS, SMALL, Host())
    assert streamed.transform != whole.transform or streamed.digest != whole.digest
    assert predict(streamed, ROWS.features, Compute()).sum() == pytest.approx(ROWS.labels.sum(), rel=0.2)


def test_a_stream_of_slow_shards_tells_for_how_long_the_device_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read, before = ArrayShard.read, device_time()
    slow_s = 0.02

    def slowly(shard: ArrayShard) -> tuple[Floats, Labels]:
        time.sleep(slow_s)
        return read(shard)

    whole = fit_net(ROWS, SMALL, Host())
    in_memory = device_time() - before
    parts = shards()
    monkeypatch.setattr(ArrayShard, "read", slowly)
    streamed = fit_streamed(parts, HELD_OUT, NAMES, SMALL, Host())
    found = device_time() - before - in_memory

    assert in_memory.waited_s == 0.0
    assert in_memory.used_s > 0.0
    # The first shard of each epoch is not read before it is waited for, and a read sleeps at least that long.
    assert found.waited_s >= slow_s * len(streamed.about["history"])
    assert found.used_s > 0.0
    assert streamed.about.keys() - {"shards"} == whole.about.keys()
