"""Functions whose inputs are taken apart: the rows, the judgement and the refusals of a table with plenty of memory."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from my_platform.errors import MemoryLimitError, Refused
from my_platform.incremental.bucketed import Apart
from my_platform.incremental.checks import CheckResult, Judgement
from my_platform.incremental.declare import Asset, Grain, Produced, same, table
from my_platform.incremental.memory import Memory

KEYS = ("2025-01-01", "2025-01-02", "2025-01-03")
UNJUST = "2025-01-02"
LITTLE = 20_000


class Days:
    """Orders and prices of some days, which lie in files."""

    asset = "paid"
    keys: Sequence[str] = KEYS

    def __init__(self, folder: Path, limit: int | None, rows: int) -> None:
        self.memory = Memory(limit, folder / "spill")
        self.tables: dict[tuple[str, str], pl.DataFrame] = {}
        self.paths: dict[tuple[str, str], Path] = {}
        for number, key in enumerate(KEYS):
            ids = range(number * rows, (number + 1) * rows)
            self._store(
                folder, "orders", key, pl.DataFrame({"id": ids, "at": [i * 7919 % rows for i in ids]})
            )
            self._store(folder, "prices", key, pl.DataFrame({"id": ids, "cents": [i * 31 % 97 for i in ids]}))

    def _store(self, folder: Path, read: str, key: str, frame: pl.DataFrame) -> None:
        self.tables[read, key], self.paths[read, key] = frame, folder / f"{read} {key}.parquet"
        frame.write_parquet(self.paths[read, key])

    def inputs(self, read: str, key: str) -> Mapping[str, pl.DataFrame]:
        return {key: self.tables[read, key]}

    def files(self, read: str, key: str) -> Mapping[str, str]:
        return {key: str(self.paths[read, key])}

    def row_counts(self, read: str, key: str) -> Mapping[str, int]:
        return {key: self.tables[read, key].height}

    def types(self, read: str) -> Mapping[str, Any]:
        return dict(self.tables[read, KEYS[0]].schema)


def paid(seen: list[str], apart: Apart | None) -> Asset:
    """Orders with their prices, the rows of one day of which are refused."""

    def judged(rows: pl.LazyFrame, partition: str, parameters: Mapping[str, Any]) -> Judgement:
        seen.append(rows.explain())
        total = rows.select(pl.col("cents").sum()).collect(engine="streaming").item()
        result = CheckResult("total", partition != UNJUST, {"cents": total})
        if partition == UNJUST:
            raise Refused(f"{total} cents", [result])
        return Judgement([result], {"first": str(rows.head(1).collect().rows()), **parameters})

    @table(
        "paid",
        grain=Grain.DAY,
        reads={"orders": same("orders"), "prices": same("prices")},
        parameters={"shop": 1},
        apart=apart,
        judge=judged,
    )
    def joined(orders: pl.LazyFrame, prices: pl.LazyFrame) -> Produced:
        rows = orders.join(prices, on="id").sort("at", "id").collect()
        return Produced(rows, metadata={"rows": rows.height})

    return joined


BY_ID = Apart({"orders": "id", "prices": "id"}, ("at", "id"))


def computed(
    folder: Path, limit: int | None, seen: list[str], apart: Apart = BY_ID, rows: int = 500
) -> dict[str, Any]:
    """What came out by day: rows, checks and metadata, or why there are none."""
    batch: Any = Days(folder, limit, rows)
    found: dict[str, Any] = {}
    for key, made in paid(seen, apart).compute(batch):
        # What lies in files is gone when the next one is asked for.
        found[key] = (
            (made.scan().collect(), [check.as_json() for check in made.checks], dict(made.metadata))
            if isinstance(made, Produced)
            else made
        )
    return found


def test_what_is_judged_in_files_is_what_is_judged_in_memory(folder: Path) -> None:
    whole: list[str] = []
    parts: list[str] = []
    expected, found = computed(folder, None, whole), computed(folder, LITTLE, parts)
    assert list(found) == list(expected) == list(KEYS)
    for key in set(KEYS) - {UNJUST}:
        rows, checks, metadata = found[key]
        assert_frame_equal(rows, expected[key][0])
        assert checks == expected[key][1] == [{**checks[0], "check": "total", "passed": True}]
        assert metadata.pop("computed").endswith(" parts by id")
        assert metadata == expected[key][2]
        assert metadata["rows"] == 500
    assert all("Ipc SCAN" in plan for plan in parts)
    assert not any("Ipc SCAN" in plan for plan in whole)


def test_what_is_refused_in_files_is_refused_as_in_memory_and_judged_once(folder: Path) -> None:
    seen: list[str] = []
    expected, found = computed(folder, None, [])[UNJUST], computed(folder, LITTLE, seen)[UNJUST]
    assert isinstance(found, Refused)
    assert str(found) == str(expected)
    assert [check.as_json() for check in found.checks] == [check.as_json() for check in expected.checks]
    assert len(seen) == len(KEYS)


def test_what_does_not_fit_in_parts_either_is_told_by_name(folder: Path) -> None:
    found = computed(folder, 20, [], rows=20)
    for key in KEYS:
        assert isinstance(found[key], MemoryLimitError)
        assert f"paid {key} needs about" in str(found[key])
        assert " parts of it by id is that large; the limit of" in str(found[key])
        assert "Set MY_PLATFORM_MEMORY_LIMIT to" in str(found[key])


def test_what_is_given_whole_has_to_fit(folder: Path) -> None:
    found = computed(folder, LITTLE, [], Apart({"orders": "id"}, ("at", "id")))
    assert all("for what it is given whole" in str(found[key]) for key in KEYS)


def test_who_judges_counts_in_the_code() -> None:
    def judged(rows: pl.LazyFrame, partition: str, parameters: Mapping[str, Any]) -> Judgement:
        return Judgement()

    @table("paid", reads={"orders": same("orders")}, judge=judged)
    def made(orders: pl.LazyFrame) -> pl.LazyFrame:
        return orders

    assert judged in made.code


@pytest.mark.parametrize("limit", [None, LITTLE])
def test_nothing_is_left_of_what_was_taken_apart(folder: Path, limit: int | None) -> None:
    computed(folder, limit, [])
    assert not list((folder / "spill").rglob("*.arrow"))
