"""How well the Handbook's weeks can be told at all: a reference that knows the generator and uses the past only.

`make bench BENCHMARKS=ceiling ARGS=--write`. A model that is clearly better than it has seen the future. It needs
the Handbook's files in MY_PLATFORM_HANDBOOK, and about a minute.
"""

import argparse
import os
from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import polars as pl

from benchmarks._generator import Log, in_order, reference
from benchmarks._report import HANDBOOK, machine, publish, table
from my_platform.domains.fraud import protocol
from my_platform.learning.metrics import Evaluation, evaluate

WEEKS = tuple(date(2018, 8, 8) - timedelta(days=days) for days in (42, 35, 28, 21, 14, 0))
CARDS_A_DAY = 100
PARTS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the section in docs/benchmarks.md")
    options = parser.parse_args()
    load = os.getloadavg()
    found = of_weeks(WEEKS)
    rows = [
        [str(t0), f"{each.auc_roc:.4f}", f"{each.average_precision:.4f}", f"{each.precision_at_k.mean:.4f}"]
        for t0, each in found.items()
    ]
    means = [
        np.mean([getattr(each, name) for each in found.values()]) for name in ("auc_roc", "average_precision")
    ]
    cards = np.mean([each.precision_at_k.mean for each in found.values()])
    lines = [
        "Probabilities of fraud by hidden-Markov filters over cards and terminals (`benchmarks/_generator.py`), "
        "which know how the data were generated and, of labels and amounts, only what was known at each "
        "transaction's time. On the test rows of the Handbook's protocol:",
        "",
        *table(
            ["week T0", "AUC ROC", "average precision", "CP@100"],
            [*rows, ["mean", *(f"{mean:.4f}" for mean in (*means, cards))]],
        ),
        "",
        "A model that is above it by more than .01 in average precision or .015 in CP@100 has a leak.",
        "",
        machine(load, ("numpy", "scipy", "polars")),
    ]
    publish(
        "ceiling",
        "What can be told at all",
        "make bench BENCHMARKS=ceiling ARGS=--write",
        lines,
        write=options.write,
    )


def of_weeks(weeks: Sequence[date]) -> dict[date, Evaluation]:
    """How the reference does on the test rows of each week."""
    transactions = in_order(sorted(HANDBOOK.glob("*.parquet")))
    log = Log.of(transactions)
    first = (min(weeks) - transactions["TX_DATETIME"].dt.date().min()).days  # type: ignore[operator]
    scored = transactions.with_columns(score=pl.Series(reference(log, PARTS, first)))
    labels = scored.select(
        "TRANSACTION_ID",
        REPORTED_AT=pl.col("TX_DATETIME") + protocol.DELAY,
        IS_FRAUD=pl.col("TX_FRAUD").cast(pl.Boolean),
    )
    found = {}
    for t0 in weeks:
        tested = protocol.test_rows(scored.lazy(), labels.lazy(), t0).select(
            day=pl.col("TX_DATETIME").dt.date(), cluster="CUSTOMER_ID", score="score", label="IS_FRAUD"
        )
        found[t0] = evaluate(tested.collect(), CARDS_A_DAY)
    return found


if __name__ == "__main__":
    main()
