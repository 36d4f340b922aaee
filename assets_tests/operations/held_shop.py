"""The shop with a table that stops at a partition for as long as a test wants: while there is a pipe of its name."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, same, table
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings

_PATIENCE_S = 240


def assets(settings: Settings) -> list[Asset]:
    raw = raw_table("raw/orders", shop.ORDERS, source="orders")
    valid = validated_table("validated/orders", raw, shop.ORDERS)

    @table("cents", reads={"orders": same("validated/orders")}, runtime={"gates": str(settings.home)})
    def cents(orders: pl.LazyFrame, partition: str, gates: str) -> pl.LazyFrame:
        gate = gate_of(Path(gates), partition)
        if gate.exists():
            gate.read_bytes()
        return orders.select(pl.col("CENTS").sum())

    return [raw, valid, cents]


def gate_of(home: Path, partition: str) -> Path:
    return home / f"gate-{partition}"


def shut(home: Path, partition: str) -> None:
    """Have the table stop at a partition."""
    os.mkfifo(gate_of(home, partition))


@contextmanager
def held_at(home: Path, partition: str) -> Iterator[None]:
    """While the table stands at a partition that was shut; afterwards it goes on."""
    gate = gate_of(home, partition)
    ends = time.monotonic() + _PATIENCE_S
    while True:
        # A pipe can be opened for writing only once somebody reads.
        with suppress(OSError):
            pipe = os.open(gate, os.O_WRONLY | os.O_NONBLOCK)
            break
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)
    try:
        yield
        gate.unlink()
    finally:
        os.close(pipe)
