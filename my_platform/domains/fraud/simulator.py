"""The embedded source: card transactions and late fraud labels, drawn by seed and day.

The process is that of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi, 2022,
chapter 3), as if its calendar never ended: a fraud that begins on the last landed day reaches into days
that are drawn but not landed yet, so landing N days and then M more gives the bytes of landing N + M.
Numbers of compromised terminals and customers are those of FRAUD_BEFORE_DRIFT at every size of population,
hence small populations see a larger share of fraud than the 0.83 % (0.80 to 0.86 by seed) of 5000 customers
and 10000 terminals.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from my_platform.domains.fraud.landing_files import (
    LABEL_DELAY,
    REPORT_SCHEMA,
    TRANSACTION_SCHEMA,
    LandingSummary,
    SourceError,
    calendar_path,
    customers_path,
    extend_calendar,
    json_date,
    read_calendar,
    read_json,
    read_table,
    reports_path,
    scenarios_of,
    scenarios_path,
    simulator_path,
    terminals_path,
    transaction_reports,
    transactions_path,
    write_json,
    write_table,
)

_REACH = 5.0
_SECONDS_A_DAY = 86_400
_LARGE_AMOUNT_CENTS = 22_000
_CARD_DAYS = 14
_LABEL_DELAY_DAYS = LABEL_DELAY.days
_LAND_ANEW = "remove the landing and simulate again"

_Ints = npt.NDArray[np.int64]
_Floats = npt.NDArray[np.float64]


class _Stream(IntEnum):
    """What a random stream is for; streams of one seed are independent of each other."""

    CUSTOMERS = 1
    TERMINALS = 2
    TRANSACTIONS = 3
    TERMINAL_FRAUD = 4
    CARD_FRAUD = 5
    CORRECTION = 6
    LATE_LABELS = 7


@dataclass(frozen=True)
class FraudPattern:
    """How fraud begins on a day: how many terminals for how long, how many cards, and what thieves pay.

    A stolen card pays a third of its purchases of 14 days at `amount_times` / `amount_over` of the amount.
    """

    terminals: int
    terminal_days: int
    cards: int
    amount_times: int
    amount_over: int


FRAUD_BEFORE_DRIFT = FraudPattern(terminals=2, terminal_days=28, cards=3, amount_times=5, amount_over=1)
# Terminals fall faster and are found sooner, and more cards are stolen and tested with small purchases:
# large amounts and long terminal histories stop telling, about twice as many transactions are fraud.
FRAUD_AFTER_DRIFT = FraudPattern(terminals=8, terminal_days=7, cards=12, amount_times=1, amount_over=5)
_LONGEST_TERMINAL_DAYS = max(FRAUD_BEFORE_DRIFT.terminal_days, FRAUD_AFTER_DRIFT.terminal_days)


@dataclass(frozen=True)
class SimulatorConfig:
    """The population, the seed, and the day from which frauds begin as FRAUD_AFTER_DRIFT has it."""

    customers: int = 5000
    terminals: int = 10_000
    seed: int = 0
    drift_from: date | None = None

    def __post_init__(self) -> None:
        for field, least in (("customers", 1), ("terminals", 1), ("seed", 0)):
            if getattr(self, field) < least:
                raise SourceError(
                    f"simulator {field}: expected at least {least}, found {getattr(self, field)}"
                )


@dataclass(frozen=True)
class Correction:
    """A transaction whose landed amount (currency units) was changed."""

    transaction_id: int
    amount_before: float
    amount_after: float


@dataclass(frozen=True)
class _Landed:
    """What simulator.json says: the simulation, its first day, and the days and transactions landed."""

    config: SimulatorConfig
    first: date
    days: int
    rows: int


@dataclass(frozen=True)
class _Population:
    """Profiles, and each customer's terminals as a slice of one array."""

    customers: pl.DataFrame
    terminals: pl.DataFrame
    mean_amount: _Floats
    transactions_a_day: _Floats
    reachable: _Ints
    reachable_from: _Ints
    reachable_count: _Ints


@dataclass(frozen=True)
class _Day:
    """The transactions of a day in order of time; `cents` and `scenario` change until the day is complete.

    A `scenario` of 0 is no fraud.
    """

    second: _Ints
    customer: _Ints
    terminal: _Ints
    cents: _Ints
    scenario: _Ints


def land_simulation(
    landing: Path,
    *,
    first: date,
    days: int,
    config: SimulatorConfig,
    closed: bool,
    scenarios: bool = False,
    on_day: Callable[[date], None] | None = None,
) -> LandingSummary:
    """Land the simulated days first … first + days - 1, the reports due by then, profiles and calendar.

    With `scenarios` the kind of each reported fraud as well.

    Landing the same simulation again writes the same bytes (and takes back corrections); more days continue
    it. `drift_from` may be set or moved as long as no landed day feels it. `closed` gives the calendar its
    last day. Raises SourceError where the landing holds imported data or another simulation.
    """
    _require_at_least_one("days", days)
    landed = replace(_compatible_state(landing, first, config), config=config)
    _write_state(landing, landed)
    population = _population(config)
    write_table(population.customers, customers_path(landing))
    write_table(population.terminals, terminals_path(landing))
    summary = _land_days(landing, _Landed(config, first, 0, 0), days, population, on_day, scenarios)
    if days > landed.days:
        _write_state(landing, replace(landed, days=days, rows=summary.rows))
    extend_calendar(landing, first, first + timedelta(days=days - 1) if closed else None)
    return replace(summary, files=summary.files + 2)


def append_days(
    landing: Path, days: int, on_day: Callable[[date], None] | None = None, *, drift_from: date | None = None
) -> LandingSummary:
    """Land the next days of the simulation in `landing`, and the reports that fall due on them.

    The kinds of frauds are landed where those of earlier days were.
    `drift_from`, a day not landed yet, sets or moves the drift. Raises SourceError where there is no complete
    simulation, or the drift would change landed days.
    """
    _require_at_least_one("days", days)
    landed = _read_state(landing)
    calendar = read_calendar(landing)
    if landed is None or landed.days == 0 or calendar is None:
        raise SourceError(f"{landing} holds no complete simulation to append to; simulate some days first")
    if drift_from is not None:
        landed = replace(landed, config=replace(landed.config, drift_from=drift_from))
        _compatible_state(landing, landed.first, landed.config)
    scenarios = scenarios_path(landing, landed.first).parent.is_dir()
    summary = _land_days(landing, landed, days, _population(landed.config), on_day, scenarios)
    landed = replace(landed, days=landed.days + days, rows=landed.rows + summary.rows)
    _write_state(landing, landed)
    last = None if calendar.last is None else landed.first + timedelta(days=landed.days - 1)
    extend_calendar(landing, landed.first, last)
    return summary


def land_correction(landing: Path, day: date, seed: int = 0) -> Correction:
    """Land the transactions of `day` again with one amount, chosen by `seed`, a few cents higher.

    Raises SourceError where the day is not landed or has no rows.
    """
    path = transactions_path(landing, day)
    frame = read_table(path, TRANSACTION_SCHEMA)
    if frame.is_empty():
        raise SourceError(f"{path} has no transaction to correct; choose another day")
    draw = _generator(seed, _Stream.CORRECTION, day.toordinal())
    row, more_cents = int(draw.integers(frame.height)), int(draw.integers(1, 10))
    amounts = frame["TX_AMOUNT"].to_numpy().copy()
    before = float(amounts[row])
    amounts[row] = after = (round(before * 100) + more_cents) / 100
    write_table(frame.with_columns(pl.Series("TX_AMOUNT", amounts)), path)
    return Correction(frame["TRANSACTION_ID"][row], before, after)


def land_late_labels(
    landing: Path, day: date, share: float, *, delay_days: int = 1, seed: int = 0
) -> tuple[int, ...]:
    """Move a share of the reports of `day`, at least one, to `delay_days` later: time and file.

    Returns the TRANSACTION_IDs that moved. The later day must be landed, for a file that is still to come
    would replace what was moved into it. Raises SourceError where it is not, or nothing can be moved.
    """
    if not 0 < share <= 1:
        raise SourceError(f"late labels: expected a share above 0 and at most 1, found {share}")
    _require_at_least_one("delay_days", delay_days)
    path, later_path = (reports_path(landing, day), reports_path(landing, day + timedelta(days=delay_days)))
    reports, later = (read_table(path, REPORT_SCHEMA), read_table(later_path, REPORT_SCHEMA))
    if reports.is_empty():
        raise SourceError(f"{path} has no report to move; choose another day")
    draw = _generator(seed, _Stream.LATE_LABELS, day.toordinal())
    rows = draw.choice(reports.height, size=max(1, round(share * reports.height)), replace=False)
    moved = reports[np.sort(rows)].with_columns(pl.col("REPORTED_AT") + timedelta(days=delay_days))
    # First the file that gains rows: what is cut short leaves labels twice, and once when repeated.
    gained = pl.concat([later.join(moved, on="TRANSACTION_ID", how="anti", maintain_order="left"), moved])
    write_table(gained.sort("REPORTED_AT", "TRANSACTION_ID"), later_path)
    write_table(reports.join(moved, on="TRANSACTION_ID", how="anti", maintain_order="left"), path)
    return tuple(moved["TRANSACTION_ID"])


def _land_days(
    landing: Path,
    landed: _Landed,
    days: int,
    population: _Population,
    on_day: Callable[[date], None] | None,
    scenarios: bool,
) -> LandingSummary:
    """Land `days` days after those landed, drawing again the days whose labels fall due."""
    start, end = landed.days, landed.days + days
    begin = max(0, start - _LABEL_DELAY_DAYS)
    config = landed.config
    next_id = landed.rows - sum(
        _drawn_day(population, config, landed.first, index).second.size for index in range(begin, start)
    )
    unreported: deque[tuple[pl.DataFrame, pl.DataFrame]] = deque()
    rows = frauds = files = 0
    for index, drawn in enumerate(_complete_days(population, config, landed.first, begin, end), begin):
        today = landed.first + timedelta(days=index)
        transactions = _transactions(drawn, today, next_id)
        next_id += transactions.height
        scenario = pl.Series(drawn.scenario)
        reports = transaction_reports(
            transactions["TRANSACTION_ID"], transactions["TX_DATETIME"], scenario > 0
        )
        unreported.append((reports, scenarios_of(reports, scenario)))
        if index < start:
            continue
        write_table(transactions, transactions_path(landing, today))
        files += 1
        if index >= _LABEL_DELAY_DAYS:
            reports, kinds = unreported.popleft()
            write_table(reports, reports_path(landing, today))
            if scenarios:
                write_table(kinds, scenarios_path(landing, today))
            files += 1 + scenarios
        rows += transactions.height
        frauds += int(np.count_nonzero(drawn.scenario))
        if on_day is not None:
            on_day(today)
    return LandingSummary(rows, frauds, days, files)


def _transactions(drawn: _Day, today: date, first_id: int) -> pl.DataFrame:
    """A complete day as it is landed (TRANSACTION_SCHEMA); ids count from `first_id`."""
    seconds = (today - date(1970, 1, 1)).days * _SECONDS_A_DAY + drawn.second
    columns = {
        "TRANSACTION_ID": np.arange(first_id, first_id + seconds.size, dtype=np.int64),
        "TX_DATETIME": (seconds * 1_000_000).view("datetime64[us]"),
        "CUSTOMER_ID": drawn.customer,
        "TERMINAL_ID": drawn.terminal,
        "TX_AMOUNT": drawn.cents / 100,
    }
    return pl.DataFrame(columns, schema=TRANSACTION_SCHEMA)


def _complete_days(
    population: _Population, config: SimulatorConfig, first: date, begin: int, end: int
) -> Iterator[_Day]:
    """The days begin … end - 1, each once no stolen card can change it any more.

    Cards stolen up to _CARD_DAYS - 1 days before `begin` still matter, so the draw starts there.
    """
    opening = max(0, begin - _CARD_DAYS + 1)
    ahead: deque[_Day] = deque()
    for index in range(opening, end + _CARD_DAYS - 1):
        ahead.append(_drawn_day(population, config, first, index))
        if len(ahead) == _CARD_DAYS:
            stolen_on = index - _CARD_DAYS + 1
            _steal_cards(ahead, population, config, first, stolen_on)
            complete = ahead.popleft()
            if stolen_on >= begin:
                yield complete


def _drawn_day(population: _Population, config: SimulatorConfig, first: date, index: int) -> _Day:
    """The transactions of the day `index` after `first`, with the frauds of scenarios 1 and 2."""
    draw = _generator(config.seed, _Stream.TRANSACTIONS, index)
    customer = np.repeat(
        np.arange(config.customers, dtype=np.int64), draw.poisson(population.transactions_a_day)
    )
    second = np.trunc(draw.normal(43_200, 20_000, customer.size)).astype(np.int64)
    mean = population.mean_amount[customer]
    amount = draw.normal(mean, mean / 2)
    amount = np.where(amount < 0, draw.uniform(0, 2 * mean), amount)
    choice = (draw.random(customer.size) * population.reachable_count[customer]).astype(np.int64)
    terminal = population.reachable[population.reachable_from[customer] + choice]

    order = np.argsort(second, kind="stable")
    order = order[(second[order] > 0) & (second[order] < _SECONDS_A_DAY)]
    cents = np.rint(amount * 100).astype(np.int64)[order]
    terminal = terminal[order]
    scenario = (cents > _LARGE_AMOUNT_CENTS).astype(np.int64)
    scenario[_fallen_terminals(config, first, index)[terminal]] = 2
    return _Day(second[order], customer[order], terminal, cents, scenario)


def _fallen_terminals(config: SimulatorConfig, first: date, index: int) -> npt.NDArray[np.bool_]:
    """Which terminals are compromised on a day (scenario 2)."""
    fallen = np.zeros(config.terminals, dtype=np.bool_)
    for since in range(max(0, index - _LONGEST_TERMINAL_DAYS + 1), index + 1):
        pattern = _pattern(config, first, since)
        if index < since + pattern.terminal_days:
            draw = _generator(config.seed, _Stream.TERMINAL_FRAUD, since)
            size = min(pattern.terminals, config.terminals)
            fallen[draw.choice(config.terminals, size=size, replace=False)] = True
    return fallen


def _steal_cards(
    ahead: deque[_Day], population: _Population, config: SimulatorConfig, first: date, index: int
) -> None:
    """Scenario 3: change the amounts of the cards stolen on the day `index`, the first of those `ahead`."""
    pattern = _pattern(config, first, index)
    draw = _generator(config.seed, _Stream.CARD_FRAUD, index)
    size = min(pattern.cards, config.customers)
    for customer in draw.choice(config.customers, size=size, replace=False):
        bought = [(day, row) for day in ahead for row in np.flatnonzero(day.customer == customer)]
        for number in draw.choice(len(bought), size=len(bought) // 3, replace=False) if bought else ():
            day, row = bought[number]
            day.cents[row] = day.cents[row] * pattern.amount_times // pattern.amount_over
            day.scenario[row] = 3


def _pattern(config: SimulatorConfig, first: date, index: int) -> FraudPattern:
    drifted = config.drift_from is not None and first + timedelta(days=index) >= config.drift_from
    return FRAUD_AFTER_DRIFT if drifted else FRAUD_BEFORE_DRIFT


def _population(config: SimulatorConfig) -> _Population:
    """Draw the profiles.

    The transactions a day are U(0, 4) for each customer but drawn stratified, one customer from each of equal
    parts of (0, 4), so that the number of rows hardly depends on the seed.
    """
    draw = _generator(config.seed, _Stream.CUSTOMERS)
    x, y = draw.uniform(0, 100, (2, config.customers))
    mean_amount = draw.uniform(5, 100, config.customers)
    rank = draw.permutation(config.customers)
    rate = (rank + draw.random(config.customers)) * 4 / config.customers
    terminal_x, terminal_y = _generator(config.seed, _Stream.TERMINALS).uniform(0, 100, (2, config.terminals))

    by_x = np.argsort(terminal_x, kind="stable")
    left = np.searchsorted(terminal_x[by_x], x - _REACH, side="left")
    right = np.searchsorted(terminal_x[by_x], x + _REACH, side="right")
    reachable = []
    for customer in range(config.customers):
        near = by_x[left[customer] : right[customer]]
        distance = np.hypot(terminal_x[near] - x[customer], terminal_y[near] - y[customer])
        reachable.append(near[distance < _REACH])
    count = np.array([terminals.size for terminals in reachable], dtype=np.int64)
    customers = {
        "CUSTOMER_ID": np.arange(config.customers, dtype=np.int64),
        "X": x,
        "Y": y,
        "MEAN_AMOUNT": mean_amount,
        "STD_AMOUNT": mean_amount / 2,
        "MEAN_TX_PER_DAY": rate,
    }
    terminal_ids = np.arange(config.terminals, dtype=np.int64)
    return _Population(
        customers=pl.DataFrame(customers),
        terminals=pl.DataFrame({"TERMINAL_ID": terminal_ids, "X": terminal_x, "Y": terminal_y}),
        mean_amount=mean_amount,
        transactions_a_day=np.where(count > 0, rate, 0.0),
        reachable=np.concatenate(reachable).astype(np.int64),
        reachable_from=np.cumsum(count) - count,
        reachable_count=count,
    )


def _generator(seed: int, stream: _Stream, day: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream, day))))


def _require_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise SourceError(f"{name}: expected at least 1, found {value}")


def _compatible_state(landing: Path, first: date, config: SimulatorConfig) -> _Landed:
    """What is landed of this very simulation, nothing of it included; refuses any other content."""
    landed = _read_state(landing)
    if landed is None:
        if calendar_path(landing).exists() or any(landing.glob("transactions/*.parquet")):
            raise SourceError(
                f"{landing} holds data that the simulator did not land, expected an empty landing; "
                f"simulate into another home"
            )
        return _Landed(config, first, days=0, rows=0)
    end = landed.first + timedelta(days=landed.days)
    if (landed.first, _felt_before(landed.config, end)) != (first, _felt_before(config, end)):
        raise SourceError(
            f"{landing} holds the simulation {landed.config} from {landed.first} to before {end}, found a "
            f"request for {config} from {first}; ask for the same one or simulate into another home"
        )
    return landed


def _felt_before(config: SimulatorConfig, end: date) -> SimulatorConfig:
    """The config without a drift that no day before `end` feels."""
    drift_to_come = config.drift_from is not None and config.drift_from >= end
    return replace(config, drift_from=None) if drift_to_come else config


def _read_state(landing: Path) -> _Landed | None:
    path = simulator_path(landing)
    if not path.exists():
        return None
    value = read_json(path)
    numbers: dict[str, int] = {}
    for field in ("customers", "terminals", "seed", "days", "rows"):
        found = value.get(field)
        if type(found) is not int or found < 0:
            raise SourceError(
                f"{path} is damaged: expected {field} to be a count, found {found!r}; {_LAND_ANEW}"
            )
        numbers[field] = found
    first = json_date(value, "first", path)
    if first is None:
        raise SourceError(f"{path} is damaged: expected first to be a day, found null; {_LAND_ANEW}")
    days, rows = numbers.pop("days"), numbers.pop("rows")
    config = SimulatorConfig(**numbers, drift_from=json_date(value, "drift_from", path))
    return _Landed(config, first, days, rows)


def _write_state(landing: Path, landed: _Landed) -> None:
    drift = landed.config.drift_from
    value: dict[str, Any] = asdict(landed.config) | {
        "drift_from": None if drift is None else drift.isoformat(),
        "first": landed.first.isoformat(),
        "days": landed.days,
        "rows": landed.rows,
    }
    write_json(value, simulator_path(landing))
