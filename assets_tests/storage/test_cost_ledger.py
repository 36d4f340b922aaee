"""What computing cost, in the index."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from my_platform.learning.device_time import DeviceTime
from my_platform.operations.costs import costs
from my_platform.operations.meter import Spent
from my_platform.storage.trace_index import Cost, TraceIndex

FITTED = Cost("net", "2025-01-15", "f", "run", 10.0, 20.0, 5.0, 1000, 10, 20, 40.0, 12.0, 3.0)


def test_seconds_of_devices_are_kept_and_summed(tmp_path: Path) -> None:
    index = TraceIndex(tmp_path / "index.sqlite")
    untold = replace(FITTED, partition="2025-01-22", gpu_idle_s=None, gpu_waited_s=None)
    index.add([], [FITTED, untold])

    found = costs(index.costs(), "asset", [])

    assert list(index.costs()) == [FITTED, untold]
    assert (found["total"]["gpu_seconds"], found["total"]["gpu_idle_seconds"]) == (80.0, 12.0)
    assert (index.spent()["net"].gpu_s, index.spent()["net"].gpu_idle_s) == (80.0, 12.0)


def test_a_function_that_holds_two_devices_takes_twice_its_seconds_of_them() -> None:
    spent = Spent(at_s=10.0, wall_s=20.0, cpu_s=5.0, peak_bytes=1000, read_bytes=10)

    assert spent.as_record(gpus=2)["gpu_seconds"] == 40.0
    assert "gpu_seconds" not in spent.as_record(gpus=0)


def test_devices_are_idle_for_what_is_left_of_the_time_for_which_they_are_held() -> None:
    spent = Spent(10.0, 20.0, 5.0, 1000, 10, devices=DeviceTime(used_s=25.0, waited_s=3.0))

    assert spent.as_record(2) | {"gpu_idle_seconds": 15.0, "gpu_waited_seconds": 3.0} == spent.as_record(2)
    assert spent.shared(5).as_record(2)["gpu_idle_seconds"] == 3.0
    assert spent.as_record(1)["gpu_idle_seconds"] == 0.0
    assert "gpu_idle_seconds" not in spent.as_record(0)


def test_of_a_function_that_does_not_tell_of_its_devices_nothing_is_said() -> None:
    assert "gpu_idle_seconds" not in Spent(10.0, 20.0, 5.0, 1000, 10).as_record(1)


@pytest.mark.parametrize("since", ["", ", gpu_s real not null default 0"])
def test_an_index_from_before_devices_were_told_is_taken_over(tmp_path: Path, since: str) -> None:
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table costs (asset text not null, partition text not null, fingerprint text not null, "
            "run_id text not null, at_s real not null, wall_s real not null, cpu_s real not null, "
            "peak_bytes integer not null, read_bytes integer not null, written_bytes integer not null"
            f"{since}, primary key (asset, partition, fingerprint, run_id)) without rowid"
        )
        connection.execute(
            "insert into costs values ('a', '', 'f', 'run', 1, 2, 3, 4, 5, 6" + (", 0)" if since else ")")
        )

    index = TraceIndex(path)
    (old,) = index.costs()
    index.add([], [FITTED])

    assert old == Cost("a", "", "f", "run", 1.0, 2.0, 3.0, 4, 5, 6, 0.0, None, None)
    assert list(TraceIndex(path).costs()) == [old, FITTED]
