"""What can be wrong with a mart, by what helps against it."""

from collections.abc import Sequence
from dataclasses import dataclass

from my_platform.errors import PlatformError, Refused
from my_platform.incremental.checks import CheckResult


class MartError(PlatformError):
    """The dbt project, or what was asked of it, cannot be used as it is."""


class MartRefused(Refused):
    """dbt or DuckDB rejected the SQL of a mart on these inputs."""

    def __init__(self, mart: str, message: str) -> None:
        super().__init__(f"mart {mart}: {message}. Correct the model, or the data that it reads.")
        self.mart = mart


@dataclass(frozen=True)
class FailedTest:
    """A test of error severity that found rows.

    Attributes:
        mart: the mart that was tested.
        test: name of the test in dbt.
        rows: number of failing rows.
        days: the days they lie on; all days of the run where the test does not return ``partition_day``.
    """

    mart: str
    test: str
    rows: int
    days: tuple[str, ...]


class MartTestFailed(Refused):
    """A mart broke its own tests; no table of the run is given out.

    The days that no test names are good: run them again without the others. Where a test names every day of
    a run, run the days one by one.

    Args:
        checks: how the days answered all tests, where the run was of one mart on one day.
    """

    def __init__(self, failures: Sequence[FailedTest], checks: Sequence[CheckResult] = ()) -> None:
        self.failures = tuple(failures)
        self.days = tuple(sorted({day for failure in failures for day in failure.days}))
        lines = [
            f"mart {f.mart}: test {f.test} found {f.rows} failing rows, days {_span(f.days)}"
            for f in failures
        ]
        super().__init__(
            "; ".join(lines) + ". Correct the model, its test, or the data that it reads.", checks
        )


def _span(days: Sequence[str]) -> str:
    return ", ".join(days) if len(days) <= 3 else f"{days[0]} … {days[-1]} ({len(days)} of them)"
