"""HTTP/1.1 as uvicorn speaks it, with an end to headers that are too long or never come, and a short way for scoring.

A request that is there as a whole may be answered by a call and a callback, without a task, its messages and their
checks. What uvicorn promises of a connection (order of pipelined requests, bounds of
what waits to be written, the end in good order) stays with uvicorn.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from my_platform.serving.reply import Reply

MOST_HEADER_BYTES = 32 << 10
HEADERS_WITHIN_S = 10.0
# In the scope of a request whose body is there as a whole, so that nobody needs to wait for it with a clock.
WHOLE = "my_platform.whole"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: 89\r\n"
    b"connection: close\r\n\r\n"
    b'{"error":{"code":"headers","message":"headers have at most 32,768 bytes","problems":[]}}\n'
)


class Straight(Protocol):
    """An ASGI application that answers some requests at once."""

    def straight(self, scope: Any, body: bytes, tell: Callable[[Reply], None]) -> bool:
        """Whether this request is answered by a call of `tell`, soon or already; else it goes the way of ASGI."""


class BoundedHttp(HttpToolsProtocol):
    """Closes connections whose first request does not begin in time, or whose headers grow beyond a bound.

    The application is one that answers some requests at once (`Straight`).
    """

    app: Any
    # The request that began in what is being read, until it is whole or all of that is read.
    _begun: RequestResponseCycle | None = None
    _reading = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waited_for = 0
        self._complete = self._refused = False
        self._deadline = self.loop.call_later(HEADERS_WITHIN_S, transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self._complete:
            self._waited_for += len(data)
        self._reading = True
        super().data_received(data)
        self._reading = False
        self._go_on()
        if not self._complete and self._waited_for > MOST_HEADER_BYTES and not self.transport.is_closing():
            self._refuse()

    def on_message_begin(self) -> None:
        self._complete = False
        self._waited_for = 0
        self._deadline.cancel()
        self._deadline = self.loop.call_later(HEADERS_WITHIN_S, self.transport.close)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._complete = True
        self._deadline.cancel()
        if sum(len(name) + len(value) for name, value in self.headers) > MOST_HEADER_BYTES:
            self._refuse()
            return
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._refused:
            self.scope[WHOLE] = True  # type: ignore[literal-required]
            super().on_message_complete()
            self._go_on()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if self._reading:
            self._begun = cycle
        else:
            # It waited for the one before it. Called from that one's answer, it could not be answered without a task but
            # by a call within a call, as many deep as were sent.
            super()._start_asgi_task(cycle, app)

    def _go_on(self) -> None:
        """Answer the request that has begun at once, or let uvicorn do it."""
        cycle, self._begun = self._begun, None
        if cycle is None:
            return
        whole = not (cycle.more_body or cycle.waiting_for_100_continue or self.flow.write_paused)
        if not (
            whole and self.app.straight(cycle.scope, bytes(cycle.body), lambda reply: _tell(cycle, reply))
        ):
            super()._start_asgi_task(cycle, self.app)

    def _refuse(self) -> None:
        self._refused = True
        self.transport.write(_TOO_LARGE)
        self.transport.close()


def _tell(cycle: RequestResponseCycle, reply: Reply) -> None:
    """Write a whole reply, as the messages of ASGI would have it written."""
    # Of pipelined requests, uvicorn tells only the last one that its connection is gone.
    if cycle.disconnected or cycle.transport.is_closing():
        return
    cycle.response_started = True
    closed = (b"connection", b"close") in reply.headers
    cycle.keep_alive = cycle.keep_alive and not closed
    told = [STATUS_LINE[reply.status], b"content-length: %d\r\n" % len(reply.body)]
    told += [b"%b: %b\r\n" % header for header in (reply.kind, *reply.headers)]
    if not cycle.keep_alive and not closed:
        told.append(b"connection: close\r\n")
    cycle.transport.write(b"".join((*told, b"\r\n", b"" if cycle.scope["method"] == "HEAD" else reply.body)))
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
