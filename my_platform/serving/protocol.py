"""HTTP/1.1 as uvicorn speaks it, with an end to headers that are too long or never come."""

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES = 32 << 10
HEADERS_WITHIN_S = 10.0
# In the scope of a request whose body is there as a whole, so that nobody needs to wait for it with a clock.
WHOLE = "my_platform.whole"
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\ncontent-length: 89\r\n"
    b"connection: close\r\n\r\n"
    b'{"error":{"code":"headers","message":"headers have at most 32,768 bytes","problems":[]}}\n'
)


class BoundedHttp(HttpToolsProtocol):
    """Closes connections whose first request does not begin in time, or whose headers grow beyond a bound."""

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
        super().data_received(data)
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

    def _refuse(self) -> None:
        self._refused = True
        self.transport.write(_TOO_LARGE)
        self.transport.close()
