"""Which rows a weekly model is fitted on and which it is tested on: the Handbook's protocol.

T0 is the first day of the test week, S = T0 − 14 that of the Handbook's training week, 7 days the delay
after which a label is known. Days are UTC days, and intervals leave out their end:

- training rows: days [T0 − 7 − window, T0 − 7), with a label that was known before T0;
- test rows: days [T0, T0 + 7), with a label that was known before T0 + 14, minus, on test day t, cards
  with a fraud on the days S … t − 8 that was known before t. Without late labels those are the
  Handbook's: cards with a fraud in the training week, and on days S + 7 … t − 8.

Source: Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi, 2022), chapters 3 and 5.
"""

from datetime import date, timedelta

import numpy as np
import polars as pl

DELAY = timedelta(days=7)
TEST_LENGTH = timedelta(days=7)
HANDBOOK_WINDOW = timedelta(days=7)
_ROW = "__row"


def training_days(t0: date, window_days: int) -> tuple[date, date]:
    """The first day of the training rows, and the day after their last."""
    return t0 - DELAY - timedelta(days=window_days), t0 - DELAY


def test_days(t0: date) -> tuple[date, date]:
    """The first day of the test rows, and the day after their last."""
    return t0, t0 + TEST_LENGTH


def labels_known_before(labels: pl.LazyFrame, day: date) -> pl.LazyFrame:
    """The label of each transaction as it was known when `day` began: TRANSACTION_ID, IS_FRAUD, REPORTED_AT.

    `labels` has TRANSACTION_ID, REPORTED_AT, IS_FRAUD. The latest report wins; of two reports of one
    moment, that of a fraud.
    """
    known = labels.filter(pl.col("REPORTED_AT").dt.date() < day).collect()
    known = known.sort("TRANSACTION_ID", "REPORTED_AT", "IS_FRAUD")
    key = known.get_column("TRANSACTION_ID")
    last = known.filter(key.ne_missing(key.shift(-1)) | key.is_null())
    # Told that they are sorted, polars joins on the keys without hashing them.
    return last.select("TRANSACTION_ID", "IS_FRAUD", "REPORTED_AT").lazy().set_sorted("TRANSACTION_ID")


def as_reported(labelled: pl.LazyFrame, reports: pl.LazyFrame) -> pl.LazyFrame:
    """Labelled transactions, and as KNOWN_AT when each label was known by the report itself.

    Of several reports on one transaction the first goes with its first label, and so on.
    """
    number = pl.struct("REPORTED_AT", "IS_FRAUD").rank("ordinal").over("TRANSACTION_ID")
    of_these = reports.join(labelled, on="TRANSACTION_ID", how="semi")
    told = of_these.select("TRANSACTION_ID", number.alias("n"), KNOWN_AT="REPORTED_AT")
    return (
        labelled.with_columns(number.alias("n")).join(told, on=["TRANSACTION_ID", "n"], how="left").drop("n")
    )


def training_rows(
    transactions: pl.LazyFrame, labels: pl.LazyFrame, t0: date, window_days: int
) -> pl.LazyFrame:
    """The training rows for the test week that begins on `t0`, by (TX_DATETIME, TRANSACTION_ID).

    `transactions` needs TRANSACTION_ID and TX_DATETIME and may have any other columns, features among them;
    out come all of its columns, IS_FRAUD and REPORTED_AT.
    """
    rows = transactions.collect()
    keys = rows.select("TRANSACTION_ID", "TX_DATETIME").rechunk().with_row_index(_ROW)
    keys = keys.filter(_happened(*training_days(t0, window_days))).sort("TRANSACTION_ID")
    known = labels_known_before(labels, t0).collect()
    labelled = keys.join(known, on="TRANSACTION_ID", how="inner").sort("TX_DATETIME", "TRANSACTION_ID")
    taken = labelled.get_column(_ROW).to_numpy()
    # Most often all rows are taken, in the order in which they stand, and many wide columns need not be moved.
    whole = len(taken) == rows.height and bool((taken == np.arange(len(taken))).all())
    # In one piece each column is judged and hashed in a third of the time; what is taken of them is in one piece.
    found = rows.rechunk() if whole else rows[taken]
    return found.hstack(labelled.select("IS_FRAUD", "REPORTED_AT").get_columns()).lazy()


def test_rows(transactions: pl.LazyFrame, labels: pl.LazyFrame, t0: date) -> pl.LazyFrame:
    """The test rows of the week that begins on `t0`, by (TX_DATETIME, TRANSACTION_ID).

    `transactions` needs TRANSACTION_ID, TX_DATETIME and CUSTOMER_ID of the days [T0 − 14, T0 + 7) and may
    have any other columns; out come all of its columns, IS_FRAUD and REPORTED_AT. `labels` needs the reports
    of the days [T0 − 14, T0 + 14).
    """
    first, end = test_days(t0)
    tested = transactions.filter(_happened(first, end)).join(
        labels_known_before(labels, end + DELAY), on="TRANSACTION_ID", how="inner"
    )
    days = [
        tested.filter(_happened(day, day + timedelta(days=1))).join(
            _known_compromised(transactions, labels, t0, day), on="CUSTOMER_ID", how="anti"
        )
        for day in (first + timedelta(days=number) for number in range(TEST_LENGTH.days))
    ]
    return pl.concat(days).sort("TX_DATETIME", "TRANSACTION_ID")


def _known_compromised(transactions: pl.LazyFrame, labels: pl.LazyFrame, t0: date, day: date) -> pl.LazyFrame:
    """CUSTOMER_ID of the cards that leave test day `day`: a fraud on days S … day − 8, known before `day`."""
    return (
        transactions.filter(_happened(t0 - DELAY - HANDBOOK_WINDOW, day - DELAY))
        .join(labels_known_before(labels, day).filter("IS_FRAUD"), on="TRANSACTION_ID", how="semi")
        .select("CUSTOMER_ID")
        .unique()
    )


def _happened(first: date, end: date) -> pl.Expr:
    """Whether a transaction happened on the days [first, end)."""
    day = pl.col("TX_DATETIME").dt.date()
    return (day >= first) & (day < end)
