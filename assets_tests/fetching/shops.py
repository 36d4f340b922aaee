"""Sources of a shop for tests: a database with orders, and an HTTP API on loopback that can be told to misbehave."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import polars as pl
import sqlalchemy as sa

from assets_tests.operations import shop
from my_platform.fetching.declaration import ApiSource, DatabaseSource
from my_platform.incremental.declare import Asset
from my_platform.settings import Settings

URL_ENV, TOKEN_ENV = "SHOP_DATABASE_URL", "SHOP_TOKEN"
SCHEMA = {"ORDER_ID": pl.Int64, "ORDERED_AT": pl.Datetime("us"), "SHOP_ID": pl.Int64, "CENTS": pl.Int64}
ORDERS = DatabaseSource(
    "orders",
    url_env=URL_ENV,
    query='select order_id as "ORDER_ID", ordered_at as "ORDERED_AT", shop_id as "SHOP_ID", cents as "CENTS" '
    "from orders where ordered_at >= :day and ordered_at < :next_day",
    schema=SCHEMA,
    sort_by=["ORDERED_AT", "ORDER_ID"],
    first=shop.FIRST,
)


def sources(_settings: Settings) -> list[DatabaseSource]:
    return [ORDERS]


def assets(settings: Settings) -> list[Asset]:
    return shop.assets(settings)


def day(number: int) -> date:
    return shop.FIRST + timedelta(days=number)


def fill(url: str, days: int, *, zone: bool = False) -> None:
    """Make a table with four orders a day, the last one of the day's last second."""
    moment = "timestamptz" if zone else "timestamp"
    utc = "+00:00" if zone else ""
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                f"create table orders (order_id bigint, ordered_at {moment}, shop_id bigint, cents numeric(12, 0))"
            )
        )
        for number in range(days):
            for i, time in enumerate(("00:00:00", "10:00:00", "11:00:00", "23:59:59")):
                connection.execute(
                    sa.text("insert into orders values (:id, :at, :shop, :cents)"),
                    {
                        "id": 4 * number + 3 - i,
                        "at": f"{day(number)} {time}{utc}",
                        "shop": i % 2,
                        "cents": 100 * (i + 1) + number,
                    },
                )


def execute(url: str, statement: str) -> None:
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))


@dataclass
class Api:
    """What a server answers, and what it was asked.

    Attributes:
        faults: taken from the front, one a request: a status, "cut" or "half json"; None for a right answer.
    """

    rows: dict[str, list[dict[str, Any]]]
    page_size: int = 2
    faults: list[Any] = field(default_factory=list)
    asked: list[tuple[str, int]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    after_page: Any = None
    url: str = ""

    def source(self, **more: Any) -> ApiSource:
        given: dict[str, Any] = {
            "url": f"{self.url}/returns?key=hidden&day={{day}}&page={{page}}",
            "rows": "items",
            "total": "total",
            "key": ["id"],
            "schema": {"id": pl.Int64, "at": pl.Datetime("us"), "note": pl.String},
            "sort_by": ["id"],
            "first": shop.FIRST,
            **more,
        }
        return ApiSource("returns", **given)


@contextmanager
def served(api: Api) -> Iterator[Api]:
    """The API on a real HTTP server on loopback."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            asked, page = query["day"][0], int(query["page"][0])
            api.asked.append((asked, page))
            api.tokens.append(self.headers.get("Authorization", ""))
            fault = api.faults.pop(0) if api.faults else None
            rows = api.rows.get(asked, [])
            items = rows[(page - 1) * api.page_size : page * api.page_size]
            body = json.dumps({"items": items, "total": len(rows)}).encode()
            if isinstance(fault, int):
                self.send_response(fault)
                if fault == 429:
                    self.send_header("Retry-After", "7")
                if fault == 302:
                    self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if api.after_page is not None:  # before it goes out, since the next question may come at once
                api.after_page(page)
            sent = body[: len(body) // 2] if fault else body
            self.send_response(200)
            self.send_header("Content-Length", str(len(sent if fault == "half json" else body)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_: Any) -> None:
            """Nothing is told of requests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    api.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
