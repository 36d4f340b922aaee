"""Who is let in: checks of a request that need nothing but its head and its length, and reading its body in bounds."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NamedTuple

from my_platform.serving.reply import Failure
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
_OPERATIONS = {
    SCORE: "score",
    FEEDBACK: "feedback",
    "/v1/model": "model",
    "/v1/decisions": "decisions",
    "/metrics": "metrics",
}
_ONCE = (b"authorization", b"content-type", b"content-length", b"host")
_LOOPBACK = (b"localhost", b"127.0.0.1", b"[::1]")


class Bounds(NamedTuple):
    """What one request may take: bytes of its body, and seconds in which that has to come."""

    body_bytes: int
    body_s: float


class Gate:
    """The checks of one process; all raise Failure.

    Args:
        tokens: who may ask for what, and how often.
        bounds: of bodies.
    """

    def __init__(self, tokens: Tokens, bounds: Bounds) -> None:
        self._tokens, self.bounds = tokens, bounds

    def headers(self, scope: Message) -> dict[bytes, bytes]:
        """The headers of a request by name."""
        headers: dict[bytes, bytes] = {}
        for name, value in scope["headers"]:
            if name in headers and name in _ONCE:
                raise Failure(400, "header", f"{name.decode()} was sent twice; send it once", close=True)
            headers[name] = value
        self._check_host(headers.get(b"host", b""))
        return headers

    def holder(self, headers: Mapping[bytes, bytes], needed: Scope) -> str:
        """The name of the token that asks, which has the scope."""
        holder = self._tokens.holder(headers.get(b"authorization"))
        if holder is None:
            raise Failure(
                401, "token", "send `Authorization: Bearer …` with a token of this service", close=True
            )
        if needed not in holder.scopes:
            raise Failure(403, "scope", f"the token {holder.name} has not the scope {needed}", close=True)
        return holder.name

    def accept(self, headers: Mapping[bytes, bytes], holder: str) -> None:
        """Refuse a body for its type or its length, or one too many, before it is read."""
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise Failure(415, "content_type", "send application/json", close=True)
        self.pay(holder, 1)
        told = headers.get(b"content-length")
        if told is not None and (not told.isdigit() or int(told) > self.bounds.body_bytes):
            raise self.too_large()

    async def body(self, receive: Receive, *, whole: bool) -> bytes:
        """The body of a request; `whole` where all of it is there."""
        most = self.bounds.body_bytes
        message = await self._next(receive, None if whole else self.bounds.body_s)
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            ends = time.monotonic() + self.bounds.body_s
            parts = [body]
            size = len(body)
            while message.get("more_body"):
                message = await self._next(receive, ends - time.monotonic())
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise self.too_large()
            body = b"".join(parts)
        if len(body) > most:
            raise self.too_large()
        return body

    def too_large(self) -> Failure:
        """The refusal of a body for its length."""
        return Failure(413, "too_large", f"a body has at most {self.bounds.body_bytes:,} bytes", close=True)

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

    def pay(self, holder: str, cost: int) -> None:
        """Count so many rows against what a token may ask for."""
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


def needs(path: str) -> Scope | None:
    """The scope that a path asks for; None where it asks for none."""
    return "cases" if path == CASES or path.startswith(f"{CASES}/") else _NEEDS.get(path)


def operation_of(path: str) -> str:
    """The word that replies of a path are counted under."""
    if path == CASES or path.startswith(f"{CASES}/"):
        return "outcome" if path.endswith(OUTCOME) else "cases"
    return _OPERATIONS.get(path, "other")
