"""An HTTP proxy on loopback between clients and an S3 server, which brings faults about and counts what took effect.

The clients' endpoint is the proxy. Requests are passed on as they came, with the same Host, which is signed.
"""

import contextlib
import http.client
import random
import re
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

# A client that gives up closes its connection; one that never does is let go.
_LONGEST_SILENCE_S = 30.0
_SLOW_PIECES, _SLOW_WAIT_S = 8, 0.05
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}


class Fault(Enum):
    """What becomes of a request.

    Those above the line never reach the server; those below it take effect there.
    """

    SLOW_DOWN = "503 SlowDown"
    THROTTLED = "429 TooManyRequests"
    BROKEN = "500 InternalError"
    CONFLICT = "409 ConditionalRequestConflict"
    PRECONDITION = "412 PreconditionFailed"
    CUT_UPLOAD = "the connection is cut in the middle of the request"
    HUNG_UP = "the connection is cut before an answer"
    # ---
    LOST_REPLY = "the connection is cut after the effect, before an answer"
    LATE_REPLY = "nothing is answered until the client gives up, after the effect"
    CUT_DOWNLOAD = "the connection is cut in the middle of the answer"
    STALLED_DOWNLOAD = "the answer stops in its middle until the client gives up"
    SLOW = "the answer comes in small pieces"


ANSWERED = (Fault.SLOW_DOWN, Fault.THROTTLED, Fault.BROKEN, Fault.CONFLICT, Fault.PRECONDITION)


@dataclass(frozen=True)
class Ask:
    """A request: its method, and its path without the query; a listing has the method LIST."""

    method: str
    path: str


Plan = Callable[[Ask], Fault | None]
"""What becomes of a request; called for one at a time."""


def none(_: Ask) -> Fault | None:
    """No fault at all."""
    return None


def at(fault: Fault, numbers: Sequence[int], *, method: str = "", path: str = "") -> Plan:
    """A fault at some of the requests of a method whose path matches an expression, the first of which is 1."""
    seen = 0

    def plan(ask: Ask) -> Fault | None:
        nonlocal seen
        if method not in ("", ask.method) or not re.search(path, ask.path):
            return None
        seen += 1
        return fault if seen in numbers else None

    return plan


def at_random(seed: int, share: float, faults: Sequence[Fault]) -> Plan:
    """Faults at a share of all requests; which ones they can meet depends on their method."""
    chance = random.Random(seed)

    def plan(ask: Ask) -> Fault | None:
        fault = chance.choice(faults)
        met = chance.random() < share
        return fault if met and can_meet(fault, ask) else None

    return plan


def can_meet(fault: Fault, ask: Ask) -> bool:
    """Whether a server may answer a request so."""
    if fault in (Fault.CONFLICT, Fault.PRECONDITION, Fault.CUT_UPLOAD):
        return ask.method == "PUT"
    if fault in (Fault.CUT_DOWNLOAD, Fault.STALLED_DOWNLOAD):
        return ask.method in ("GET", "LIST")
    return True


class FaultProxy:
    """A running proxy.

    Attributes:
        url: the endpoint of the clients.
        plan: what becomes of the requests from now on.
        gone: whether the server is gone for all requests from now on.
        injected: the faults that were brought about.
        effects: requests that the server has answered with success, by method and path.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.plan: Plan = none
        self.injected: Counter[Fault] = Counter()
        self.effects: Counter[Ask] = Counter()
        self.url = ""
        self.gone = False
        # A plan may ask how often something was written.
        self.lock = threading.RLock()

    def fault_of(self, ask: Ask) -> Fault | None:
        with self.lock:
            fault = Fault.HUNG_UP if self.gone else self.plan(ask)
            if fault is not None:
                self.injected[fault] += 1
            return fault

    def took_effect(self, ask: Ask) -> None:
        with self.lock:
            self.effects[ask] += 1

    def written(self, part: str = "") -> Counter[str]:
        """How often each object was written, of those whose path holds a part."""
        with self.lock:
            return Counter(
                {a.path: n for a, n in self.effects.items() if a.method == "PUT" and part in a.path}
            )


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[FaultProxy]:
    """A proxy before the server of a URL."""
    proxy = FaultProxy(upstream)
    server = _Server(proxy)
    proxy.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.proxy = proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no fault of the proxy."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        path, _, query = self.path.partition("?")
        ask = Ask("LIST" if self.command == "GET" and "list-type=" in query else self.command, path)
        fault = self.server.proxy.fault_of(ask)
        length = int(self.headers.get("Content-Length") or 0)
        if fault is Fault.CUT_UPLOAD:
            self.rfile.read(length // 2)
        if fault in (Fault.CUT_UPLOAD, Fault.HUNG_UP):
            return self._hang_up()
        body = self.rfile.read(length)
        if fault in ANSWERED:
            return self._refuse(fault)
        try:
            status, headers, data = self._pass_on(body)
        except OSError:
            return self._hang_up()
        if 200 <= status < 300:
            self.server.proxy.took_effect(ask)
        if fault is Fault.LATE_REPLY:
            self._wait_until_given_up()
        if fault in (Fault.LATE_REPLY, Fault.LOST_REPLY):
            return self._hang_up()
        self._answer(status, headers, data, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.proxy.upstream, timeout=120)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], data: bytes, fault: Fault | None) -> None:
        self.send_response_only(status)
        names = {name.lower() for name, _ in headers}
        for name, value in headers:
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        if "content-length" not in names and status not in (204, 304):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault in (Fault.CUT_DOWNLOAD, Fault.STALLED_DOWNLOAD):
            self.wfile.write(data[: len(data) // 2])
            self.wfile.flush()
            if fault is Fault.STALLED_DOWNLOAD:
                self._wait_until_given_up()
                return self._hang_up()
            # A proper end, as a proxy on the way makes one: only the number of bytes tells that some are missing.
            self.close_connection = True
            return None
        step = max(1, len(data) // _SLOW_PIECES) if fault is Fault.SLOW else max(1, len(data))
        for start in range(0, len(data), step):
            if fault is Fault.SLOW:
                time.sleep(_SLOW_WAIT_S)
            self.wfile.write(data[start : start + step])

    def _refuse(self, fault: Fault) -> None:
        status, code = fault.value.split()
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response_only(int(status))
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _wait_until_given_up(self) -> None:
        with contextlib.suppress(OSError):
            select.select([self.connection], [], [], _LONGEST_SILENCE_S)

    def _hang_up(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            # A reset and no proper end: half an answer must not look like a whole one.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.connection.close()

    def log_message(self, *_: object) -> None: ...
