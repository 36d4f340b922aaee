"""The way of a request: who asks, how often and how much, then its body, then its answer.

It stands before FastAPI, which serves what is asked for rarely. One event loop does everything but finding reasons.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from my_platform.serving.cases import CaseDesk, UnknownCase
from my_platform.serving.declaration import Service
from my_platform.serving.groups import Groups
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
_ONCE = (b"authorization", b"content-type", b"content-length", b"host")
# Where a body has it nowhere, no reasons are asked for.
_TRUE = b"true"
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
        self._groups = Groups(scorer)
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
            except Exception as error:
                reply = self._failed(error, path)
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

    def straight(self, scope: Message, body: bytes, tell: Callable[[Reply], None]) -> bool:
        """Score a request that is whole, without a task: `tell` is called with its reply. False where it has to wait."""
        if scope["path"] != SCORE or scope["method"] != "POST" or _TRUE in body:
            return False
        started = time.perf_counter()

        def replied(reply: Reply) -> None:
            self._telemetry.replied("score", reply.status, time.perf_counter() - started)
            tell(reply)

        try:
            headers = self._headers(scope)
            holder = self._holder(headers, "score")
            self._accept(headers, holder)
            if len(body) > self._bounds.body_bytes:
                raise self._too_large()
            waiting, batch, _ = self._asked(body, holder)
        except Exception as error:
            replied(self._failed(error, SCORE))
            return True

        def scored(problem: Exception | None) -> None:
            try:
                if problem is not None:
                    raise _failure(problem)
                reply = self._told(waiting, batch)
            except Exception as error:
                reply = self._failed(error, SCORE)
            replied(reply)

        self._groups.join(waiting, scored)
        return True

    async def _reply(self, scope: Message, path: str, receive: Receive) -> Reply | None:
        """The reply; None where the rest of the application gives it. Raises Failure."""
        headers = self._headers(scope)
        needed = _needs(path)
        if needed is None:
            return None
        holder = self._holder(headers, needed)
        decides = needed == "cases" and path.endswith(OUTCOME)
        if path not in (SCORE, FEEDBACK) and not decides:
            self._pay(holder, 1)
            return None
        if scope["method"] != "POST":
            failure = Failure(405, "method", f"{path} takes POST").reply()
            return failure._replace(headers=(*failure.headers, (b"allow", b"POST")))
        self._accept(headers, holder)
        body = await self._body(receive, whole=WHOLE in scope)
        if decides:
            return self._decide(path, body, holder)
        return await (self._score(body, holder) if path == SCORE else self._feedback(body))

    def _failed(self, error: Exception, path: str) -> Reply:
        """The reply to a request that failed; one that the service is to blame for is told in its output."""
        if isinstance(error, Failure):
            return error.reply()
        logger.error("a request to %s failed", path, exc_info=error)
        return Failure(500, "internal", "the service failed; its log says why").reply()

    def _headers(self, scope: Message) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in _ONCE:
                raise Failure(400, "header", f"{name.decode()} was sent twice; send it once", close=True)
            headers[name] = value
        self._check_host(headers.get(b"host", b""))
        return headers

    def _holder(self, headers: Mapping[bytes, bytes], needed: Scope) -> str:
        """The name of the token that asks, which has the scope."""
        holder = self._tokens.holder(headers.get(b"authorization"))
        if holder is None:
            raise Failure(
                401, "token", "send `Authorization: Bearer …` with a token of this service", close=True
            )
        if needed not in holder.scopes:
            raise Failure(403, "scope", f"the token {holder.name} has not the scope {needed}", close=True)
        return holder.name

    def _accept(self, headers: Mapping[bytes, bytes], holder: str) -> None:
        """Refuse a body for its type or its length, or one too many, before it is read."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Failure(415, "content_type", "send application/json", close=True)
        self._pay(holder, 1)
        told = headers.get(b"content-length")
        if told is not None and (not told.isdigit() or int(told) > self._bounds.body_bytes):
            raise self._too_large()

    def _asked(self, body: bytes, holder: str) -> tuple[Waiting, bool, bool]:
        """The rows of a body, whether it was a batch, and whether reasons are asked for."""
        try:
            rows, batch, asked = self._models.rows(body, time.time())
        except Invalid as error:
            raise Failure(422, "invalid", str(error), error.problems) from None
        if len(rows) > 1:
            self._pay(holder, len(rows) - 1)
        return Waiting(rows, time.perf_counter_ns()), batch, asked

    async def _score(self, body: bytes, holder: str) -> Reply:
        waiting, batch, asked = self._asked(body, holder)
        try:
            await self._groups.scored(waiting)
        except Exception as error:
            raise _failure(error) from error
        if not asked:
            return self._told(waiting, batch)
        # They take longer than an answer, and must not hold up the others.
        reasons = await asyncio.get_running_loop().run_in_executor(
            self._reasoning, lambda: [self._reasons(each) for each in waiting.found]
        )
        return self._told(waiting, batch, reasons)

    def _told(self, waiting: Waiting, batch: bool, reasons: Sequence[list[Reason] | None] = ()) -> Reply:
        found = waiting.found
        self._telemetry.answered(found)
        told = [
            self._answers.answer(
                row.key, each, why, blocked=self._desk is not None and self._desk.blocks(row.values)
            )
            for row, each, why in zip(waiting.rows, found, reasons or [None] * len(found), strict=True)
        ]
        return Reply(200, (f'{{"answers":[{",".join(told)}]}}' if batch else told[0]).encode())

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

    async def _body(self, receive: Receive, *, whole: bool) -> bytes:
        most = self._bounds.body_bytes
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
