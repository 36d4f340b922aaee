"""Days of an HTTP API, page by page."""

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from datetime import date
from typing import Any
from urllib.parse import urlsplit

import polars as pl

from my_platform.errors import SourceError
from my_platform.fetching.declaration import ApiSource, as_table, secret

_LATER = (408, 425, 429, 500, 502, 503, 504)


class _Moved(Exception):
    """Rows moved from page to page while they were read."""


class _NotNow(Exception):
    """No answer, or none that is whole; worth another try."""

    def __init__(self, said: str, wait_s: float | None = None) -> None:
        super().__init__(said)
        self.wait_s = wait_s


def rows_of_day(source: ApiSource, day: date, sleep: Callable[[float], None] = time.sleep) -> pl.DataFrame:
    """The rows of a day: all of its pages, or none.

    Raises:
        SourceError: a page cannot be had after all tries, is not what was expected, or the pages kept moving.
    """
    moved = ""
    for attempt in range(1, source.tries + 1):
        try:
            rows = _all_pages(source, day, sleep)
        except _Moved as error:
            moved = str(error)
            if attempt < source.tries:
                sleep(0.5 * 2**attempt)
            continue
        names = {name for row in rows for name in row}
        # An API leaves out what is null.
        named = names | (set(source.schema) if not rows else set())
        return as_table(source, day, {name: [row.get(name) for row in rows] for name in sorted(named)})
    raise SourceError(
        f"{source.table} {day}: the pages changed while they were read, {source.tries} times: {moved}. Fetch again when the "
        "source is quiet"
    )


def _all_pages(source: ApiSource, day: date, sleep: Callable[[float], None]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    seen: set[tuple[Any, ...]] = set()
    total: int | None = None
    for number in range(1, source.most_pages + 1):
        page = _page(source, day, number, sleep)
        found = page[source.rows]
        if source.total:
            if total is not None and page[source.total] != total:
                raise _Moved(f"page {number} tells of {page[source.total]} rows, the ones before of {total}")
            total = page[source.total]
        for row in found:
            key = tuple(row.get(name) for name in source.key)
            if key in seen:
                raise _Moved(f"page {number} repeats {', '.join(map(str, key))}")
            seen.add(key)
        rows.extend(found)
        if not found or (total is not None and len(rows) >= total):
            if total is not None and len(rows) != total:
                raise _Moved(f"{len(rows)} rows came, where the source tells of {total}")
            return rows
    raise SourceError(
        f"{source.table} {day}: there are more than {source.most_pages:,} pages; raise most_pages of the source if that is "
        "meant"
    )


def _page(source: ApiSource, day: date, number: int, sleep: Callable[[float], None]) -> dict[str, Any]:
    where = f"{source.table} {day}, page {number} of {_place(source)}"
    for attempt in range(1, source.tries + 1):
        try:
            return _whole(source, where, _asked(source, day, number, where))
        except _NotNow as error:
            if attempt == source.tries:
                raise SourceError(
                    f"{where}: {error}, after {attempt} tries; no part of the day has landed. Fetch again later"
                ) from None
            sleep(min(0.5 * 2**attempt if error.wait_s is None else error.wait_s, source.most_wait_s))
    raise AssertionError("a source is asked at least once")


def _whole(source: ApiSource, where: str, data: bytes) -> dict[str, Any]:
    try:
        page = json.loads(data)
    except ValueError:
        raise _NotNow("the answer is no whole JSON") from None
    rows = page.get(source.rows) if isinstance(page, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(
            f"{where}: expected an object with a list of rows in {source.rows!r}; correct the source"
        )
    if source.total and type(page.get(source.total)) is not int:
        raise SourceError(f"{where}: expected the number of rows in {source.total!r}; correct the source")
    return page


def _asked(source: ApiSource, day: date, number: int, where: str) -> bytes:
    request = urllib.request.Request(
        source.url.format(day=day, page=number), headers={"Accept": "application/json"}
    )
    if source.token_env:
        request.add_header("Authorization", f"Bearer {secret(source, source.token_env)}")
    try:
        with _OPENER.open(request, timeout=source.timeout_s) as answer:
            data: bytes = answer.read(source.most_bytes + 1)
            left = answer.length
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in _LATER:
            raise _NotNow(f"it answers {error.code} {error.reason}", _seconds(error.headers)) from None
        raise SourceError(
            f"{where}: it answers {error.code} {error.reason}; correct the source or its token"
        ) from None
    except (urllib.error.URLError, TimeoutError, OSError, http.client.HTTPException) as error:
        raise _NotNow(
            f"it cannot be reached ({getattr(error, 'reason', None) or type(error).__name__})"
        ) from None
    if len(data) > source.most_bytes:
        raise SourceError(
            f"{where}: the page has more than {source.most_bytes:,} bytes; ask for smaller pages"
        )
    # A bounded read tells nothing of a body that ended early.
    if left:
        raise _NotNow(f"the answer was cut short, {left:,} bytes are missing")
    return data


def _seconds(headers: Any) -> float | None:
    text = headers.get("Retry-After", "") if headers is not None else ""
    return float(text) if text.isdigit() else None


def _place(source: ApiSource) -> str:
    """Where a source is, without what may be a secret: its query, and a user's name and password."""
    parts = urlsplit(source.url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Redirections are not followed: they would take the token elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_Stay())
