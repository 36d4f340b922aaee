"""Features of a card transaction: the customer's spending, what is usual for it, and its terminal's known risk.

The fifteen of the Fraud Detection Handbook (Le Borgne et al., 2022, chapter 3) keep their names there; the
others are this domain's own. Where a feature does not exist (no past, no known fraud) it is null.
"""

import polars as pl

from my_platform.features.declaration import (
    SECONDS_PER_DAY,
    Condition,
    count,
    feature_set,
    first_time,
    last_time,
    maximum,
    total,
    total_squares,
)

TRANSACTIONS = "validated/transactions"
SPENDING_TABLE = "customer_spending"
LABELLED_TRANSACTIONS = "labelled_transactions"

WINDOWS = (1, 7, 30)
PAST_DAYS = 30
RECENT_MEAN_DAYS = 7
RECENT_MAX_DAYS = 14
USUAL_DAYS = 60
# A stolen card is used for two weeks.
UNUSUAL_WINDOWS = (1, 3, 7, 14)
USUAL_FRAUD_WINDOWS = (1, 3, 7, 14, 30)
KNOWN_DAYS = 30
# The handbook counts hours 0 to 6 as night, and Saturday, weekday 6, and Sunday as weekend.
LAST_NIGHT_HOUR = 6
SATURDAY = 6
# Every amount above 220 is fraud, whichever the terminal, and one far above what its card usually pays is a sign of
# a stolen card: only the other frauds tell that their terminal is compromised.
HIGH_AMOUNT = 220
USUAL_TIMES_AVG = 2.5
TO_PAST_AVG = "CUSTOMER_ID_AMOUNT_TO_PAST_AVG"

AMOUNT_CENTS = {"tx_cents": (pl.col("TX_AMOUNT") * 100).round().cast(pl.Int64)}
# A card without a past has nothing that would be unusual.
USUAL_FOR_CARD = pl.col(TO_PAST_AVG).fill_null(1.0) < USUAL_TIMES_AVG

FRAUD = Condition("IS_FRAUD", "==", True)
GENUINE = Condition("IS_FRAUD", "==", False)
USUAL = Condition("usual", "==", True)
UNUSUAL = Condition("usual", "==", False)
USUAL_FRAUD = (FRAUD, USUAL)


def ratio(numerator: pl.Expr, denominator: pl.Expr, otherwise: float | None) -> pl.Expr:
    """numerator ÷ denominator, and `otherwise` where the denominator is not above 0 or is null."""
    return pl.when(denominator > 0).then(numerator / denominator).otherwise(otherwise).cast(pl.Float64)


def spread(n: pl.Expr, sum_: pl.Expr, squares: pl.Expr) -> pl.Expr:
    """Standard deviation of a sample from its count, sum and sum of squares; null below two values."""
    n, sum_, squares = (part.cast(pl.Float64) for part in (n, sum_, squares))
    variance = (n * squares - sum_ * sum_) / (n * (n - 1))
    return pl.when(n > 1).then(variance.clip(lower_bound=0).sqrt())


def days_since(seconds: str, time: str) -> pl.Expr:
    """Days from a moment in seconds since 1970 to the row's time."""
    return (pl.col(time).dt.epoch("s") - pl.col(seconds)) / SECONDS_PER_DAY


cents = pl.col("tx_cents")
past_mean = ratio(pl.col("past_cents"), pl.col("past_n"), otherwise=None)
recent_mean = ratio(pl.col("recent_cents"), pl.col("recent_n"), otherwise=None)
usual_mean = ratio(pl.col("usual_cents"), pl.col("usual_n"), otherwise=None)
past_spread = spread(pl.col("past_n"), pl.col("past_cents"), pl.col("past_squares"))

customer_spending = feature_set(
    "customer_spending",
    description="The transaction's amount and time, and what its customer spent before, itself included or "
    "(PAST) left out.",
    rows=TRANSACTIONS,
    entity="CUSTOMER_ID",
    time="TX_DATETIME",
    order="TRANSACTION_ID",
    keep=("TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID"),
    derive=AMOUNT_CENTS,
    aggregates={
        **{f"n_{days}d": count(days=days) for days in WINDOWS},
        **{f"cents_{days}d": total("tx_cents", days=days) for days in WINDOWS},
        "past_n": count(days=PAST_DAYS, past_only=True),
        "past_cents": total("tx_cents", days=PAST_DAYS, past_only=True),
        "past_squares": total_squares("tx_cents", days=PAST_DAYS, past_only=True),
        "past_max": maximum("tx_cents", days=PAST_DAYS, past_only=True),
        "recent_n": count(days=RECENT_MEAN_DAYS, past_only=True),
        "recent_cents": total("tx_cents", days=RECENT_MEAN_DAYS, past_only=True),
        "recent_max": maximum("tx_cents", days=RECENT_MAX_DAYS, past_only=True),
    },
    columns={
        "TX_AMOUNT": pl.col("TX_AMOUNT"),
        "TX_DURING_WEEKEND": (pl.col("TX_DATETIME").dt.weekday() >= SATURDAY).cast(pl.Int64),
        "TX_DURING_NIGHT": (pl.col("TX_DATETIME").dt.hour() <= LAST_NIGHT_HOUR).cast(pl.Int64),
        **{f"CUSTOMER_ID_NB_TX_{days}DAY_WINDOW": pl.col(f"n_{days}d") for days in WINDOWS},
        **{
            f"CUSTOMER_ID_AVG_AMOUNT_{days}DAY_WINDOW": pl.col(f"cents_{days}d") / pl.col(f"n_{days}d") / 100
            for days in WINDOWS
        },
        "CUSTOMER_ID_PAST_AVG_AMOUNT": past_mean / 100,
        "CUSTOMER_ID_PAST_SPREAD": past_spread / 100,
        "CUSTOMER_ID_AMOUNT_IN_PAST_SPREADS": ratio(cents - past_mean, past_spread, otherwise=None),
        TO_PAST_AVG: ratio(cents, past_mean, otherwise=None),
        "CUSTOMER_ID_AMOUNT_TO_PAST_MAX": ratio(cents, pl.col("past_max"), otherwise=None),
        "CUSTOMER_ID_RECENT_AVG_TO_PAST_AVG": ratio(recent_mean, past_mean, otherwise=None),
        "CUSTOMER_ID_RECENT_MAX_TO_PAST_AVG": ratio(pl.col("recent_max"), past_mean, otherwise=None),
    },
)

usual_spending = feature_set(
    "usual_spending",
    description="What the customer pays usually: its payments before, those left out that were far above their past, "
    "and how many of these there were of late.",
    rows=SPENDING_TABLE,
    entity="CUSTOMER_ID",
    time="TX_DATETIME",
    order="TRANSACTION_ID",
    derive={**AMOUNT_CENTS, "usual": USUAL_FOR_CARD},
    aggregates={
        "usual_n": count(days=USUAL_DAYS, where=USUAL, past_only=True),
        "usual_cents": total("tx_cents", days=USUAL_DAYS, where=USUAL, past_only=True),
        **{f"unusual_{days}d": count(days=days, where=UNUSUAL, past_only=True) for days in UNUSUAL_WINDOWS},
        "first_unusual": first_time(days=max(UNUSUAL_WINDOWS), where=UNUSUAL, past_only=True),
        "last_unusual": last_time(days=max(UNUSUAL_WINDOWS), where=UNUSUAL, past_only=True),
    },
    columns={
        "CUSTOMER_ID_USUAL_NB_TX": pl.col("usual_n"),
        "CUSTOMER_ID_USUAL_AVG_AMOUNT": usual_mean / 100,
        "CUSTOMER_ID_AMOUNT_TO_USUAL_AVG": ratio(cents, usual_mean, otherwise=None),
        **{
            f"CUSTOMER_ID_UNUSUAL_NB_TX_{days}DAY_WINDOW": pl.col(f"unusual_{days}d")
            for days in UNUSUAL_WINDOWS
        },
        "CUSTOMER_ID_DAYS_SINCE_FIRST_UNUSUAL": days_since("first_unusual", "TX_DATETIME"),
        "CUSTOMER_ID_DAYS_SINCE_LAST_UNUSUAL": days_since("last_unusual", "TX_DATETIME"),
    },
)

terminal_risk = feature_set(
    "terminal_risk",
    description="What the reports that are known by now tell about the transaction's terminal.",
    rows=TRANSACTIONS,
    events=LABELLED_TRANSACTIONS,
    entity="TERMINAL_ID",
    time="TX_DATETIME",
    order="TRANSACTION_ID",
    event_time="REPORTED_AT",
    event_derive={"usual": USUAL_FOR_CARD & (pl.col("TX_AMOUNT") <= HIGH_AMOUNT)},
    aggregates={
        **{f"n_{days}d": count(days=days) for days in sorted({*WINDOWS, *USUAL_FRAUD_WINDOWS})},
        **{f"frauds_{days}d": count(days=days, where=FRAUD) for days in WINDOWS},
        **{f"usual_frauds_{days}d": count(days=days, where=USUAL_FRAUD) for days in USUAL_FRAUD_WINDOWS},
        "first_fraud": first_time(days=KNOWN_DAYS, where=USUAL_FRAUD),
        "last_fraud": last_time(days=KNOWN_DAYS, where=USUAL_FRAUD),
        "last_genuine": last_time(days=KNOWN_DAYS, where=GENUINE),
    },
    columns={
        **{f"TERMINAL_ID_NB_TX_{days}DAY_WINDOW": pl.col(f"n_{days}d") for days in WINDOWS},
        **{
            f"TERMINAL_ID_RISK_{days}DAY_WINDOW": ratio(
                pl.col(f"frauds_{days}d"), pl.col(f"n_{days}d"), otherwise=0.0
            )
            for days in WINDOWS
        },
        **{
            f"TERMINAL_ID_USUAL_FRAUDS_{days}DAY_WINDOW": pl.col(f"usual_frauds_{days}d")
            for days in USUAL_FRAUD_WINDOWS
        },
        **{
            f"TERMINAL_ID_USUAL_FRAUD_RATE_{days}DAY_WINDOW": ratio(
                pl.col(f"usual_frauds_{days}d"), pl.col(f"n_{days}d"), otherwise=0.0
            )
            for days in USUAL_FRAUD_WINDOWS
        },
        "TERMINAL_ID_DAYS_SINCE_FIRST_FRAUD": days_since("first_fraud", "TX_DATETIME"),
        "TERMINAL_ID_DAYS_SINCE_LAST_FRAUD": days_since("last_fraud", "TX_DATETIME"),
        "TERMINAL_ID_DAYS_SINCE_LAST_GENUINE": days_since("last_genuine", "TX_DATETIME"),
        "TERMINAL_ID_DAYS_FROM_GENUINE_TO_FRAUD": (pl.col("last_fraud") - pl.col("last_genuine"))
        / SECONDS_PER_DAY,
    },
)

FEATURE_SETS = (customer_spending, usual_spending, terminal_risk)
FEATURES = tuple(name for declared in FEATURE_SETS for name in declared.columns)
# The asset that each feature is a column of.
OF_FEATURES = {name: (declared.name, name) for declared in FEATURE_SETS for name in declared.columns}


def joined(spending: pl.LazyFrame, usual: pl.LazyFrame, risk: pl.LazyFrame) -> pl.LazyFrame:
    """All features of the transactions that have them: TRANSACTION_ID, TX_DATETIME, CUSTOMER_ID, FEATURES."""
    tables = pl.collect_all([spending, usual.drop("TX_DATETIME"), risk.drop("TX_DATETIME")])
    whole = tables[0]
    of_whole = whole.get_column("TRANSACTION_ID")
    distinct = not of_whole.null_count() and of_whole.sort().n_unique() == len(of_whole)
    for table in tables[1:]:
        # Feature sets of the same days have the same rows in the same order, unless one of them is behind.
        if distinct and table.get_column("TRANSACTION_ID").equals(of_whole):
            whole = whole.hstack(table.drop("TRANSACTION_ID").get_columns())
        else:
            whole, distinct = whole.join(table, on="TRANSACTION_ID", how="inner"), False
    return whole.lazy()
