"""The shop with checks on days, which analysts may see, on the week that reads them, and days after the week."""

import polars as pl

from assets_tests.operations import shop
from my_platform.errors import Refused
from my_platform.incremental.checks import Check, CheckResult
from my_platform.incremental.declare import Asset, Grain, Produced, Read, same, table
from my_platform.settings import Settings

# A day of the shop takes 1000 cents at first, and 16 more each day.
SOME = 1100
MOST = 100_000


def settings(home: object) -> Settings:
    return Settings(home=home, domains=("assets_tests.operations.checked_shop",))  # type: ignore[arg-type]


def assets(given: Settings) -> list[Asset]:
    return [*shop.assets(given)[:2], takings, week, share]


@table(
    "takings",
    reads={"orders": same("validated/orders")},
    table_for_analysts="takings",
    own_checks=(Check("believable", "at most MOST cents"), Check("quiet", "at most SOME cents", "warn")),
)
def takings(orders: pl.LazyFrame) -> Produced:
    found = orders.select(pl.col("CENTS").sum()).collect()
    cents = found.item()
    checks = [
        CheckResult("believable", cents <= MOST, {"cents": cents}),
        CheckResult("quiet", cents <= SOME, {"cents": cents}),
    ]
    if cents > MOST:
        raise Refused(f"column CENTS adds up to {cents}, more than {MOST}", checks)
    return Produced(found, checks=checks)


@table(
    "week",
    grain=Grain.WEEK,
    reads={"takings": Read("takings", 0, 6)},
    own_checks=(Check("full", "seven days"),),
)
def week(takings: pl.LazyFrame) -> Produced:
    found = takings.collect()
    return Produced(found, checks=[CheckResult("full", found.height == 7, {"days": found.height})])


@table("share", reads={"takings": same("takings"), "weeks": Read("week", -13, 0, "pass")})
def share(takings: pl.LazyFrame, weeks: pl.LazyFrame) -> pl.LazyFrame:
    """A day's takings as a share of those of the last week that began, which is computed in between."""
    return takings.select(pl.col("CENTS") / weeks.select(pl.col("CENTS").sum()).collect().item())
