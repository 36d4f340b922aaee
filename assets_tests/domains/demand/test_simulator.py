"""A simulation that is cut off leaves no day out when it goes on; what it lands is what the contract says."""

from datetime import date, datetime, timedelta
from pathlib import Path

import pandera.polars as pa
import polars as pl
import pytest

from my_platform.domains.demand.contracts import READINGS
from my_platform.domains.demand.simulator import append_days, land_days

FIRST = date(2026, 1, 1)


def stop(_: date) -> None:
    raise KeyboardInterrupt


def days(landing: Path) -> list[str]:
    return sorted(path.stem for path in (landing / "hours").iterdir())


def expected(number: int) -> list[str]:
    return [str(FIRST + timedelta(days=day)) for day in range(number)]


def test_days_that_were_not_appended_are_appended_by_the_next_call(tmp_path: Path) -> None:
    land_days(tmp_path, first=FIRST, days=2, meters=2, seed=1, closed=True)
    with pytest.raises(KeyboardInterrupt):
        append_days(tmp_path, 3, stop)
    append_days(tmp_path, 3)
    assert days(tmp_path) == expected(5)


def test_days_that_were_not_simulated_are_not_skipped_by_what_is_appended(tmp_path: Path) -> None:
    land_days(tmp_path, first=FIRST, days=2, meters=2, seed=1, closed=True)
    with pytest.raises(KeyboardInterrupt):
        land_days(tmp_path, first=FIRST, days=5, meters=2, seed=1, closed=True, on_day=stop)
    append_days(tmp_path, 1)
    assert days(tmp_path) == expected(3)


def test_a_reading_of_another_time_than_midnight_breaks_the_contract() -> None:
    at = datetime(2026, 1, 3)
    rows = pl.DataFrame({"HOUR_ID": [1], "READ_AT": [at], "WATT_HOURS": [5]}, schema=dict(READINGS.schema))
    READINGS.model.validate(rows, lazy=True)
    late = rows.with_columns(pl.col("READ_AT").dt.offset_by("1h"))
    with pytest.raises(pa.errors.SchemaErrors, match="at_midnight"):
        READINGS.model.validate(late, lazy=True)
