"""The small domain that every system builds: daily transactions, a 30-day feature, a model over 120 days.

    transactions  what landed on a day                             (day, tx_id, customer_id, amount_cents)
    spending      per day and customer: sum over its last 30 days  (day, customer_id, cents_30d, n_30d)
    model         per day and customer: sum of the spending of its last 120 days, as the stand-in for a model
                  that is fitted every day                         (day, customer_id, cents_120d, days_120d)

All values are integers, so that no system is charged for the rounding of another one.
"""

import io
import random
from collections import defaultdict
from collections.abc import Iterable
from datetime import date, timedelta
from pathlib import Path

import polars as pl

DAYS = 154
ROWS_A_DAY = 20
CUSTOMERS = 10
SPENDING_DAYS = 30
MODEL_DAYS = 120
# What the incremental models of dbt and SQLMesh compute again with each new day, for data that are late.
LOOKBACK_DAYS = 30

Row = tuple[object, ...]
Contents = dict[tuple[str, str], list[Row]]
"""Sorted rows by asset and day."""

COLUMNS = {
    "transactions": ("tx_id", "customer_id", "amount_cents"),
    "spending": ("customer_id", "cents_30d", "n_30d"),
    "model": ("customer_id", "cents_120d", "days_120d"),
}


def days_until(last: date) -> list[date]:
    """The days of the data, of which the given one is the last."""
    return [last - timedelta(days=back) for back in reversed(range(DAYS))]


def land(landing: Path, days: Iterable[date], seed: int = 0) -> None:
    """Write one Parquet file a day."""
    chance = random.Random(seed)
    folder = landing / "transactions"
    folder.mkdir(parents=True)
    for number, day in enumerate(days):
        table = pl.DataFrame(
            {
                "day": [day] * ROWS_A_DAY,
                "tx_id": [number * ROWS_A_DAY + row for row in range(ROWS_A_DAY)],
                "customer_id": [chance.randrange(CUSTOMERS) for _ in range(ROWS_A_DAY)],
                "amount_cents": [chance.randrange(100, 20_000) for _ in range(ROWS_A_DAY)],
            },
            schema={"day": pl.Date, "tx_id": pl.Int64, "customer_id": pl.Int64, "amount_cents": pl.Int64},
        )
        table.write_parquet(folder / f"{day}.parquet")


def reland(landing: Path, day: date) -> None:
    """Deliver the same bytes again: only the file's times and inode are new."""
    _replace(landing, day, (landing / "transactions" / f"{day}.parquet").read_bytes())


def correct(landing: Path, day: date) -> None:
    """Deliver a day again in which one amount is different."""
    _change(landing, day, pl.col("amount_cents") + 1_000)


def renumber(landing: Path, day: date) -> None:
    """Deliver a day again in which one transaction has another number, which the feature does not use."""
    _change(landing, day, pl.col("tx_id") + 1_000_000)


def _change(landing: Path, day: date, changed: pl.Expr) -> None:
    name = changed.meta.output_name()
    table = pl.read_parquet(landing / "transactions" / f"{day}.parquet")
    first = pl.col("tx_id") == pl.col("tx_id").min()
    buffer = io.BytesIO()
    table.with_columns(pl.when(first).then(changed).otherwise(pl.col(name)).alias(name)).write_parquet(buffer)
    _replace(landing, day, buffer.getvalue())


def _replace(landing: Path, day: date, data: bytes) -> None:
    path = landing / "transactions" / f"{day}.parquet"
    draft = landing / f".{day}.draft"
    draft.write_bytes(data)
    draft.replace(path)


def expected(landing: Path, fee_cents: int = 0) -> Contents:
    """What a build from scratch gives, by brute force and by none of the systems.

    Args:
        fee_cents: added to each amount that the feature sums: what the real edit of its code does.
    """
    rows: dict[date, list[tuple[int, int, int]]] = {}
    for path in sorted((landing / "transactions").glob("*.parquet")):
        table = pl.read_parquet(path, columns=["tx_id", "customer_id", "amount_cents"])
        rows[date.fromisoformat(path.stem)] = sorted(table.iter_rows())
    spending: dict[date, dict[int, tuple[int, int]]] = {}
    model: dict[date, dict[int, tuple[int, int]]] = {}
    for day in rows:
        spent: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for back in range(SPENDING_DAYS):
            for _, customer, cents in rows.get(day - timedelta(days=back), []):
                spent[customer] = (spent[customer][0] + cents + fee_cents, spent[customer][1] + 1)
        spending[day] = dict(spent)
    for day in rows:
        learnt: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        for back in range(MODEL_DAYS):
            for customer, (cents, _) in spending.get(day - timedelta(days=back), {}).items():
                learnt[customer] = (learnt[customer][0] + cents, learnt[customer][1] + 1)
        model[day] = dict(learnt)
    found: Contents = {("transactions", str(day)): list(there) for day, there in rows.items()}
    for name, values in (("spending", spending), ("model", model)):
        for day, by_customer in values.items():
            found[name, str(day)] = sorted((customer, *pair) for customer, pair in by_customer.items())
    return found


def owed(before: Contents, after: Contents, landed: set[date], code_of: set[str]) -> set[tuple[str, str]]:
    """The partitions of which an immediate input changed: a landed file, the code, or a partition that is read.

    Args:
        before, after: what a build from scratch gives before and after the edit.
        landed: days whose landed file has other bytes than before.
        code_of: assets whose code means something else than before.
    """
    days = sorted(date.fromisoformat(day) for asset, day in after if asset == "transactions")
    changed = {place for place in after if before.get(place) != after[place]}
    found = {("transactions", str(day)) for day in landed}
    for asset, reads, window in (
        ("spending", "transactions", SPENDING_DAYS),
        ("model", "spending", MODEL_DAYS),
    ):
        for day in days:
            window_days = (str(day - timedelta(days=back)) for back in range(window))
            if asset in code_of or any((reads, other) in changed for other in window_days):
                found.add((asset, str(day)))
    return found
