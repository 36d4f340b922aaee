"""A process that writes online state is killed anywhere: what it had acknowledged is there."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from my_platform.serving.sqlite_store import SqliteStore

# Appends events in batches for ever, and says each batch's last number once the store has acknowledged it.
WRITER = """
import sys
from pathlib import Path
from my_platform.features.online import Event
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.store import EntityEvent, Remembered

store = SqliteStore(Path(sys.argv[1]))
number = len(store.events("a", 1))
while True:
    batch = range(number, number + 1 + number % 7)
    store.append(
        [EntityEvent("a", 1, Event(each, each, (each * 0.5,))) for each in batch],
        [Remembered(each, each, {"n": each}) for each in batch],
    )
    number = batch[-1] + 1
    print(number, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_before_a_kill_is_there_on_reopening(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "state.sqlite"
    acknowledged, draws = 0, random.Random(seed)
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(draws.randint(1, 400)):
                acknowledged = int(writer.stdout.readline())
            writer.kill()
            told = writer.stdout.read().split("\n")
        acknowledged = max([acknowledged, *(int(line) for line in told[:-1] if line)])
        store = SqliteStore(path)
        events = store.events("a", 1)
        assert [event.order for event in events] == list(range(len(events)))
        assert len(events) >= acknowledged
        # Events and rows of a batch are there together.
        assert store.row(len(events) - 1) == {"n": len(events) - 1}
        assert store.row(len(events)) is None
        store.close()
