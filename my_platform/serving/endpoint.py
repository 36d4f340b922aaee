"""The way of a request: who asks, how often and how much, then its body, then its answer.

It stands before FastAPI, which serves what is asked for rarely. One event loop does everything but finding reasons.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from my_platform.serving.cases import CaseDesk, UnknownCase
from my_platform.serving.declaration import Service
from my_platform.serving.gate import (
    CASES,
    FEEDBACK,
    OUTCOME,
    SCORE,
    App,
    Bounds,
    Gate,
    Message,
    Receive,
    Send,
    needs,
    operation_of,
)
from my_platform.serving.groups import Groups
from my_platform.serving.log import Prediction
from my_platform.serving.model import CannotServe, Reason
from my_platform.serving.protocol import WHOLE
from my_platform.serving.replies import Answers
from my_platform.serving.reply import Failure, Reply
from my_platform.serving.requests import Invalid, RequestModels
from my_platform.serving.scorer import Conflict, NotReady, Scorer, Waiting
from my_platform.serving.state import UnknownRow
from my_platform.serving.store import StoreError
from my_platform.serving.telemetry import Telemetry
from my_platform.serving.tokens import Tokens

# Where a body has it nowhere, no reasons are asked for.
_TRUE = b"true"
_RETRY_S = 1

logger = logging.getLogger("my_platform.serving")


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
        self._gate = Gate(tokens, bounds)
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
            self._telemetry.replied(operation_of(path), status, time.perf_counter() - started)

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
            headers = self._gate.headers(scope)
            holder = self._gate.holder(headers, "score")
            self._gate.accept(headers, holder)
            if len(body) > self._gate.bounds.body_bytes:
                raise self._gate.too_large()
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
        headers = self._gate.headers(scope)
        needed = needs(path)
        if needed is None:
            return None
        holder = self._gate.holder(headers, needed)
        decides = needed == "cases" and path.endswith(OUTCOME)
        if path not in (SCORE, FEEDBACK) and not decides:
            self._gate.pay(holder, 1)
            return None
        if scope["method"] != "POST":
            failure = Failure(405, "method", f"{path} takes POST").reply()
            return failure._replace(headers=(*failure.headers, (b"allow", b"POST")))
        self._gate.accept(headers, holder)
        body = await self._gate.body(receive, whole=WHOLE in scope)
        if decides:
            return self._decide(path, body, holder)
        return await (self._score(body, holder) if path == SCORE else self._feedback(body))

    def _failed(self, error: Exception, path: str) -> Reply:
        """The reply to a request that failed; one that the service is to blame for is told in its output."""
        if isinstance(error, Failure):
            return error.reply()
        logger.error("a request to %s failed", path, exc_info=error)
        return Failure(500, "internal", "the service failed; its log says why").reply()

    def _asked(self, body: bytes, holder: str) -> tuple[Waiting, bool, bool]:
        """The rows of a body, whether it was a batch, and whether reasons are asked for."""
        try:
            rows, batch, asked = self._models.rows(body, time.time())
        except Invalid as error:
            raise Failure(422, "invalid", str(error), error.problems) from None
        if len(rows) > 1:
            self._gate.pay(holder, len(rows) - 1)
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
