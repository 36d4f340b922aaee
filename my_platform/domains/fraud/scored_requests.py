"""What the scoring service logged, as a table of the platform, and its features held against the offline ones.

The table is optional: a home without a service has no partition of it, and waits for none.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pandera.polars as pa
import polars as pl

from my_platform.domains.fraud import contracts
from my_platform.domains.fraud.features import FEATURE_SETS, FEATURES, OF_FEATURES, joined
from my_platform.domains.fraud.publishing import USE
from my_platform.features import skew
from my_platform.incremental.declare import Asset, Column, Produced, same, table
from my_platform.operations.platform import asset_code_version
from my_platform.quality.contracts import Contract
from my_platform.quality.watch import Watch
from my_platform.serving.log_landing import PREFIX, LoggedTable, feature_code

TABLE = "scored_requests"
VALIDATED = f"validated/{TABLE}"
SKEW = "training_serving_skew"
FEATURE_ASSETS = tuple(declared.name for declared in FEATURE_SETS)


class Scored(contracts.Transactions):
    """Card transactions that the service scored, by the UTC day on which they happened."""

    SCORED_AT: datetime = pa.Field(description="when it was scored, UTC")
    MODEL: str = pa.Field(description="the model that scored it")
    WEEK: str = pa.Field(description="the week of that model")
    BUNDLE: str = pa.Field(description="digest of the champion's bundle")
    FEATURE_CODE: str = pa.Field(description="digest of the code that the bundle's features are made by")
    PROBABILITY: float = pa.Field(ge=0, le=1, description="probability of fraud")
    FLAGGED: bool = pa.Field(description="whether the probability reached the threshold")
    THRESHOLD: float = pa.Field(
        nullable=True, description="the operating threshold at that time, null where the bundle has none"
    )
    DEGRADED: str = pa.Field(
        nullable=True, description="why features may differ from the offline ones, else null"
    )
    LATENCY_US: int = pa.Field(ge=0, description="from the parsed request to the log's write, microseconds")
    SHADOW_BUNDLE: str = pa.Field(nullable=True, description="digest of the bundle that ran in its shadow")
    SHADOW_PROBABILITY: float = pa.Field(nullable=True, description="what that one said")

    class Config:
        strict = True
        name = TABLE


def logged_table(features: Mapping[str, Column]) -> LoggedTable:
    """How the service's log lands, with features of these types."""
    return LoggedTable(
        use=USE,
        table=TABLE,
        asset=VALIDATED,
        key="TRANSACTION_ID",
        time="TX_DATETIME",
        row=dict(contracts.TRANSACTIONS.schema),
        features={name: features[name].type for name in FEATURES},
        feature_assets=FEATURE_ASSETS,
    )


def scored_contract(features: Mapping[str, Column]) -> Contract:
    """What a landed day of the log promises: a scored transaction in each row, with a column for each feature."""
    kinds = {f"{PREFIX}{name}": _PYTHON[features[name].type] for name in FEATURES}
    fields = {
        f"{PREFIX}{name}": pa.Field(nullable=True, description=f"as served: {features[name].description}")
        for name in FEATURES
    }
    # Named as the class that it adds to, in whose source all is that is no feature.
    named = {"__module__": __name__, "__qualname__": Scored.__qualname__, "__doc__": Scored.__doc__}
    model = type(Scored.__name__, (Scored,), {**named, "__annotations__": kinds, **fields})
    return Contract(model, sort_by=("TX_DATETIME", "TRANSACTION_ID"), time="TX_DATETIME", at_least_rows=0)


def training_serving_skew(
    served: pl.LazyFrame,
    spending: pl.LazyFrame,
    usual: pl.LazyFrame,
    risk: pl.LazyFrame,
    parameters: Mapping[str, Any],
) -> Produced:
    """By feature, how the rows that the service scored differ from the features that models are trained on."""
    found, counted = skew.compare(
        served.collect(),
        joined(spending, usual, risk).collect(),
        FEATURES,
        key="TRANSACTION_ID",
        prefix=PREFIX,
        degraded="DEGRADED",
        code=("FEATURE_CODE", parameters["feature_code"]),
    )
    result = skew.answer(found, counted)
    return Produced(found, metadata=result.metadata, checks=[result])


def skew_asset(feature_assets: Sequence[Asset]) -> Asset:
    """The daily comparison of served features with these assets' present ones."""
    code = {asset.name: asset_code_version(asset) for asset in feature_assets}
    of_log = ((VALIDATED, "TRANSACTION_ID"), (VALIDATED, "DEGRADED"), (VALIDATED, "FEATURE_CODE"))
    served = tuple((VALIDATED, f"{PREFIX}{name}") for name in FEATURES)
    return table(
        SKEW,
        reads={
            "served": same(
                VALIDATED,
                columns=[
                    "TRANSACTION_ID",
                    "DEGRADED",
                    "FEATURE_CODE",
                    *(f"{PREFIX}{name}" for name in FEATURES),
                ],
            ),
            "spending": same("customer_spending"),
            "usual": same("usual_spending"),
            "risk": same("terminal_risk"),
        },
        parameters={"feature_code": feature_code(code, FEATURE_ASSETS)},
        group="serving",
        columns=skew.COLUMNS,
        lineage={
            "feature": (),
            **{name: (*of_log, *served, *OF_FEATURES.values()) for name in skew.COLUMNS if name != "feature"},
        },
        own_checks=(skew.skew_check(VALIDATED),),
        owners=("team:fraud-models",),
    )(training_serving_skew)


# Drift of scores and features is told by the checks of the table, as of any other.
WATCH = Watch(keys=("TRANSACTION_ID",), columns=("PROBABILITY", *(f"{PREFIX}{name}" for name in FEATURES)))
_PYTHON: Mapping[pl.DataType, type] = {pl.Int64(): int, pl.Float64(): float}
