"""Every validated transaction of a day, scored by the champion of that day."""

from pathlib import Path

import polars as pl

from my_platform.domains.fraud.features import OF_FEATURES, joined
from my_platform.domains.fraud.publishing import USE
from my_platform.incremental.bucketed import Apart
from my_platform.incremental.declare import Asset, Column, same
from my_platform.serving.champion_scores import SCORES, scored_asset

_KEPT = {
    "TRANSACTION_ID": Column(pl.Int64(), "the transaction"),
    "TX_DATETIME": Column(pl.Datetime("us"), "when it happened, UTC"),
    "CUSTOMER_ID": Column(pl.Int64(), "the card that paid"),
}


def scored_transactions(bundles: Path) -> Asset:
    """The daily scores of the champion, by its bundle's folder."""
    return scored_asset(
        "scored_transactions",
        USE,
        bundles,
        features={
            "spending": same("customer_spending"),
            "usual": same("usual_spending"),
            "risk": same("terminal_risk"),
        },
        joined=joined,
        apart=Apart(
            dict.fromkeys(("spending", "usual", "risk"), "TRANSACTION_ID"), ("TX_DATETIME", "TRANSACTION_ID")
        ),
        kept=_KEPT,
        lineage={
            **{name: (("customer_spending", name),) for name in _KEPT},
            **{
                name: tuple(OF_FEATURES.values()) if name in ("PROBABILITY", "FLAGGED") else ()
                for name in SCORES
            },
        },
        description="Every validated transaction of the day with the probability of fraud that the champion of that "
        "day gives it.",
        owners=("team:fraud-models",),
    )
