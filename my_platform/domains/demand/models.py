"""What is forecast, with which parameters, and what is asked of a champion.

The parameters were not searched: with 40 simulated meters and 60 days they save a third of the naive forecast's errors.
"""

from my_platform.domains.demand.features import NAIVE
from my_platform.features.declaration import FeatureSet
from my_platform.incremental.declare import Asset
from my_platform.learning.budgets import Budget
from my_platform.learning.forecast import Forecast
from my_platform.learning.gate import Policy
from my_platform.learning.health import Limits
from my_platform.settings import Settings

USE = "demand"
INTENDED = (
    "Forecasts at midnight what each meter takes in each hour of the day that begins, in watt-hours, for who buys the "
    "energy. Made for the days from its week on; not made for meters without two days of readings."
)
BUDGET = Budget(p99_ms=10.0, rows_per_s=200.0, file_bytes=16 << 20, memory_bytes=256 << 20, fit_s=600.0)
# Gains and drops are shares of the mean absolute error.
POLICY = Policy(calibration=0.1, inferiority=0.05, slice_tolerance=0.1, limits=Limits(precision_drop=0.3))


def forecast(
    settings: Settings, rows: Asset, labels: Asset, features: tuple[tuple[FeatureSet, Asset], ...]
) -> Forecast:
    """The forecast of demand, over these assets."""
    return Forecast(
        use=USE,
        rows=rows,
        labels=labels,
        features=features,
        key="HOUR_ID",
        time="STARTS_AT",
        cluster="METER_ID",
        value="WATT_HOURS",
        known_at="READ_AT",
        naive=NAIVE,
        unit="watt-hours",
        slices=("REGION_ID", "HOLIDAY", "WEEKEND"),
        delay_days=2,
        window_days=settings.training_window_days or 28,
        rounds=settings.boosting_rounds or 120,
        lightgbm={"learning_rate": 0.08, "num_leaves": 31, "min_data_in_leaf": 40},
        owners=("team:demand",),
        landed="hours",
    )
