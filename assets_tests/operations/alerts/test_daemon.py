"""The real daemon tells alerts by itself: once each, also where it was killed in between."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from assets_tests.homes import CHECKOUT, COMMAND, folder_in_memory
from assets_tests.operations.alerts.receivers import web_server
from assets_tests.operations.watched_shop import day, land, land_all

pytestmark = pytest.mark.slow

_LOOK_AGAIN_S = 0.5
_PATIENCE_S = 300.0


def until(there: Callable[[], bool]) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not there():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(_LOOK_AGAIN_S)


@contextmanager
def served(home: Path, webhook: str) -> Iterator[None]:
    """`my-platform ui` on a home, in a process group of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    given = {
        "DOMAINS": "assets_tests.operations.watched_shop",
        "SENSOR_INTERVAL_S": "2",
        "ALERT_INTERVAL_S": "2",
        "ALERT_WEBHOOK_URL": webhook,
    }
    with open(home.with_name("ui.log"), "ab") as log:
        process = subprocess.Popen(
            [str(COMMAND), "--home", str(home), "ui", "--port", str(port)],
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                **{f"MY_PLATFORM_{name}": value for name, value in given.items()},
            },
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            yield
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(60)


def test_the_daemon_tells_of_a_broken_file_and_of_its_mending_once_over_a_restart() -> None:
    key = f"refused raw/orders {day(5)}"
    with folder_in_memory() as folder, web_server() as web:
        home = folder / "a home"
        land_all(home)
        land(home, 5, lambda rows: rows.drop("AMOUNT"))

        def told(what: str) -> bool:
            return (what, key) in [(alert["what"], alert["key"]) for alert in web.alerts]

        with served(home, web.url):
            until(lambda: told("began"))
        with served(home, web.url):
            land(home, 5)
            until(lambda: told("ended"))
        found = [(alert["what"], alert["key"]) for alert in web.alerts]
        assert [each for each in found if each[1] == key] == [("began", key), ("ended", key)]
        assert len(set(found)) == len(found)
        assert not [alert for alert in web.alerts if alert["kind"] == "run_failed"]
