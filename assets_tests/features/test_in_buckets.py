"""Features of days that do not fit into memory are those that are computed at once."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings

from assets_tests.features.test_offline import (
    SCHEMA,
    START,
    assert_identical,
    declare,
    of_days,
    other_sets,
    own_sets,
    tables,
)
from my_platform.errors import MemoryLimitError
from my_platform.features.assets import compute_days, feature_asset
from my_platform.features.declaration import FeatureSet, count
from my_platform.features.in_buckets import compute_in_buckets
from my_platform.incremental.declare import Asset, Batch, Column, Grain, Produced
from my_platform.incremental.memory import Memory

DAYS = [
    f"2024-0{2 if number < 3 else 3}-{27 + number if number < 3 else number - 2:02d}" for number in range(7)
]


class Days:
    """A batch over tables in files: its window is all days up to the row's own."""

    asset = "tested"

    def __init__(
        self, folder: Path, given: Mapping[str, pl.DataFrame], memory: Memory, keys: Sequence[str]
    ) -> None:
        self.keys, self.memory = keys, memory
        self._files: dict[str, dict[str, str]] = {name: {} for name in given}
        self._tables: dict[str, dict[str, pl.DataFrame]] = {name: {} for name in given}
        for name, table in given.items():
            for number, day in enumerate(DAYS):
                self._tables[name][day] = of_days(table, number, number)
                self._files[name][day] = str(folder / f"{name}-{day}.parquet")
                self._tables[name][day].write_parquet(self._files[name][day])

    def _window(self, read: str, key: str) -> list[str]:
        return [key] if read == "rows" else [day for day in DAYS if day <= key]

    def inputs(self, read: str, key: str) -> dict[str, pl.DataFrame]:
        return {day: self._tables[read][day] for day in self._window(read, key)}

    def files(self, read: str, key: str) -> dict[str, str]:
        return {day: self._files[read][day] for day in self._window(read, key)}

    def versions(self, read: str, key: str) -> dict[str, str]:
        return dict.fromkeys(self._window(read, key), "v")

    def row_counts(self, read: str, key: str) -> dict[str, int]:
        return {day: table.height for day, table in self.inputs(read, key).items()}

    def types(self, read: str) -> dict[str, pl.DataType]:
        return dict(SCHEMA)

    def empty(self, read: str) -> pl.DataFrame:
        return SCHEMA.to_frame()


def batch(
    folder: Path, rows: pl.DataFrame, events: pl.DataFrame, limit: int | None, keys: Sequence[str]
) -> Batch:
    days = Days(folder, {"rows": rows, "events": events}, Memory(limit, folder / "spill"), keys)
    return cast("Batch", days)


def whole(made: Produced) -> pl.DataFrame:
    return made.table if made.parts is None else pl.concat(list(made.parts.frames()))


@pytest.mark.parametrize("limit", [20_000, 500_000])
@given(own_sets() | other_sets(), tables(), tables())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_buckets_give_the_features_that_are_computed_at_once(
    limit: int,
    tmp_path_factory: pytest.TempPathFactory,
    tested: FeatureSet,
    rows: pl.DataFrame,
    others: pl.DataFrame,
) -> None:
    folder = tmp_path_factory.mktemp("days")
    given = batch(folder, rows, rows if tested.own_events else others, limit, DAYS)
    expected = compute_days(tested, given, DAYS)
    found = {key: whole(made) for key, made in compute_in_buckets(tested, given, DAYS)}
    assert list(found) == DAYS
    for key in DAYS:
        assert_identical(found[key], expected[key])
    assert not any((folder / "spill").rglob("*.arrow"))


def many_rows(entities: int) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "entity": [n % entities for n in range(2_000)],
            "at": [START.replace(hour=n // 360, minute=n // 6 % 60) for n in range(2_000)],
            "number": range(2_000),
            "value": [n % 7 for n in range(2_000)],
            "flag": [True] * 2_000,
            "word": ["a"] * 2_000,
        },
        schema=SCHEMA,
    )


def assets_of(rows: pl.DataFrame) -> Asset:
    columns = {name: Column(kind) for name, kind in rows.schema.items()}
    return Asset("rows", Grain.DAY, {}, lambda batch: (), (), columns=columns)


def test_days_that_fit_are_computed_in_memory_and_others_in_parts(tmp_path: Path) -> None:
    rows = many_rows(500)
    source = assets_of(rows)
    asset = feature_asset(declare("rows", [count(days=2)]), rows=source, events=source)
    told, tables = {}, {}
    for limit in (None, 100_000_000, 600_000):
        found = dict(asset.compute(batch(tmp_path, rows, rows, limit, DAYS[:1])))
        made = found[DAYS[0]]
        assert isinstance(made, Produced)
        told[limit], tables[limit] = made.metadata["computed"], whole(made)
    assert told[None] == told[100_000_000] == "in memory"
    assert told[600_000].endswith("parts by entity, 1 days together")
    assert_identical(tables[None], tables[600_000])


def test_a_day_too_large_for_the_room_to_sort_it_comes_in_parts(tmp_path: Path) -> None:
    rows = many_rows(500)
    tested = declare("rows", [count(days=2)])
    given = batch(tmp_path, rows, rows, 117_000, DAYS[:1])
    for key, made in compute_in_buckets(tested, given, DAYS[:1]):
        assert made.parts is not None
        assert len(made.parts.files) > 1
        assert_identical(whole(made), compute_days(tested, given, DAYS[:1])[key])


def test_one_entity_that_does_not_fit_is_told_with_what_would_do(tmp_path: Path) -> None:
    rows = many_rows(1)
    given = batch(tmp_path, rows, rows, 600_000, DAYS[:1])
    with pytest.raises(
        MemoryLimitError,
        match=r"tested 2024-02-27 needs about .*MB, as some entity has so many .*"
        r"Set MY_PLATFORM_MEMORY_LIMIT to .*MB or more",
    ):
        list(compute_in_buckets(declare("rows", [count(days=2)]), given, DAYS[:1]))
    assert not any((tmp_path / "spill").rglob("*.arrow"))
