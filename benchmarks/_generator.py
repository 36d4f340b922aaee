"""What somebody who knows how the Handbook's data were generated can tell from the past: a reference, no model.

Cards and terminals each have a hidden state, the days for which they stay compromised. It is filtered forward by
day (a hidden Markov model): by labels once they are known, seven days after the transaction, and for cards by
amounts before that. The share of a card's transactions that are fraud when it is compromised, its mean amount and
its rate are not known to anybody; they are inferred from its own past.

Source of the process: Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi, 2022), chapter 2.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import poisson

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

CERTAIN_AMOUNT = 220
CARD_DAYS, CARDS_A_DAY = 14, 3
TERMINAL_DAYS, TERMINALS_A_DAY = 28, 2
FACTOR = 5
DELAY_DAYS = 7
_MEANS = np.linspace(5, 100, 96)
_LEAST = 1e-12
_IMPOSSIBLE = -50.0


@dataclass(frozen=True)
class Log:
    """Transactions by (time, id), as arrays of a row each; days are counted from the first one.

    `start` holds the number of the first row of each day, and after the last the number of rows.
    """

    day: Rows
    second: Rows
    card: Rows
    terminal: Rows
    amount: Floats
    fraud: NDArray[np.bool_]
    start: Rows

    @classmethod
    def of(cls, transactions: pl.DataFrame) -> "Log":
        """Of TX_DATETIME, CUSTOMER_ID, TERMINAL_ID, TX_AMOUNT, TX_FRAUD, already in order."""
        time = pl.col("TX_DATETIME")
        columns = transactions.select(
            day=(time.dt.date() - time.dt.date().min()).dt.total_days(),
            second=time.dt.epoch("s") % 86_400,
            card=pl.col("CUSTOMER_ID").cast(pl.Int64),
            terminal=pl.col("TERMINAL_ID").cast(pl.Int64),
            amount=pl.col("TX_AMOUNT").cast(pl.Float64),
            fraud=pl.col("TX_FRAUD").cast(pl.Boolean),
        )
        arrays: dict[str, Any] = {name: columns[name].to_numpy() for name in columns.columns}
        days = int(arrays["day"].max()) + 1
        return cls(**arrays, start=np.searchsorted(arrays["day"], np.arange(days + 1)))

    @property
    def days(self) -> int:
        return len(self.start) - 1

    def of_day(self, day: int) -> Rows:
        return np.arange(self.start[day], self.start[day + 1])


@dataclass(frozen=True)
class Evidence:
    """Log-likelihood of each row where its entity is free, and where it is compromised."""

    free: Floats
    compromised: Floats


def reference(log: Log, parts: int, fine_from: int) -> Floats:
    """The probability of fraud of each row, from what was known at its time.

    Args:
        parts: of a day, at whose beginnings newly known labels are taken up.
        fine_from: the first day for which that is done; before it, labels are taken up once a day.
    """
    usual, raised = _densities(log)
    share = _share_of_frauds(log)
    certain = log.amount > CERTAIN_AMOUNT
    of_terminal = np.full(len(log.day), TERMINALS_A_DAY * TERMINAL_DAYS / (log.terminal.max() + 1))
    # What one filter finds explains some frauds away for the other.
    for first in (log.days, fine_from):
        mixed = (1 - share) * usual + share * raised
        unlabelled = Evidence(_log(usual), _log(mixed))
        labelled = Evidence(
            np.where(certain, _log(usual), _log(usual * np.where(log.fraud, of_terminal, 1 - of_terminal))),
            np.where(
                certain,
                _log(mixed),
                np.where(
                    log.fraud,
                    _log(share * raised + (1 - share) * usual * of_terminal),
                    _log((1 - share) * usual * (1 - of_terminal)),
                ),
            ),
        )
        compromised = _filtered(
            log, log.card, _Chain(CARD_DAYS, CARDS_A_DAY), labelled, unlabelled, parts, first
        )
        free = (1 - compromised) * usual
        of_card = compromised * share * raised / (free + compromised * mixed + _LEAST)
        otherwise = of_card.clip(1e-6, 1 - 1e-6)
        labels = Evidence(
            np.where(certain, 0.0, np.where(log.fraud, np.log(otherwise), np.log(1 - otherwise))),
            np.where(certain | log.fraud, 0.0, _IMPOSSIBLE),
        )
        chain = _Chain(TERMINAL_DAYS, TERMINALS_A_DAY)
        of_terminal = _filtered(log, log.terminal, chain, labels, None, parts, first).clip(1e-6, 1 - 1e-6)
    return np.where(certain, 1.0, 1 - (1 - of_terminal) * (1 - of_card))


@dataclass(frozen=True)
class _Chain:
    """Each day so many entities become compromised, for so many days."""

    days: int
    entities_a_day: int

    def step(self, states: Floats) -> Floats:
        """A day later. `states` are probabilities, entities × (free, days left 1, 2 …)."""
        rate = self.entities_a_day / len(states)
        moved = np.zeros_like(states)
        moved[:, 0] = states[:, 0] + states[:, 1]
        moved[:, 1:-1] = states[:, 2:]
        moved *= 1 - rate
        moved[:, -1] += rate
        return moved


def _filtered(
    log: Log,
    entity: Rows,
    chain: _Chain,
    labelled: Evidence,
    unlabelled: Evidence | None,
    parts: int,
    fine_from: int,
) -> Floats:
    """For each row the probability that its entity is compromised, given what was known just before it."""
    known = np.zeros((int(entity.max()) + 1, chain.days + 1))
    known[:, 0] = 1.0
    found = np.zeros(len(entity))
    for day in range(log.days):
        if day > DELAY_DAYS:
            known = _updated(chain.step(known), entity, log.of_day(day - DELAY_DAYS - 1), labelled)
        cuts = parts if day >= fine_from else 1
        for cut in range(cuts):
            begin, end = 86_400 * cut / cuts, 86_400 * (cut + 1) / cuts
            states = known
            for earlier in range(max(0, day - DELAY_DAYS), day):
                states, rows = chain.step(states), log.of_day(earlier)
                told = (log.second[rows] < begin) & (earlier == day - DELAY_DAYS)
                states = _updated(states, entity, rows[told], labelled)
                if unlabelled is not None:
                    states = _updated(states, entity, rows[~told], unlabelled)
            of_day = log.of_day(day)
            now = of_day[(log.second[of_day] >= begin) & (log.second[of_day] < end)]
            share = chain.step(states)[:, 1:].sum(1).clip(_LEAST, 1 - _LEAST)[entity[now]]
            odds = np.log(share) - np.log1p(-share)
            if unlabelled is not None:
                told_today = _before(entity[of_day], (unlabelled.compromised - unlabelled.free)[of_day])
                odds += told_today[now - of_day[0]]
            found[now] = 1 / (1 + np.exp(-odds))
    return found


def _updated(states: Floats, entity: Rows, rows: Rows, evidence: Evidence) -> Floats:
    """The states after the evidence of some rows of one day."""
    if not len(rows):
        return states
    seen, position = np.unique(entity[rows], return_inverse=True)
    free, compromised = (np.bincount(position, each[rows]) for each in (evidence.free, evidence.compromised))
    largest = np.maximum(free, compromised)
    likely = states[seen]
    likely[:, 0] *= np.exp(free - largest)
    likely[:, 1:] *= np.exp(compromised - largest)[:, None]
    states = states.copy()
    states[seen] = likely / likely.sum(1, keepdims=True)
    return states


def _before(entity: Rows, values: Floats) -> Floats:
    """For each row the sum of the values of its entity's earlier rows."""
    order = np.argsort(entity, kind="stable")
    sorted_, sums = entity[order], np.cumsum(values[order]) - values[order]
    first = np.flatnonzero(np.r_[True, sorted_[1:] != sorted_[:-1]])
    found = np.empty(len(values))
    found[order] = sums - np.repeat(sums[first], np.diff(np.r_[first, len(sorted_)]))
    return found


def _densities(log: Log) -> tuple[Floats, Floats]:
    """Of each amount, as one of its card's and as one that was multiplied; the card's mean inferred by labels."""
    usual, raised = np.zeros(len(log.day)), np.zeros(len(log.day))
    likelihood = np.zeros((int(log.card.max()) + 1, len(_MEANS)))
    for day in range(log.days):
        if day > DELAY_DAYS:
            rows = log.of_day(day - DELAY_DAYS - 1)
            rows = rows[~log.fraud[rows]]
            np.add.at(likelihood, log.card[rows], _log(_density(log.amount[rows])))
        weights = np.exp(likelihood - likelihood.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        rows = log.of_day(day)
        of_card = weights[log.card[rows]]
        usual[rows] = (of_card * _density(log.amount[rows])).sum(1)
        raised[rows] = (of_card * _density(log.amount[rows] / FACTOR)).sum(1) / FACTOR
    return usual, raised


def _density(amounts: Floats) -> Floats:
    """Rows × means: a normal with half the mean as deviation; what is negative is drawn from U(0, 2 means)."""
    deviation = _MEANS / 2
    scores = (amounts[:, None] - _MEANS) / deviation
    normal = np.exp(-0.5 * scores * scores) / (deviation * np.sqrt(2 * np.pi))
    return normal + ndtr(-2.0) * (amounts[:, None] <= 2 * _MEANS) / (2 * _MEANS)


def _share_of_frauds(log: Log) -> Floats:
    """Of a compromised card's n transactions ⌊n/3⌋ are fraud: for each row the share to expect by its rate."""
    counts = np.zeros((int(log.card.max()) + 1, log.days + 1))
    np.add.at(counts, (log.card, log.day + 1), 1)
    rate = ((counts.cumsum(1)[log.card, log.day] + 0.5) / (log.day + 1.0)).clip(0.02, 4)
    rates, numbers = np.linspace(0.02, 4, 400), np.arange(120)
    shares = [(poisson.pmf(numbers, CARD_DAYS * r) * (numbers // 3)).sum() / (CARD_DAYS * r) for r in rates]
    return np.interp(rate, rates, shares)


def _log(values: Floats) -> Floats:
    return np.log(values + _LEAST)


def in_order(files: Sequence[Any]) -> pl.DataFrame:
    """The Handbook's files as one table by (time, id)."""
    columns = ["TRANSACTION_ID", "TX_DATETIME", "CUSTOMER_ID", "TERMINAL_ID", "TX_AMOUNT", "TX_FRAUD"]
    return pl.concat(pl.read_parquet(file, columns=columns) for file in files).sort(
        "TX_DATETIME", "TRANSACTION_ID"
    )
