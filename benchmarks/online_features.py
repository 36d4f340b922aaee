"""Online features: one row, one event, and a whole state, in a file and in Redis.

`make bench BENCHMARKS=online_features ARGS=--write`. The transactions are drawn to the size of the handbook's: 5,000
customers with about 60 transactions each in 31 days. Redis is measured where redis-server is installed.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from assets_tests.serving.redis_servers import REDIS, RedisServer
from benchmarks._report import machine, median_s, publish, table, temporary_folder
from my_platform.domains.fraud.features import (
    LABELLED_TRANSACTIONS,
    TO_PAST_AVG,
    TRANSACTIONS,
    customer_spending,
    terminal_risk,
    usual_spending,
)
from my_platform.features import offline
from my_platform.features.online import OnlineFeatures, compile_online
from my_platform.serving.redis_store import RedisStore
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState, ValidatedDay, partition_events
from my_platform.serving.store import StateStore

COMMAND = "make bench BENCHMARKS=online_features ARGS=--write"
DAYS, CUSTOMERS, TERMINALS, TYPICAL_EVENTS = 31, 5_000, 10_000, 60
START = datetime(2018, 7, 1)
ROW = {
    "TRANSACTION_ID": pl.Int64(),
    "TX_DATETIME": pl.Datetime("us"),
    "CUSTOMER_ID": pl.Int64(),
    "TERMINAL_ID": pl.Int64(),
    "TX_AMOUNT": pl.Float64(),
}
LABELLED = {**ROW, TO_PAST_AVG: pl.Float64(), "REPORTED_AT": pl.Datetime("us"), "IS_FRAUD": pl.Boolean()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=300_000, help="transactions of the state")
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    spending = compile_online(customer_spending, ROW)
    forms = [
        spending,
        compile_online(usual_spending, spending.table_types),
        compile_online(terminal_risk, ROW, LABELLED),
    ]
    labelled = draw(options.events)
    lines = [
        f"All {sum(len(form.types) for form in forms)} features of the three shipped feature sets, of a card and a "
        f"terminal with {TYPICAL_EVENTS} events each; medians:",
        "",
        *table(["", "µs"], of_a_row(forms, labelled)),
        "",
        f"A state of {labelled.height:,} transactions, of their spending features and as many labels, bootstrapped from "
        f"{DAYS} partitions of each (rows remembered included), and then further transactions scored, stored and remembered:",
        "",
        *table(
            [
                "store",
                "bootstrap, s",
                "events a second",
                "µs a row, one by one",
                "in hundreds",
                "first row of an entity",
            ],
            of_stores(forms, labelled),
        ),
    ]
    publish("online_features", "Online features", COMMAND, [*lines, "", machine(load)], write=options.write)


def draw(height: int) -> pl.DataFrame:
    """Transactions in time, with their labels known at once and the features that sets read of one another."""
    random = np.random.default_rng(1)
    seconds = np.sort(random.integers(0, DAYS * 86_400, height))
    at = pl.Series(seconds * 10**6).cast(pl.Duration("us")) + START
    transactions = pl.DataFrame(
        {
            "TRANSACTION_ID": np.arange(height),
            "TX_DATETIME": at,
            "CUSTOMER_ID": random.integers(0, CUSTOMERS, height),
            "TERMINAL_ID": random.integers(0, TERMINALS, height),
            "TX_AMOUNT": random.integers(0, 30_000, height) / 100,
            "REPORTED_AT": at,
            "IS_FRAUD": random.random(height) < 0.01,
        }
    )
    return pl.concat(
        [
            transactions,
            offline.compute(customer_spending, transactions).drop(customer_spending.keep, "TX_AMOUNT"),
        ],
        how="horizontal",
    )


def of_a_row(forms: Sequence[OnlineFeatures], labelled: pl.DataFrame) -> list[list[str]]:
    """Microseconds of each thing that is done to one row or one event."""
    one = labelled[:: labelled.height // TYPICAL_EVENTS][:TYPICAL_EVENTS].with_columns(
        CUSTOMER_ID=pl.lit(1), TERMINAL_ID=pl.lit(1)
    )
    events = [[event for _, event in partition_events(form, one)] for form in forms]
    states = []
    for form, known in zip(forms, events, strict=True):
        states.append(form.state())
        for event in known:
            states[-1].insert(event)
    row = one.select(pl.selectors.temporal().to_physical(), ~pl.selectors.temporal()).row(-1, named=True)
    new = row | {"TRANSACTION_ID": labelled.height}

    def scored(given: dict[str, Any]) -> None:
        spent = states[0].features(given)
        states[1].features(forms[0].table_row(given, spent.values))
        states[2].features(given)

    def inserted(order: Callable[[list[Any]], Iterable[Any]]) -> float:
        def fill() -> None:
            for form, known in zip(forms, events, strict=True):
                state = form.state()
                for event in order(known):
                    state.insert(event)

        return median_s(fill, 200) / sum(map(len, events))

    def offline_row() -> None:
        offline.compute(customer_spending, one[-1], one)
        offline.compute(usual_spending, one[-1], one)
        offline.compute(terminal_risk, one[-1], one)

    online_s, offline_s = median_s(lambda: scored(row), 20_000), median_s(offline_row, 50)
    return [
        ["features of a row that was taken in", _us(online_s)],
        ["features of a row that was not", _us(median_s(lambda: scored(new), 20_000))],
        ["an event in order", _us(inserted(lambda known: known))],
        [
            "an event in reverse order, which adds all later ones anew",
            _us(inserted(lambda known: known[::-1])),
        ],
        ["the same features by the offline compiler", _us(offline_s)],
        ["offline ÷ online", f"× {offline_s / online_s:,.0f}"],
    ]


def of_stores(forms: Sequence[OnlineFeatures], labelled: pl.DataFrame) -> list[list[str]]:
    with temporary_folder() as folder:
        stores: dict[str, Callable[[], StateStore]] = {
            "SQLite, synchronous = normal": lambda: SqliteStore(folder / "normal.sqlite"),
            "SQLite, synchronous = full": lambda: SqliteStore(folder / "full.sqlite", synchronous="full"),
        }
        rows = [[name, *_of_store(forms, opened, labelled)] for name, opened in stores.items()]
        if REDIS is not None:
            (folder / "redis").mkdir()
            server = RedisServer(folder / "redis", "everysec")
            server.start()
            try:
                rows.append(
                    [
                        "Redis, appendfsync = everysec",
                        *_of_store(forms, lambda: RedisStore(server.url), labelled),
                    ]
                )
            finally:
                server.kill()
    return rows


def _of_store(
    forms: Sequence[OnlineFeatures], opened: Callable[[], StateStore], labelled: pl.DataFrame
) -> list[str]:
    store = opened()
    started = time.perf_counter()
    state = OnlineState(forms, store)
    parts = list(labelled.group_by(pl.col("TX_DATETIME").dt.date(), maintain_order=True))
    taken = 0
    for name in (TRANSACTIONS, customer_spending.name, LABELLED_TRANSACTIONS):
        taken += state.bootstrap(name, [ValidatedDay(str(day), "v1", part) for (day,), part in parts])
    bootstrap_s = time.perf_counter() - started
    new = labelled[-4_000:].with_columns(
        pl.col("TRANSACTION_ID") + labelled.height,
        pl.selectors.temporal().to_physical() + 86_400 * 10**6,
    )
    rows = new.select(list(ROW)).to_dicts()
    first = [_timed(lambda row=row: state.score([row])) for row in rows[:300]]
    for row in rows[300:2_000]:
        state.answer(row)
    single = [_timed(lambda row=row: state.score([row])) for row in rows[300:2_000]]
    for row in rows[2_000:]:
        state.answer(row)
    hundreds = [
        _timed(lambda at=at: state.score(rows[at : at + 100])) / 100 for at in range(2_000, 4_000, 100)
    ]
    store.close()
    return [
        f"{bootstrap_s:.1f}",
        f"{taken / bootstrap_s:,.0f}",
        *(_us(statistics.median(each)) for each in (single, hundreds, first)),
    ]


def _timed(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:,.1f}"


if __name__ == "__main__":
    main()
