"""Several processes on one port: fronts speak HTTP, and this one alone keeps state, model and log.

A row touches several entities, such as a customer and a shop, and each of its features reads what came before it. So
all entities belong to this one process, whatever front a request came by, and all that holds of one process alone holds of
several: the order of a group, an id once, the log before the reply, one champion, one bucket for each token. What fronts
take from it is HTTP: connections, heads, slow bodies, and what is refused before it is looked into.
"""

import asyncio
import json
import logging
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from my_platform.serving.app import ScoringService
from my_platform.serving.channel import Channel, reply_parts, request_of
from my_platform.serving.front import REFUSED, Tell
from my_platform.serving.gate import Bounds, Message, operation_of
from my_platform.serving.protocol import WHOLE
from my_platform.serving.reply import JSON, Failure, Reply
from my_platform.serving.server import tune
from my_platform.serving.tokens import Token

# A front that cannot start is not tried more often than this.
_AGAIN_S = 1.0
_ENDS_WITHIN_S = 15.0

logger = logging.getLogger("my_platform.serving")


class Keeper:
    """Fronts and their requests.

    Args:
        listening: the socket that all fronts accept from: a connection waits in it where one of them is killed.
        fronts: how many.
        tokens, bounds: what a front needs to refuse by itself.
    """

    def __init__(
        self,
        scoring: ScoringService,
        listening: socket.socket,
        fronts: int,
        tokens: Sequence[Token],
        bounds: Bounds,
    ) -> None:
        self._scoring, self._listening, self._fronts = scoring, listening, fronts
        known = [(token.name, sorted(token.scopes), token.digest.hex()) for token in tokens]
        self._given = json.dumps({"tokens": known, "bounds": bounds}).encode()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM; requests that came are answered first."""
        import uvloop

        logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
        tune()
        with self._listening, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        for ending in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(ending, self._stopping.set)
        async with self._scoring.lifespan():
            kept = [asyncio.create_task(self._keep_one()) for _ in range(self._fronts)]
            await self._stopping.wait()
            for process in self._running:
                process.terminate()
            _, late = await asyncio.wait(kept, timeout=_ENDS_WITHIN_S)
            for process in self._running:
                process.kill()
            if late:
                await asyncio.wait(late, timeout=_ENDS_WITHIN_S)

    async def _keep_one(self) -> None:
        """Have a front, and another one whenever it ends."""
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            again = loop.time() + _AGAIN_S
            ours, theirs = socket.socketpair()
            gone = asyncio.Event()
            with theirs:
                await self._listen_to(ours, gone)
                process = await asyncio.to_thread(self._started, theirs)
            self._running.add(process)
            if self._stopping.is_set():
                process.terminate()
            await gone.wait()
            code = await asyncio.to_thread(process.wait)
            self._running.discard(process)
            if not self._stopping.is_set():
                logger.error("a front ended with exit code %s; another one takes its place", code)
                await asyncio.sleep(max(0.0, again - loop.time()))

    async def _listen_to(self, side: socket.socket, gone: asyncio.Event) -> None:
        channel = Channel(lambda number, parts: self._heard(channel, number, parts), gone.set)
        await asyncio.get_running_loop().create_connection(lambda: channel, sock=side)

    def _started(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        numbers = (self._listening.fileno(), theirs.fileno())
        command = [sys.executable, "-P", "-m", "my_platform.serving.front", *map(str, numbers)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=numbers)
        assert process.stdin is not None
        with process.stdin as told:
            told.write(self._given)
        return process

    def _heard(self, channel: Channel, number: int, parts: list[bytes]) -> None:
        if number == REFUSED:
            path, status, seconds = parts
            self._scoring.telemetry.replied(operation_of(path.decode()), int(status), float(seconds))
            return
        method, path_, query, headers, body = request_of(parts)
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": method,
            "path": path_,
            "raw_path": path_.encode(),
            "root_path": "",
            "query_string": query,
            "headers": headers,
            "server": None,
            "client": None,
            WHOLE: True,
        }

        def tell(reply: Reply) -> None:
            channel.tell(number, reply_parts(reply))

        if not self._scoring.endpoint.straight(scope, body, tell):
            task = asyncio.get_running_loop().create_task(self._ask(scope, body, tell))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _ask(self, scope: Message, body: bytes, tell: Tell) -> None:
        """Have the application answer, and tell it as a whole."""
        told: list[Message] = []
        coming: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Message:
            return coming.pop() if coming else {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            told.append(message)

        try:
            await self._scoring.endpoint(scope, receive, send)
        except Exception:
            logger.exception("a request to %s failed", scope["path"])
        tell(_whole(told))


def _whole(told: Sequence[Message]) -> Reply:
    """A reply out of its messages."""
    if not told:
        return Failure(500, "internal", "the service failed; its log says why").reply()
    start, *parts = told
    kind, *headers = [each for each in start["headers"] if each[0] != b"content-length"] or [JSON]
    body: Any = b"".join(part.get("body", b"") for part in parts)
    return Reply(start["status"], body, tuple(headers), kind)
