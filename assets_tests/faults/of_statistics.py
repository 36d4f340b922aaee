"""Deliveries that keep their contract and are wrong all the same: told by checks over days."""

import polars as pl

from assets_tests.faults.registry import fault
from assets_tests.faults.scene import Scene
from assets_tests.faults.verdicts import Check


@fault("amounts x 1000", Check(("drift", "ranges"), "TX_AMOUNT"))
def thousandfold(scene: Scene) -> None:
    scene.deliver(
        lambda t: t.with_columns(TX_AMOUNT=pl.min_horizontal(pl.col("TX_AMOUNT") * 1000, 999_999.0))
    )


@fault("volume -60 %", Check(("volume",)))
def volume(scene: Scene) -> None:
    scene.deliver(lambda t: t.sample(fraction=0.4, seed=1).sort("TX_DATETIME"))


@fault("label drift", Check(("label_drift",), "IS_FRAUD"))
def labels(scene: Scene) -> None:
    scene.deliver(lambda t: t.with_columns(IS_FRAUD=pl.lit(True)), scene.table("fraud_reports"))
