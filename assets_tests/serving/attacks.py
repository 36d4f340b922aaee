"""Forty-eight attacks on a scoring service, each with the refusal that docs/serving.md documents for it."""

import json
from typing import NamedTuple

from assets_tests.serving.service_home import ALL_TOKEN, READ_TOKEN, row

_BEARER = f"Authorization: Bearer {ALL_TOKEN}"
_ROW = row(5_000)
# Of the card of that row, which is flagged as all rows are.
_CASE = f"/v1/cases/{_ROW['CUSTOMER_ID']}-0/outcome"


class Attack(NamedTuple):
    """Bytes as they are sent, and the status of the refusal."""

    name: str
    sent: bytes
    status: int


def _request(
    body: bytes,
    *headers: str,
    path: str = "/v1/score",
    method: str = "POST",
    token: str = _BEARER,
    kind: str = "Content-Type: application/json",
    length: int | None = None,
) -> bytes:
    told = f"Content-Length: {len(body) if length is None else length}"
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", token, kind, told, *headers]
    return "\r\n".join(line for line in lines if line).encode("latin-1") + b"\r\n\r\n" + body


def _row(**given: object) -> bytes:
    return json.dumps({"row": {**_ROW, **given}}).encode()


def _text(name: str, text: str) -> bytes:
    """The row with a value that is written just so."""
    return _row(**{name: "@"}).replace(b'"@"', text.encode())


def _outcome(**given: object) -> bytes:
    return json.dumps({"outcome": "confirmed", **given}).encode()


ATTACKS = (
    Attack("a body that is too large by its own word", _request(b"", length=1 << 40), 413),
    Attack("a body that is too large", _request(b" " * ((1 << 20) + 1)), 413),
    Attack("more rows than a batch has", _request(json.dumps({"rows": [_ROW] * 501}).encode()), 422),
    Attack("a batch of nothing", _request(b'{"rows":[]}'), 422),
    Attack("nested a hundred thousand deep", _request(b'{"row":' + b"[" * 100_000), 422),
    Attack(
        "objects nested deep in a column",
        _request(_text("TX_AMOUNT", '{"a":' * 5_000 + "1" + "}" * 5_000)),
        422,
    ),
    Attack("NaN", _request(_text("TX_AMOUNT", "NaN")), 422),
    Attack("infinity", _request(_text("TX_AMOUNT", "-Infinity")), 422),
    Attack("a number that overflows to infinity", _request(_text("TX_AMOUNT", "1e999")), 422),
    Attack("an amount below the contract's bound", _request(_row(TX_AMOUNT=-0.01)), 422),
    Attack("an integer beyond 64 bits", _request(_row(TRANSACTION_ID=1 << 63)), 422),
    Attack("an integer of a million digits", _request(_text("TRANSACTION_ID", "9" * 1_000_000)), 422),
    Attack("a text where a number belongs", _request(_row(CUSTOMER_ID="1 or 1=1")), 422),
    Attack("a truth value where a number belongs", _request(_row(TRANSACTION_ID=True)), 422),
    Attack("null", _request(_row(CUSTOMER_ID=None)), 422),
    Attack("a number of seconds where a time belongs", _request(_row(TX_DATETIME=1_740_528_000)), 422),
    Attack("a time in the far future", _request(_row(TX_DATETIME="9999-12-31T23:59:59")), 422),
    Attack("a time before all time zones", _request(_row(TX_DATETIME="0001-01-01T00:00:00+23:59")), 422),
    Attack("a column too many", _request(_row(__class__="x")), 422),
    Attack("bytes that are no text", _request(b'{"row":"\xff\xfe"}'), 422),
    Attack("half a body", _request(b'{"row":{"TRANSACTION_ID":1'), 422),
    Attack("a replayed id with another body", _request(_row(TX_AMOUNT=9_999.0)), 409),
    Attack("no token", _request(_row(), token=""), 401),
    Attack("a forged token", _request(_row(), token=_BEARER[:-1] + "b"), 401),
    Attack(
        "a token's digest in place of it", _request(_row(), token="Authorization: Bearer " + "0" * 64), 401
    ),
    Attack("a token of another scope", _request(_row(), token=f"Authorization: Bearer {READ_TOKEN}"), 403),
    Attack("two tokens", _request(_row(), "Authorization: Bearer x"), 400),
    Attack("two lengths of a body", _request(_row(), "Content-Length: 1"), 400),
    Attack("a form of another site's page", _request(_row(), kind="Content-Type: text/plain"), 415),
    Attack("a path that climbs", _request(b"", path="/v1/../../etc/passwd", method="GET"), 404),
    Attack("a path with an encoded end", _request(b"", path="/v1/score%00", method="GET"), 404),
    Attack("an outcome that there is not", _request(b'{"outcome":"maybe"}', path=_CASE), 422),
    Attack("a note without end", _request(_outcome(note="x" * 2_000), path=_CASE), 422),
    Attack("rows that nobody scored", _request(_outcome(rows=[-1]), path=_CASE), 422),
    Attack(
        "a time before all time zones for a label",
        _request(_outcome(at="0001-01-01T00:00:00+23:59"), path=_CASE),
        422,
    ),
    Attack(
        "an outcome by a token of another scope",
        _request(_outcome(), path=_CASE, token=f"Authorization: Bearer {READ_TOKEN}"),
        403,
    ),
    Attack("a case whose name climbs", _request(_outcome(), path="/v1/cases/..%2f..%2fetc/outcome"), 404),
    Attack(
        "a case whose name is a statement", _request(_outcome(), path="/v1/cases/1%20or%201=1-0/outcome"), 404
    ),
    Attack("a case beyond 64 bits", _request(_outcome(), path=f"/v1/cases/{'9' * 40}-0/outcome"), 404),
    Attack("decisions without end", _request(b"", path="/v1/decisions?limit=1000000", method="GET"), 422),
    Attack("decisions without a token", _request(b"", path="/v1/decisions", method="GET", token=""), 401),
    Attack(
        "a form that is sent to the page", _request(b"a=b", path="/", kind="Content-Type: text/plain"), 405
    ),
    Attack("a page of cases before the first", _request(b"", path="/v1/cases?offset=-1", method="GET"), 422),
    Attack("another method", _request(b"", method="DELETE"), 405),
    Attack("headers without end", _request(_row(), "X: " + "a" * 100_000), 431),
    Attack("no HTTP at all", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    Attack("a body that stops coming", _request(b"{", length=1_000), 408),
    Attack("a chunked body without end", _request(b"", "Transfer-Encoding: chunked", length=0), 400),
)
