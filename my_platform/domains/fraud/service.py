"""Scoring card transactions as they happen: which rows, which features, and reasons in an analyst's words."""

from my_platform.domains.fraud import contracts
from my_platform.domains.fraud.features import (
    FEATURES,
    LABELLED_TRANSACTIONS,
    TO_PAST_AVG,
    UNUSUAL_WINDOWS,
    USUAL_FRAUD_WINDOWS,
    WINDOWS,
    customer_spending,
    terminal_risk,
    usual_spending,
)
from my_platform.domains.fraud.labels import labelled_transactions
from my_platform.domains.fraud.publishing import USE
from my_platform.features.online import OnlineFeatures, compile_online
from my_platform.serving.declaration import Cases, Labels, Service
from my_platform.settings import Settings


def services(settings: Settings) -> list[Service]:
    """The services of this domain: one, for the champion of its use."""
    return [
        Service(
            use=USE,
            contract=contracts.TRANSACTIONS,
            key="TRANSACTION_ID",
            time="TX_DATETIME",
            forms=online_forms,
            labels=Labels(
                LABELLED_TRANSACTIONS,
                contracts.FRAUD_REPORTS,
                {"TRANSACTION_ID": 1789001, "REPORTED_AT": "2018-08-15T09:30:00", "IS_FRAUD": True},
                landed="fraud_reports",
                known="REPORTED_AT",
            ),
            example={
                "TRANSACTION_ID": 1789001,
                "TX_DATETIME": "2018-08-08T12:34:56",
                "CUSTOMER_ID": 3156,
                "TERMINAL_ID": 1365,
                "TX_AMOUNT": 123.45,
            },
            words={name: _WORDS.get(name, name) for name in FEATURES},
            cases=Cases(entity="CUSTOMER_ID", confirmed={"IS_FRAUD": True}),
        )
    ]


def online_forms() -> tuple[OnlineFeatures, ...]:
    """The feature sets as a service computes them, each after those that it reads."""
    transaction = dict(contracts.TRANSACTIONS.schema)
    labelled = {name: column.type for name, column in labelled_transactions.columns.items()}
    spending = compile_online(customer_spending, transaction)
    return (
        spending,
        compile_online(usual_spending, spending.table_types),
        compile_online(terminal_risk, transaction, labelled),
    )


def _days(number: int) -> str:
    return "the day before" if number == 1 else f"the {number} days before"


_WORDS = {
    "TX_AMOUNT": "amount",
    "TX_DURING_WEEKEND": "paid at a weekend",
    "TX_DURING_NIGHT": "paid at night",
    **{f"CUSTOMER_ID_NB_TX_{n}DAY_WINDOW": f"payments of the card in {_days(n)}" for n in WINDOWS},
    **{f"CUSTOMER_ID_AVG_AMOUNT_{n}DAY_WINDOW": f"mean amount of the card in {_days(n)}" for n in WINDOWS},
    "CUSTOMER_ID_PAST_AVG_AMOUNT": "mean amount of the card before",
    "CUSTOMER_ID_PAST_SPREAD": "spread of the card's amounts before",
    "CUSTOMER_ID_AMOUNT_IN_PAST_SPREADS": "how many spreads the amount is above the card's mean",
    TO_PAST_AVG: "amount ÷ the card's mean amount before",
    "CUSTOMER_ID_AMOUNT_TO_PAST_MAX": "amount ÷ the card's highest amount before",
    "CUSTOMER_ID_RECENT_AVG_TO_PAST_AVG": "the card's mean amount of this week ÷ its mean before",
    "CUSTOMER_ID_RECENT_MAX_TO_PAST_AVG": "the card's highest amount of late ÷ its mean before",
    "CUSTOMER_ID_USUAL_NB_TX": "usual payments of the card before",
    "CUSTOMER_ID_USUAL_AVG_AMOUNT": "what the card usually pays",
    "CUSTOMER_ID_AMOUNT_TO_USUAL_AVG": "amount ÷ what the card usually pays",
    **{
        f"CUSTOMER_ID_UNUSUAL_NB_TX_{n}DAY_WINDOW": f"payments of the card far above its mean in {_days(n)}"
        for n in UNUSUAL_WINDOWS
    },
    "CUSTOMER_ID_DAYS_SINCE_FIRST_UNUSUAL": "days since the first of late that was far above the card's mean",
    "CUSTOMER_ID_DAYS_SINCE_LAST_UNUSUAL": "days since the last that was far above the card's mean",
    **{f"TERMINAL_ID_NB_TX_{n}DAY_WINDOW": f"reports on the terminal in {_days(n)}" for n in WINDOWS},
    **{f"TERMINAL_ID_RISK_{n}DAY_WINDOW": f"share of frauds at the terminal in {_days(n)}" for n in WINDOWS},
    **{
        f"TERMINAL_ID_USUAL_FRAUDS_{n}DAY_WINDOW": f"frauds of usual amounts at the terminal in {_days(n)}"
        for n in USUAL_FRAUD_WINDOWS
    },
    **{
        f"TERMINAL_ID_USUAL_FRAUD_RATE_{n}DAY_WINDOW": f"share of these at the terminal in {_days(n)}"
        for n in USUAL_FRAUD_WINDOWS
    },
    "TERMINAL_ID_DAYS_SINCE_FIRST_FRAUD": "days since the first known fraud at the terminal",
    "TERMINAL_ID_DAYS_SINCE_LAST_FRAUD": "days since the last known fraud at the terminal",
    "TERMINAL_ID_DAYS_SINCE_LAST_GENUINE": "days since the last genuine payment known at the terminal",
    "TERMINAL_ID_DAYS_FROM_GENUINE_TO_FRAUD": "days from the last genuine payment to the last fraud there",
}
