"""The metrics of a home by HTTP, on loopback: each request reads them anew, one at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

from my_platform.errors import PlatformError
from my_platform.operations.metrics import CONTENT_TYPE

LOOPBACK = "127.0.0.1"
_CLIENT_S = 10


@contextmanager
def listening(port: int, text: Callable[[], str], log: Callable[[str], None]) -> Iterator[HTTPServer]:
    """A server that answers ``GET /metrics`` when it is told to serve.

    Args:
        port: 0 takes a free one.
        text: the metrics; where it raises PlatformError, the answer is 503.
        log: told of what could not be answered.

    Raises:
        PlatformError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        # A client that says nothing does not keep the next one waiting for ever.
        timeout = _CLIENT_S

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(HTTPStatus.NOT_FOUND, "there is /metrics\n")
                return
            try:
                found = text()
            except PlatformError as error:
                log(str(error))
                self._answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{error}\n")
                return
            self._answer(HTTPStatus.OK, found)

        def _answer(self, status: HTTPStatus, body: str) -> None:
            data = body.encode()
            self.send_response(status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    try:
        server = HTTPServer((LOOPBACK, port), Handler)
    except OSError as error:
        raise PlatformError(
            f"port {port} of {LOOPBACK} cannot be used: {error.strerror}; choose another one with --port"
        ) from error
    with server:
        yield server
