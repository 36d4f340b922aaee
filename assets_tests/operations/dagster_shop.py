"""The shop with every kind of edge: a table without partitions, and days that read weeks that read days."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pandera.polars as pa
import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, Read, same, table
from my_platform.operations.sensors import SENSOR
from my_platform.operations.session import Session, opened
from my_platform.quality.contracts import Contract
from my_platform.quality.tables import raw_table, validated_table
from my_platform.settings import Settings
from my_platform.storage.trace_index import Trace

RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
DAILY = ["raw/orders", "validated/orders", "shop_week", "shop_size"]
ONCE = ["raw/shops", "validated/shops"]
SILENT = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
DAYS = 24
# What the seven days of orders before a week's end give a report; the fourth week has not ended.
WEEKS = 3


class Shops(pa.DataFrameModel):
    """All shops."""

    SHOP_ID: int = pa.Field(unique=True)
    SEATS: int = pa.Field(gt=0)

    class Config:
        strict = True


SHOPS = Contract(Shops, sort_by=("SHOP_ID",))


def assets(settings: Settings) -> list[Asset]:
    raw = raw_table("raw/shops", SHOPS, source="shops", grain=Grain.ONCE)
    return [*shop.assets(settings), raw, validated_table("validated/shops", raw, SHOPS), shop_size, score]


@table("shop_size", reads={"orders": same("validated/orders"), "shops": same("validated/shops")})
def shop_size(orders: pl.LazyFrame, shops: pl.LazyFrame) -> pl.LazyFrame:
    return orders.join(shops, on="SHOP_ID").select(pl.col("SEATS").sum())


@table("score", reads={"report": Read("report", -13, -7, at_least=1), "week": same("shop_week")})
def score(report: pl.LazyFrame, week: pl.LazyFrame) -> pl.LazyFrame:
    return week.join(report.rename({"CENTS": "MOST"}), how="cross").with_columns(
        pl.col("CENTS") * 1000 // pl.col("MOST")
    )


def day(number: int) -> str:
    """The key of a day, counted from the first one, a Wednesday."""
    return (shop.FIRST + timedelta(days=number)).isoformat()


def settings(home: Path, **more: object) -> Settings:
    return Settings(home=home, domains=("assets_tests.operations.dagster_shop",), **more)  # type: ignore[arg-type]


def land(home: Path, days: int = DAYS) -> None:
    """Land the shops and as many days of orders."""
    shop.land_days(home, days)
    (home / "landing" / "shops.csv").write_text("SHOP_ID,SEATS\n0,10\n1,20\n")


def correct(home: Path, number: int, *, extra_cents: int = 7) -> None:
    """Land a day again, with another amount in its first row."""
    shop.land(home, date.fromisoformat(day(number)), extra_cents=extra_cents)


@dataclass
class Shop:
    """A home with the shop in it, and Dagster over it in this process."""

    session: Session

    @property
    def home(self) -> Path:
        return self.session.settings.home

    def run(
        self, assets: Sequence[str], partition: str | None = None, span: tuple[str, str] | None = None
    ) -> dg.ExecuteInProcessResult:
        """What pressing the button does: one run of assets at no, one or several partitions."""
        return self.session.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=self.session.instance,
            asset_selection=[dg.AssetKey(name.split("/")) for name in assets],
            partition_key=partition,
            tags=dict(zip(RANGE, span, strict=True)) if span else None,
            raise_on_error=False,
            run_config=SILENT,
        )

    def tick(self) -> Any:
        """One look of the sensor, which may have run requests or a reason to skip."""
        repository = self.session.definitions.get_repository_def()
        with dg.build_sensor_context(instance=self.session.instance, repository_def=repository) as context:
            return repository.get_sensor_def(SENSOR).evaluate_tick(context)

    def execute(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        """The run that a request of the sensor asks for."""
        assert request.job_name is not None
        return self.session.definitions.resolve_job_def(request.job_name).execute_in_process(
            instance=self.session.instance,
            asset_selection=request.asset_selection,
            partition_key=request.partition_key,
            tags=dict(request.tags),
            raise_on_error=False,
            run_config=SILENT,
        )

    def events(self, asset: str, partition: str | None = None) -> list[dg.AssetMaterialization]:
        """Materializations in Dagster's event log, the newest first."""
        records = self.session.instance.fetch_materializations(
            dg.AssetRecordsFilter(
                dg.AssetKey(asset.split("/")), asset_partitions=[partition] if partition else None
            ),
            limit=1000,
        ).records
        return [found for record in records if (found := record.asset_materialization) is not None]

    def traces(self) -> list[Trace]:
        """Everything that was ever computed."""
        return list(self.session.workspace.lake.index.traces(sorted(self.session.workspace.project.assets)))


@contextmanager
def opened_shop(home: Path) -> Iterator[Shop]:
    with opened(settings(home)) as session:
        yield Shop(session)


def requested(request: dg.RunRequest) -> tuple[tuple[str, ...], str | None, str | None]:
    """Assets, first and last partition of a request."""
    names = tuple(sorted(key.to_user_string() for key in request.asset_selection or ()))
    first, last = (request.tags.get(tag, request.partition_key) for tag in RANGE)
    return names, first, last
