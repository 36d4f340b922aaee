"""The shop with a weekly table that holds a device, and says which one it was given."""

import os
from dataclasses import replace

import polars as pl

from assets_tests.operations import shop
from my_platform.incremental.declare import Asset, Grain, same, table
from my_platform.operations.session import Session
from my_platform.settings import Settings


def assets(settings: Settings) -> list[Asset]:
    return [*shop.assets(settings), replace(fitted, gpus=1)]


@table("fitted", grain=Grain.WEEK, reads={"report": same("report")}, pool="gpu")
def fitted(report: pl.LazyFrame) -> pl.LazyFrame:
    return report.with_columns(DEVICE=pl.lit(os.environ.get("CUDA_VISIBLE_DEVICES", "none")))


def devices(session: Session) -> list[str]:
    """What the partitions that are current say of their device."""
    lake = session.workspace.lake
    return [
        lake.read("fitted", week, version)["DEVICE"].item()
        for week, version in session.versions()["fitted"].items()
    ]
