"""The small domain with two models that hold a device: one tells when it is at work, the other does not."""

import time
from dataclasses import dataclass

import numpy as np
import polars as pl

from assets_tests.learning.nets.rows import NAMES, SMALL, training_set
from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, same, table
from my_platform.learning.nets.fit import Host, fit_streamed
from my_platform.learning.nets.sampling import Labels, last_rows
from my_platform.learning.nets.sources import ArrayShard
from my_platform.learning.nets.transforms import Floats
from my_platform.settings import Settings

SLEEP_S = 0.3


@dataclass(frozen=True)
class SlowShard:
    """A shard whose storage is slow."""

    shard: ArrayShard
    name: str = "slow"

    def read(self) -> tuple[Floats, Labels]:
        time.sleep(SLEEP_S)
        return self.shard.read()


def assets(settings: Settings) -> list[Asset]:
    return [*shop.assets(settings), fitted, silent]


@table("fitted", grain=Grain.WEEK, reads={"shops": same("shop_week")}, gpus=1, pool="gpu")
def fitted(shops: pl.LazyFrame) -> pl.LazyFrame:
    """The digest of a net that is streamed to its device from slow storage."""
    rows = training_set()
    last = last_rows(rows.days, rows.labels, SMALL.training.stopping_share)
    held_out, streamed = (
        ArrayShard(name, rows.features, rows.labels, np.flatnonzero(part))
        for name, part in (("last days", last), ("others", ~last))
    )
    net = fit_streamed([SlowShard(streamed)], held_out, NAMES, SMALL, Host())
    return pl.LazyFrame({"digest": [net.digest]})


@table("silent", grain=Grain.WEEK, reads={"shops": same("shop_week")}, gpus=1, pool="gpu")
def silent(shops: pl.LazyFrame) -> pl.LazyFrame:
    """As many shops as there are."""
    return shops.select(pl.len())
