"""A mart as an asset: a day's rows, and how it answered the mart's tests."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from my_platform.incremental.checks import CheckResult
from my_platform.incremental.content import data_version
from my_platform.incremental.declare import Asset, Batch, Produced
from my_platform.incremental.memory import Memory, resident_bytes
from my_platform.incremental.parts import version_of_parts
from my_platform.marts.assets import mart_assets
from my_platform.marts.errors import MartTestFailed


class Given:
    """Days of a mart, and the files that they read."""

    memory = Memory()

    def __init__(self, asset: Asset, files: Mapping[str, Mapping[str, Any]], keys: Sequence[str]) -> None:
        self.asset, self.given, self.keys = asset, files, keys

    def row_counts(self, read: str, key: str) -> dict[str, int]:
        return {}

    def types(self, read: str) -> dict[str, Any]:
        return {}

    def files(self, read: str, key: str) -> dict[str, str]:
        days = sorted(self.given[read])
        at, window = days.index(key), self.asset.reads[read]
        return {
            day: str(self.given[read][day]) for day in days[max(at + window.first, 0) : at + window.last + 1]
        }


@pytest.fixture
def marts(project: Any) -> dict[str, Asset]:
    found = mart_assets(project.folder, project.target, tuple(project.marts().values()))
    return {asset.name.removeprefix("marts/"): asset for asset in found}


def made(asset: Asset, files: Any, keys: Sequence[str]) -> dict[str, Produced | Exception]:
    return dict(asset.compute(cast("Batch", Given(asset, files, keys))))


def test_a_day_that_breaks_a_test_is_told_apart_from_the_good_ones(
    marts: dict[str, Asset], files: Any, days: list[str]
) -> None:
    """Three days hold enough cards, the first two days of all do not."""
    found = made(marts["cards_in_window"], files, days[1:4])

    bad = found[days[1]]
    assert isinstance(bad, MartTestFailed)
    (answer,) = bad.checks
    assert (answer.passed, answer.metadata, answer.severity) == (False, {"failing_rows": 1}, None)
    for day in days[2:4]:
        good = found[day]
        assert isinstance(good, Produced)
        assert good.table.height == 1
        assert good.checks == (CheckResult(answer.check, True),)


def test_a_warning_is_told_of_the_days_that_it_names(project: Any, days: list[str]) -> None:
    from my_platform.marts.manifest import MartTest
    from my_platform.marts.runner import TestResult, check_results

    test = MartTest("test.x", "few", "cards", "warn")
    results = [TestResult(test, "warn", 3, {days[1]: 3}), TestResult(test, "pass", 0, {})]

    assert [answer.passed for answer in check_results(results, days[0])] == [True, True]
    warned = check_results(results, days[1])[0]
    assert (warned.passed, warned.severity, warned.metadata) == (False, "warn", {"failing_rows": 3})


def test_marts_that_do_not_fit_are_read_back_in_parts_with_the_same_rows(
    marts: dict[str, Asset], files: Any, days: list[str], tmp_path: Path
) -> None:
    """DuckDB has the memory that it needs here, and what is read back next to none."""
    limit = resident_bytes() + 1_000_000_000
    found: dict[int | None, dict[str, str]] = {}
    for memory in (Memory(), Memory(limit, tmp_path / "spill", limit - 10)):
        batch = Given(marts["cards_in_window"], files, days[2:4])
        batch.memory = memory
        found[memory.limit_bytes] = {}
        for key, value in marts["cards_in_window"].compute(cast("Batch", batch)):
            assert isinstance(value, Produced), value
            assert (value.parts is None) == (memory.limit_bytes is None)
            version = data_version(value.table) if value.parts is None else version_of_parts(value.parts)
            found[memory.limit_bytes][key] = version
    assert found[None] == found[limit]
    assert list(found[limit]) == days[2:4]
