"""Requests and replies between a process that speaks HTTP and the one that scores, over a pair of connected sockets.

A frame is its length, the number of its request, and parts with their lengths; several travel in one write. Each side
sees the end of the other as the end of the connection.
"""

import asyncio
import struct
from collections.abc import Callable, Sequence

from my_platform.serving.reply import Header, Reply

_HEAD = struct.Struct(">IIH")
_PART = struct.Struct(">I")


class Channel(asyncio.Protocol):
    """One side of the connection.

    Args:
        heard: called with the number and the parts of each frame that comes.
        ended: called when the other side is gone.
    """

    def __init__(self, heard: Callable[[int, list[bytes]], None], ended: Callable[[], None]) -> None:
        self._heard, self._ended = heard, ended
        self._received = bytearray()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def connection_lost(self, _: Exception | None) -> None:
        self._transport = None
        self._ended()

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        first = 0
        while len(received) - first >= _HEAD.size:
            length, number, parts = _HEAD.unpack_from(received, first)
            if len(received) - first < length:
                break
            at = first + _HEAD.size
            found = []
            for _part in range(parts):
                (size,) = _PART.unpack_from(received, at)
                at += _PART.size
                found.append(bytes(received[at : at + size]))
                at += size
            first += length
            self._heard(number, found)
        del received[:first]

    def tell(self, number: int, parts: Sequence[bytes]) -> None:
        """Send a frame; nothing happens where the other side is gone."""
        if self._transport is None or self._transport.is_closing():
            return
        length = _HEAD.size + sum(_PART.size + len(part) for part in parts)
        told = [_HEAD.pack(length, number, len(parts))]
        for part in parts:
            told += (_PART.pack(len(part)), part)
        self._transport.write(b"".join(told))

    def close(self) -> None:
        """End the connection when what was told is sent."""
        if self._transport is not None:
            self._transport.close()


def request_parts(
    method: str, path: str, query: bytes, headers: Sequence[Header], body: bytes
) -> list[bytes]:
    """A request as the parts of a frame."""
    return [method.encode(), path.encode(), query, body, *(each for header in headers for each in header)]


def request_of(parts: Sequence[bytes]) -> tuple[str, str, bytes, list[Header], bytes]:
    """What `request_parts` was given."""
    method, path, query, body, *rest = parts
    return method.decode(), path.decode(), query, _headers(rest), body


def reply_parts(reply: Reply) -> list[bytes]:
    """A reply as the parts of a frame."""
    headers = (reply.kind, *reply.headers)
    return [b"%d" % reply.status, reply.body, *(each for header in headers for each in header)]


def reply_of(parts: Sequence[bytes]) -> Reply:
    """What `reply_parts` was given."""
    status, body, *rest = parts
    kind, *headers = _headers(rest)
    return Reply(int(status), body, tuple(headers), kind)


def _headers(parts: Sequence[bytes]) -> list[Header]:
    return list(zip(parts[::2], parts[1::2], strict=True))
