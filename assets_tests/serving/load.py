"""A steady load on a real service that is disturbed: killed or parted from its store, and given a new champion."""

import itertools
import json
import re
import resource
import socket
import sqlite3
import statistics
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import redis

from assets_tests import homes
from assets_tests.serving.redis_servers import RedisServer
from assets_tests.serving.service_home import ALL_TOKEN, DAYS, Running, promote_copy, serving
from my_platform.serving.redis_store import PREFIX

CONNECTIONS = 8
CARDS, TERMINALS = 2_000, 4_000
FIRST_ID = 10_000_000
# The windows pass over all events of the load, so that those that are held in memory stay as many.
_SPAN = timedelta(days=600)
_LABEL_EVERY = 10
_RECOVERS_S = 60.0
# After a restart requests that had failed before are asked again, and connections made again.
_RECOVERED_S = 3.0
# So long that the tries of one request are over before Redis is there again.
_GONE_S = 4.0
_SAMPLES = 120


@dataclass
class Sent:
    """What clients sent and heard: every request is sent again until it is answered.

    Attributes:
        acknowledged: ids of the rows that were answered.
        failures: when a request was not answered, or by a status of 500 or above, and what came.
        refused: what was answered by another status than 200 and below 500.
    """

    acknowledged: list[int] = field(default_factory=list)
    labels: int = 0
    failures: list[tuple[float, str]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@dataclass
class Disturbed:
    """What came of a disturbed load: memory is in bytes by seconds since it began, of the process that ended it."""

    most_per_s: float
    per_s: float
    sent: Sent
    outage: tuple[float, float]
    memory: list[tuple[float, int]]
    bundles: set[str]

    @property
    def unexpected(self) -> list[str]:
        """Failures at times when nothing was killed."""
        first, last = self.outage
        return [said for at, said in self.sent.failures if not first <= at <= last]

    @property
    def memory_spread(self) -> float:
        """How far resident memory moved from its median, as a share of that."""
        sizes = [size for _, size in self.memory]
        middle = statistics.median(sizes)
        return max(abs(size - middle) for size in sizes) / middle

    def line(self) -> str:
        """The figures in one line."""
        told = ", ".join(
            f"{at:.0f} s {size / 2**20:.0f}" for at, size in self.memory[:: max(1, _SAMPLES // 12)]
        )
        return (
            f"{len(self.sent.acknowledged):,} rows and {self.sent.labels:,} labels at {self.per_s:,.0f} a second of at most "
            f"{self.most_per_s:,.0f}, {len(self.sent.failures):,} sent again while something was killed, "
            f"{len(self.unexpected)} failed otherwise, memory within {self.memory_spread:.1%} (MiB: {told})"
        )


class Clients:
    """Connections that send rows, each a new one, and a label for every tenth.

    Args:
        seconds: how long they send in all; the rows' own times move on evenly meanwhile.
    """

    def __init__(self, url: str, seconds: float) -> None:
        self.url = url
        self.sent = Sent()
        begins = datetime.fromisoformat(f"{homes.day(DAYS)}T00:00:00+00:00")
        ends = min(begins + _SPAN, datetime.now(UTC) - timedelta(days=8))
        self._begins, self._speed = begins.replace(tzinfo=None), (ends - begins) / seconds
        self._began = time.monotonic()
        self._numbers = itertools.count()

    def send(self, seconds: float, per_s: float | None = None) -> float:
        """Send for some seconds, at a rate or as fast as answers come; how many rows a second were answered."""
        before = len(self.sent.acknowledged)
        ends = time.monotonic() + seconds
        workers = [threading.Thread(target=self._work, args=(ends, per_s)) for _ in range(CONNECTIONS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return (len(self.sent.acknowledged) - before) / seconds

    def _work(self, ends: float, per_s: float | None) -> None:
        pace = threading.Event()
        due = time.monotonic()
        connection: socket.socket | None = None
        while (now := time.monotonic()) < ends:
            if per_s is not None:
                due = max(due + CONNECTIONS / per_s, now)
                pace.wait(due - now)
            number = next(self._numbers)
            body, label = self._bodies(number)
            connection = self._until_answered(connection, "/v1/score", body)
            self.sent.acknowledged.append(FIRST_ID + number)
            if number % _LABEL_EVERY == 0:
                connection = self._until_answered(connection, "/v1/feedback", label)
                self.sent.labels += 1
        if connection is not None:
            connection.close()

    def _until_answered(
        self, connection: socket.socket | None, path: str, body: bytes
    ) -> socket.socket | None:
        pause, gives_up = threading.Event(), time.monotonic() + _RECOVERS_S
        while True:
            try:
                connection = connection or self._connected()
                status, answer = asked(connection, path, body)
                if status == 200:
                    return connection
                if status < 500:
                    self.sent.refused.append(f"{path} {body!r}: {status} {answer!r}")
                    return connection
                said = f"{path}: {status} {answer!r}"
            except OSError as error:
                connection, said = None, f"{path}: {error}"
            self.sent.failures.append((time.monotonic(), said))
            assert time.monotonic() < gives_up, f"{said}, for {_RECOVERS_S:.0f} s"
            pause.wait(0.1)

    def _connected(self) -> socket.socket:
        place = urlsplit(self.url)
        connection = socket.create_connection((place.hostname, place.port or 0), timeout=20)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _bodies(self, number: int) -> tuple[bytes, bytes]:
        key = FIRST_ID + number
        happened = (self._begins + (time.monotonic() - self._began) * self._speed).replace(microsecond=0)
        row = {
            "TRANSACTION_ID": key,
            "TX_DATETIME": happened.isoformat(),
            "CUSTOMER_ID": number * 7919 % CARDS,
            "TERMINAL_ID": number * 104_729 % TERMINALS,
            "TX_AMOUNT": 1 + number * 31 % 20_000 / 100,
        }
        known = (happened + timedelta(days=7)).isoformat()
        label = {"TRANSACTION_ID": key, "REPORTED_AT": known, "IS_FRAUD": number % 500 == 0}
        return json.dumps({"row": row}).encode(), json.dumps(label).encode()


def asked(connection: socket.socket, path: str, body: bytes) -> tuple[int, bytes]:
    """Status and body of a reply; raises OSError where none comes."""
    connection.sendall(
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {ALL_TOKEN}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    received = b""
    while True:
        head, found, answer = received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head)
        if found and length and len(answer) >= int(length[1]):
            return int(head.split(None, 2)[1]), answer
        part = connection.recv(65_536)
        if not part:
            raise ConnectionResetError("the connection ended before the answer")
        received += part


def disturbed(home: Path, seconds: float, server: RedisServer | None = None) -> Disturbed:
    """Load a service at half of what it can, kill it or its Redis, and then promote another champion.

    Memory is told of the second half, by the process that serves then: windows and the store's pages in memory, which
    are bounded, are full by that time.
    """
    given: dict[str, Any] = {"serve_rate": 1_000_000}
    if server is not None:
        given["serve_redis_url"] = server.url
    with ExitStack() as services:
        running = services.enter_context(serving(home, **given))
        probe_s = min(10.0, seconds / 5)
        clients = Clients(running.url, probe_s + seconds)
        most = clients.send(probe_s)
        began = time.monotonic()
        told: list[float] = []
        load = threading.Thread(target=lambda: told.append(clients.send(seconds, most / 2)))
        load.start()
        _wait_until(began + seconds * 0.2)
        killed = time.monotonic()
        if server is not None:
            server.kill()
            _wait_until(killed + _GONE_S)
            server.start()
        else:
            running.kill()
            running = services.enter_context(serving(home, **given))
            clients.url = running.url
        outage = (killed, time.monotonic() + _RECOVERED_S)
        _wait_until(began + seconds * 0.5)
        promote_copy(home, threshold=0.03)
        memory = _memory(running, began, seconds * 0.5, seconds)
        load.join()
        bundles = {bundle for (bundle,) in running.log("select distinct bundle from predictions")}
        assert running.end() == 0
    return Disturbed(most, told[0], clients.sent, outage, memory, bundles)


def logged(home: Path) -> list[int]:
    """The ids in the prediction log."""
    with sqlite3.connect(home / "serving" / "fraud" / "log.sqlite") as log:
        return [int(key) for (key,) in log.execute("select key from predictions")]


def counted(home: Path, feature_set: str, server: RedisServer | None = None) -> list[int]:
    """The ids of the load's rows that are events of a feature set, each as often as it counts."""
    if server is None:
        with sqlite3.connect(home / "serving" / "fraud" / "state.sqlite") as state:
            found = state.execute("select key from events where feature_set = ?", (feature_set,)).fetchall()
            return [key for (key,) in found if key >= FIRST_ID]
    with redis.Redis.from_url(server.url) as state_server:
        names = state_server.scan_iter(f"{PREFIX}fraud:events:{feature_set}:*")
        keys = [json.loads(place)[2] for name in names for place in state_server.hkeys(name)]
    return [key for key in keys if key >= FIRST_ID]


def _memory(running: Running, began: float, first: float, last: float) -> list[tuple[float, int]]:
    """Resident bytes of a service, at equal steps between two times since the load began."""
    found = []
    for number in range(_SAMPLES):
        at = first + (last - first) * number / _SAMPLES
        _wait_until(began + at)
        pages = int(Path(f"/proc/{running.process.pid}/statm").read_text().split()[1])
        found.append((at, pages * resource.getpagesize()))
    return found


def _wait_until(moment: float) -> None:
    threading.Event().wait(max(0.0, moment - time.monotonic()))
