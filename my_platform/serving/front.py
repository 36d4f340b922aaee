"""A front: a process that speaks HTTP for the one that scores, beside others on the same port.

It reads requests, refuses what its head or its length tells, and hands the others on as a whole. It holds nothing that
outlives a request, so that it may be killed at any time: another one takes its place, and clients ask again.
"""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from my_platform.serving.channel import Channel, reply_of, request_parts
from my_platform.serving.gate import FEEDBACK, OUTCOME, SCORE, Bounds, Gate, Message, Receive, Send, needs
from my_platform.serving.protocol import WHOLE
from my_platform.serving.reply import Failure, Reply
from my_platform.serving.tokens import Token, Tokens

# The number of a frame that is no request: a reply that the front gave by itself.
REFUSED = 0
_MOST_NUMBERS = 2**32 - 1
# How often a token asks is counted by the process that scores.
_ANY_RATE = 1e15
Tell = Callable[[Reply], None]
logger = logging.getLogger("my_platform.serving")


class Front:
    """The ASGI application of a front.

    Args:
        ended: called when the process that scores is gone.
    """

    def __init__(self, gate: Gate, ended: Callable[[], None]) -> None:
        self._gate, self._ended = gate, ended
        self._last = REFUSED
        self._waiting: dict[int, Tell] = {}
        self._channel = Channel(self._heard, self._lost)

    async def connect(self, side: socket.socket) -> None:
        """Speak with the process that scores by this socket."""
        await asyncio.get_running_loop().create_connection(lambda: self._channel, sock=side)

    def straight(self, scope: Any, body: bytes, tell: Tell) -> bool:
        """Hand a whole request on, or refuse it."""
        started = time.perf_counter()
        try:
            self._check(scope)
            if len(body) > self._gate.bounds.body_bytes:
                raise self._gate.too_large()
        except Failure as failure:
            tell(self._refused(scope, failure, started))
        else:
            self._hand_on(scope, body, tell)
        return True

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._check(scope)
            body = await self._gate.body(receive, whole=WHOLE in scope)
        except Failure as failure:
            told.set_result(self._refused(scope, failure, started))
        else:
            self._hand_on(scope, body, lambda reply: None if told.done() else told.set_result(reply))
        reply = await told
        headers = [reply.kind, (b"content-length", b"%d" % len(reply.body)), *reply.headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})

    def _check(self, scope: Any) -> None:
        """What is known before the body; the rest, and how often a token asks, is for the process that scores."""
        headers = self._gate.headers(scope)
        path = scope["path"]
        needed = needs(path)
        if needed is not None:
            holder = self._gate.holder(headers, needed)
            takes_body = path in (SCORE, FEEDBACK) or (needed == "cases" and path.endswith(OUTCOME))
            if takes_body and scope["method"] == "POST":
                self._gate.accept(headers, holder)

    def _hand_on(self, scope: Any, body: bytes, tell: Tell) -> None:
        self._last = number = self._last % _MOST_NUMBERS + 1
        self._waiting[number] = tell
        query = scope["query_string"]
        self._channel.tell(
            number, request_parts(scope["method"], scope["path"], query, scope["headers"], body)
        )

    def _refused(self, scope: Any, failure: Failure, started: float) -> Reply:
        """The reply, which the process that scores counts."""
        seconds = time.perf_counter() - started
        self._channel.tell(REFUSED, [scope["path"].encode(), b"%d" % failure.status, repr(seconds).encode()])
        return failure.reply()

    def _heard(self, number: int, parts: list[bytes]) -> None:
        tell = self._waiting.pop(number)
        try:
            tell(reply_of(parts))
        except Exception:
            # One connection's; the others go on.
            logger.exception("a reply could not be written")

    def _lost(self) -> None:
        self._waiting.clear()
        self._ended()


def main() -> None:
    """What the process that scores starts: its sockets are numbered in the arguments, what it may do comes by stdin."""
    from my_platform.serving.server import server_of, tune

    listening, side = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    given = json.load(sys.stdin)
    tokens = [
        Token(name, frozenset(scopes), bytes.fromhex(digest)) for name, scopes, digest in given["tokens"]
    ]

    def ended() -> None:
        # Whoever asked gets no answer but the end of the connection, and asks again.
        os._exit(0 if server.should_exit else 1)

    front = Front(Gate(Tokens(tokens, _ANY_RATE), Bounds(*given["bounds"])), ended)
    server = server_of(front)

    async def serve() -> None:
        await front.connect(side)
        await server.serve(sockets=[listening])

    # uvicorn raises the signal that ended it again.
    for ending in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ending, lambda *_: sys.exit(0))
    tune()
    with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
