"""A reply of the service, and the failures that become one. Nothing heavy is imported here: front processes use it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from pydantic_core import to_json

if TYPE_CHECKING:
    from my_platform.serving.requests import Problem

Header = tuple[bytes, bytes]
JSON: Header = (b"content-type", b"application/json")


class Reply(NamedTuple):
    """A status, a body, and the headers beside its type and length."""

    status: int
    body: bytes
    headers: tuple[Header, ...] = ()
    kind: Header = JSON


class Failure(Exception):
    """A request that gets an error: a status, a word for programs, a sentence for people."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        problems: "Sequence[Problem]" = (),
        *,
        wait_s: float | None = None,
        close: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.problems = problems
        self.wait_s = wait_s
        self.close = close

    def reply(self) -> Reply:
        """The error as it is sent."""
        problems = [{"field": problem.field, "why": problem.why} for problem in self.problems]
        body = to_json({"error": {"code": self.code, "message": str(self), "problems": problems}})
        headers: list[Header] = []
        if self.wait_s is not None:
            headers.append((b"retry-after", str(max(1, round(self.wait_s))).encode()))
        if self.status == 401:
            headers.append((b"www-authenticate", b"Bearer"))
        if self.close:
            headers.append((b"connection", b"close"))
        return Reply(self.status, body, tuple(headers))
