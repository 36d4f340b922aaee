"""A forecast is refused whose features read what is forecast before it is known."""

from typing import Any

import polars as pl
import pytest

from my_platform.errors import PlatformError
from my_platform.features.assets import feature_asset
from my_platform.features.declaration import Condition, count, feature_set, total
from my_platform.incremental.declare import Asset, Column, Grain
from my_platform.learning.forecast import Forecast

SALES = Asset(
    name="sales",
    grain=Grain.DAY,
    reads={},
    compute=lambda: None,
    code=(),
    columns={
        **{name: Column(pl.Int64(), name) for name in ("id", "shop", "sold", "open")},
        "at": Column(pl.Datetime("us"), "when"),
    },
)


def declared(**parts: Any) -> Forecast:
    """Sales known three days later, from one feature set over the sales themselves."""
    history = feature_set(
        "history",
        rows="sales",
        entity="shop",
        time="at",
        order="id",
        **{
            "derive": {"units": pl.col("sold") * 100},
            "aggregates": {"sum": total("units", days=7, delay_days=3)},
            "columns": {"MEAN": pl.col("sum") / 7},
            **parts,
        },
    )
    return Forecast(
        use="sales",
        rows=SALES,
        labels=SALES,
        features=[(history, feature_asset(history, rows=SALES, events=SALES))],
        key="id",
        time="at",
        cluster="shop",
        value="sold",
        naive="MEAN",
        unit="pieces",
        delay_days=3,
    )


def test_what_is_known_by_then_is_taken() -> None:
    assert declared().columns == ("MEAN",)
    rows = {"n": count(days=1), "open": count(days=1, where=Condition("open", "==", 1))}
    assert declared(aggregates=rows, columns={"MEAN": pl.col("n")}).columns == ("MEAN",)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        (
            {"aggregates": {"sum": total("units", days=1, past_only=True)}},
            "aggregate sum, .* delay_days of 0",
        ),
        ({"aggregates": {"sum": total("sold", days=7, delay_days=2)}}, "aggregate sum, .* delay_days of 2"),
        ({"aggregates": {"sum": count(days=7, where=Condition("sold", ">", 3))}}, "aggregate sum"),
        ({"columns": {"MEAN": pl.col("sum"), "OWN": pl.col("sold") + 1}}, "column OWN, .* of its own row"),
        ({"columns": {"MEAN": pl.col("sum"), "OWN": pl.col("units")}}, "column OWN, .* of its own row"),
    ],
)
def test_what_is_not_is_refused(parts: dict[str, Any], says: str) -> None:
    with pytest.raises(PlatformError, match=says):
        declared(**parts)
