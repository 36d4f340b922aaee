"""What a row takes with its features: looked up in an online state as a service has it, then scored."""

import tempfile
import time
from collections.abc import Callable, Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from my_platform.features.online import OnlineFeatures
from my_platform.learning.budgets import WithFeatures
from my_platform.learning.contender import Contender
from my_platform.operations.weekly_tests import WeeklyTests
from my_platform.serving.sqlite_store import SqliteStore
from my_platform.serving.state import OnlineState, ValidatedDay, online_columns

_DAYS = 14
_ROWS = 200
_ROUNDS = 3


def measure_with_features(
    weekly: WeeklyTests,
    contender: Contender,
    score: Callable[[NDArray[np.float64]], Any],
) -> WithFeatures | None:
    """What rows of the last day take one by one, from a row's columns to its score; the best of three rounds.

    The state holds what the last two weeks say of these rows' entities: windows are found by bisection, so that more
    events hardly cost more. None where the model is not served online, or no day is there.

    Args:
        score: takes one row of the model's features.

    Raises:
        DamagedObject: a stored value is not whole.
    """
    if contender.online is None:
        return None
    forms = contender.online()
    with tempfile.TemporaryDirectory() as folder:
        store = SqliteStore(Path(folder) / "state.sqlite")
        try:
            state = OnlineState(forms, store)
            days = sorted(weekly.current(state.table))[-_DAYS:]
            if not days:
                return None
            rows = _rows(weekly, state.table, days[-1])
            _take_in(weekly, state, forms, rows)
            return _timed(contender, state, online_columns(rows, forms[0].row_types).to_dicts(), score)
        finally:
            store.close()


def _rows(weekly: WeeklyTests, table: str, day: str) -> pl.DataFrame:
    rows = weekly.lake.read(table, day, weekly.current(table)[day])
    return rows.gather_every(max(1, rows.height // _ROWS)).head(_ROWS)


def _take_in(
    weekly: WeeklyTests, state: OnlineState, forms: tuple[OnlineFeatures, ...], rows: pl.DataFrame
) -> None:
    """The events of the rows' entities."""
    entities: dict[str, dict[str, pl.Series]] = {}
    for form in forms:
        declared = form.feature_set
        entities.setdefault(declared.events, {})[declared.entity] = rows[declared.entity].unique()
    for table, own in entities.items():
        versions: Mapping[str, str] = weekly.current(table)
        wanted = pl.any_horizontal(pl.col(name).is_in(values.implode()) for name, values in own.items())
        state.bootstrap(
            table,
            [
                ValidatedDay(day, versions[day], weekly.lake.read(table, day, versions[day]).filter(wanted))
                for day in sorted(versions)[-_DAYS:]
            ],
        )


def _timed(
    contender: Contender,
    state: OnlineState,
    rows: list[dict[str, Any]],
    score: Callable[[NDArray[np.float64]], Any],
) -> WithFeatures:
    places = {name: place for place, name in enumerate(state.features)}
    pick = itemgetter(*(places[name] for name in contender.columns.features))
    rounds = []
    # In the first one the entities are read into memory.
    for _ in range(_ROUNDS + 1):
        seconds = []
        for row in rows:
            started = time.perf_counter()
            score(np.array([pick(state.answer(row).values)], dtype=np.float64))
            seconds.append(time.perf_counter() - started)
        rounds.append(sorted(seconds))
    return WithFeatures(
        p99_ms=min(seconds[int(0.99 * len(seconds)) - 1] for seconds in rounds[1:]) * 1000,
        rows_per_s=len(rows) / min(sum(seconds) for seconds in rounds[1:]),
    )
