"""Landing sample files: by day where their rows have a time, else whole."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from pathlib import Path

import polars as pl

from my_platform.errors import PlatformError
from my_platform.scaffold.samples import Sample
from my_platform.storage.landing_files import extend_calendar, write_table


def land_samples(landing: Path, samples: Sequence[Sample], times: Mapping[str, str | None]) -> dict[str, int]:
    """Land samples as Parquet, a day without rows as a file without rows; the days of each, 0 for one that has none.

    Raises:
        PlatformError: something of such a table has landed before, or no sample has a time.
    """
    for sample in samples:
        for there in (landing / sample.name, landing / f"{sample.name}.parquet"):
            if there.exists():
                raise PlatformError(
                    f"{there} has landed before; choose another home, or rename {sample.path}"
                )
    found, days = {}, []
    for sample in samples:
        time = times[sample.name]
        if time is None:
            write_table(sample.rows, landing / f"{sample.name}.parquet")
            found[sample.name] = 0
            continue
        by_day = sample.rows.with_columns(pl.col(time).dt.date().alias("its day")).partition_by(
            "its day", as_dict=True, include_key=False, maintain_order=True
        )
        own = _every_day([day for (day,) in by_day])
        for day in own:
            write_table(by_day.get((day,), sample.rows.clear()), landing / sample.name / f"{day}.parquet")
        found[sample.name] = len(own)
        days += own
    extend_calendar(landing, min(days), max(days))
    return found


def _every_day(days: Sequence[date]) -> list[date]:
    first, last = min(days), max(days)
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]
