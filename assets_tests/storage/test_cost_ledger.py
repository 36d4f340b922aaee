"""What computing cost, in the index."""

import sqlite3
from pathlib import Path

from my_platform.operations.costs import costs
from my_platform.operations.meter import Spent
from my_platform.storage.trace_index import Cost, TraceIndex

FITTED = Cost("net", "2025-01-15", "f", "run", 10.0, 20.0, 5.0, 1000, 10, 20, gpu_s=40.0)


def test_seconds_of_devices_are_kept_and_summed(tmp_path: Path) -> None:
    index = TraceIndex(tmp_path / "index.sqlite")
    index.add([], [FITTED])

    found = costs(index.costs(), "asset", [])

    assert list(index.costs()) == [FITTED]
    assert found["total"]["gpu_seconds"] == 40.0


def test_a_function_that_holds_two_devices_takes_twice_its_seconds_of_them() -> None:
    spent = Spent(at_s=10.0, wall_s=20.0, cpu_s=5.0, peak_bytes=1000, read_bytes=10)

    assert spent.as_record(gpus=2)["gpu_seconds"] == 40.0
    assert "gpu_seconds" not in spent.as_record(gpus=0)


def test_an_index_from_before_devices_were_told_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute(
            "create table costs (asset text not null, partition text not null, fingerprint text not null, "
            "run_id text not null, at_s real not null, wall_s real not null, cpu_s real not null, "
            "peak_bytes integer not null, read_bytes integer not null, written_bytes integer not null, "
            "primary key (asset, partition, fingerprint, run_id)) without rowid"
        )
        connection.execute("insert into costs values ('a', '', 'f', 'run', 1, 2, 3, 4, 5, 6)")

    (old,) = TraceIndex(path).costs()

    assert (old.asset, old.written_bytes, old.gpu_s) == ("a", 6, 0.0)
