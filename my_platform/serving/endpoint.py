"""The way of a request: who asks, how often and how much, then its body, then its answer.

It stands before FastAPI, which serves what is asked for rarely. One event loop does everything: requests that
are in flight together become one group, which is scored when the loop has heard all of them.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from my_platform.serving.cases import CaseDesk, UnknownCase
from my_platform.serving.declaration import Service
from my_platform.serving.log import Prediction
from my_platform.serving.model import CannotServe, Reason
from my_platform.serving.protocol import WHOLE
from my_platform.serving.replies import Answers, Failure, Reply
from my_platform.serving.requests import Invalid, RequestModels
from my_platform.serving.scorer import Conflict, NotReady, Scorer, Waiting
from my_platform.serving.state import UnknownRow
from my_platform.serving.store import StoreError
from my_platform.serving.telemetry import Telemetry
from my_platform.serving.tokens import Scope, Tokens

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

SCORE, FEEDBACK, CASES, OUTCOME = "/v1/score", "/v1/feedback", "/v1/cases", "/outcome"
_NEEDS: dict[str, Scope] = {
    SCORE: "score",
    FEEDBACK: "feedback",
    **dict.fromkeys(("/v1/model", "/v1/decisions", "/metrics"), "read"),
}
_NAMES = {SCORE: "score", FEEDBACK: "feedback", "/v1/model": "model", "/metrics": "metrics"}
_LOOPBACK = (b"localhost", b"127.0.0.1", b"[::1]")
_RETRY_S = 1

logger = logging.getLogger("my_platform.serving")


class Bounds(NamedTuple):
    """What one request may take: bytes of its body, and seconds in which that has to come."""

    body_bytes: int
    body_s: float


class Endpoint:
    """The ASGI application.

    Args:
        desk: the cases of flagged rows; None where there are none.
        rest: the application that serves all other paths.
    """

    def __init__(
        self,
        service: Service,
        models: RequestModels,
        scorer: Scorer,
        answers: Answers,
        tokens: Tokens,
        bounds: Bounds,
        telemetry: Telemetry,
        rest: App,
        desk: CaseDesk | None = None,
    ) -> None:
        self._words = service.words
        self._models = models
        self._scorer = scorer
        self._answers = answers
        self._tokens = tokens
        self._bounds = bounds
        self._telemetry = telemetry
        self._rest = rest
        self._desk = desk
        self._group: list[tuple[Waiting, asyncio.Future[None]]] = []
        # One: several would only take the core from each other and from scoring.
        self._reasoning = ThreadPoolExecutor(1, "reasons")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._rest(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"]
        status = 500
        try:
            try:
                reply = await self._reply(scope, path, receive)
            except Failure as failure:
                reply = failure.reply()
            except Exception:
                logger.exception("a request to %s failed", path)
                reply = Failure(500, "internal", "the service failed; its log says why").reply()
            if reply is None:
                status = await self._by_rest(scope, receive, send)
            else:
                status = reply.status
                await send(
                    {
                        "type": "http.response.start",
                        "status": status,
                        "headers": [
                            reply.kind,
                            (b"content-length", str(len(reply.body)).encode()),
                            *reply.headers,
                        ],
                    }
                )
                await send({"type": "http.response.body", "body": reply.body})
        finally:
            self._telemetry.replied(_NAMES.get(path, "other"), status, time.perf_counter() - started)

    async def _by_rest(self, scope: Message, receive: Receive, send: Send) -> int:
        status = 500

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        await self._rest(scope, receive, told)
        return status

    async def _reply(self, scope: Message, path: str, receive: Receive) -> Reply | None:
        """The reply; None where the rest of the application gives it. Raises Failure."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in (b"authorization", b"content-type", b"content-length", b"host"):
                raise Failure(400, "header", f"{name.decode()} was sent twice; send it once", close=True)
            headers[name] = value
        self._check_host(headers.get(b"host", b""))
        needed = _needs(path)
        if needed is None:
            return None
        holder = self._tokens.holder(headers.get(b"authorization"))
        if holder is None:
            raise Failure(
                401, "token", "send `Authorization: Bearer …` with a token of this service", close=True
            )
        if needed not in holder.scopes:
            raise Failure(403, "scope", f"the token {holder.name} has not the scope {needed}", close=True)
        decides = needed == "cases" and path.endswith(OUTCOME)
        if path not in (SCORE, FEEDBACK) and not decides:
            self._pay(holder.name, 1)
            return None
        if scope["method"] != "POST":
            failure = Failure(405, "method", f"{path} takes POST").reply()
            return failure._replace(headers=(*failure.headers, (b"allow", b"POST")))
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Failure(415, "content_type", "send application/json", close=True)
        self._pay(holder.name, 1)
        body = await self._body(headers, receive, whole=WHOLE in scope)
        if decides:
            return self._decide(path, body, holder.name)
        return await (self._score(body, holder.name) if path == SCORE else self._feedback(body))

    async def _score(self, body: bytes, holder: str) -> Reply:
        try:
            rows, batch, asked = self._models.rows(body, time.time())
        except Invalid as error:
            raise Failure(422, "invalid", str(error), error.problems) from None
        if len(rows) > 1:
            self._pay(holder, len(rows) - 1)
        waiting = Waiting(rows, time.perf_counter_ns())
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._group.append((waiting, done))
        if len(self._group) == 1:
            # Requests that came in the same turn of the loop are read before this is called.
            loop.call_soon(self._score_group)
        await done
        found = waiting.found
        self._telemetry.answered(found)
        reasons: Sequence[list[Reason] | None] = [None] * len(found)
        if asked:
            # They take longer than an answer, and must not hold up the others.
            reasons = await asyncio.get_running_loop().run_in_executor(
                self._reasoning, lambda: [self._reasons(each) for each in found]
            )
        told = [
            self._answers.answer(
                row.key, each, why, blocked=self._desk is not None and self._desk.blocks(row.values)
            )
            for row, each, why in zip(rows, found, reasons, strict=True)
        ]
        return Reply(200, (f'{{"answers":[{",".join(told)}]}}' if batch else told[0]).encode())

    def _score_group(self) -> None:
        group, self._group = self._group, []
        failed: Exception | None = None
        try:
            self._scorer.score([waiting for waiting, _ in group])
        except Exception as error:
            failed = error
        for waiting, done in group:
            if done.cancelled():
                continue
            problem = failed or waiting.failed
            if problem is None:
                done.set_result(None)
            else:
                done.set_exception(_failure(problem))

    async def _feedback(self, body: bytes) -> Reply:
        try:
            label = self._models.label(body, time.time())
            new = self._scorer.label(label, time.time_ns() // 1000)
        except Invalid as error:
            raise Failure(422, "invalid", str(error), error.problems) from None
        except Exception as error:
            raise _failure(error) from error
        if new:
            self._telemetry.labelled()
        return Reply(200, b'{"new":true}' if new else b'{"new":false}')

    def _decide(self, path: str, body: bytes, holder: str) -> Reply:
        name = path.removeprefix(f"{CASES}/").removesuffix(OUTCOME)
        try:
            if self._desk is None or path == CASES + OUTCOME:
                raise UnknownCase(f"there is no case at {path}; GET {CASES} lists them")
            return Reply(200, json.dumps(self._desk.decide(name, body, holder)).encode())
        except Invalid as error:
            raise Failure(422, "invalid", str(error), error.problems) from None
        except Exception as error:
            raise _failure(error) from error

    def _reasons(self, found: Prediction) -> list[Reason] | None:
        """Reasons of the bundle that answered; None where that serves no more."""
        model = self._scorer.model
        if model is None or model.digest != found.bundle:
            return None
        return model.reasons(found.features_list, self._words)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive, *, whole: bool) -> bytes:
        most = self._bounds.body_bytes
        told = headers.get(b"content-length")
        if told is not None and (not told.isdigit() or int(told) > most):
            raise self._too_large()
        message = await self._next(receive, None if whole else self._bounds.body_s)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            ends = time.monotonic() + self._bounds.body_s
            parts = [body]
            size = len(body)
            while message.get("more_body"):
                message = await self._next(receive, ends - time.monotonic())
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise self._too_large()
            body = b"".join(parts)
        if len(body) > most:
            raise self._too_large()
        return body

    def _too_large(self) -> Failure:
        return Failure(413, "too_large", f"a body has at most {self._bounds.body_bytes:,} bytes", close=True)

    async def _next(self, receive: Receive, within_s: float | None) -> Message:
        if within_s is None:
            message = await receive()
        else:
            try:
                async with asyncio.timeout(within_s):
                    message = await receive()
            except TimeoutError:
                raise Failure(408, "slow", "the body did not come in time", close=True) from None
        if message["type"] == "http.disconnect":
            raise Failure(400, "gone", "the connection ended within the body", close=True)
        return message

    def _pay(self, holder: str, cost: int) -> None:
        wait_s = self._tokens.wait_s(holder, cost, time.monotonic())
        if wait_s > 0:
            raise Failure(
                429, "rate", f"the token {holder} asks too often; wait {wait_s:.1f} s", wait_s=wait_s
            )

    def _check_host(self, host: bytes) -> None:
        """Without tokens only this machine may ask, and no page of another site through somebody's browser."""
        if self._tokens.asked_for:
            return
        name = host.rpartition(b":")[0] if not host.endswith(b"]") and b":" in host else host
        if name.lower() not in _LOOPBACK:
            raise Failure(421, "host", "without tokens this service answers as localhost only", close=True)


def _needs(path: str) -> Scope | None:
    """The scope that a path asks for; None where it asks for none."""
    return "cases" if path == CASES or path.startswith(f"{CASES}/") else _NEEDS.get(path)


def _failure(error: Exception) -> Exception:
    """The failure that an exception of scoring becomes."""
    match error:
        case NotReady():
            return Failure(503, "not_ready", str(error), wait_s=_RETRY_S)
        case Conflict():
            return Failure(409, "conflict", str(error))
        case UnknownCase():
            return Failure(404, "unknown_case", str(error))
        case StoreError():
            logger.error("%s", error)
            return Failure(503, "store", "the online state cannot be reached; send it again", wait_s=_RETRY_S)
        case UnknownRow():
            return Failure(404, "unknown_row", str(error))
        case CannotServe():
            logger.error("%s", error)
            return Failure(500, "model", "the model gave no probability; nothing was stored")
    return error
