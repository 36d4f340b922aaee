"""The sensor that lands what the scoring service logged and was told, so that nobody has to ask for it."""

from collections.abc import Callable, Mapping
from pathlib import Path

import dagster as dg

from my_platform.operations.home_sensor import home_sensor
from my_platform.serving.label_landing import LandedLabels
from my_platform.serving.log_landing import LandedLog

LOG_SENSOR = "land_prediction_logs"


def log_sensor(
    land: Callable[[], Mapping[str, LandedLog | LandedLabels]], *, dagster_home: Path | None, interval_s: int
) -> dg.SensorDefinition:
    """A sensor that lands the finished days of the prediction logs, and requests no run.

    The days are files in landing then, as those of any source: the sensor that keeps the home up to date notices
    them. A day that has not changed since it landed is not written again.

    Args:
        land: lands the logs; what it did, by landed table. Where it raises PlatformError the tick fails.
        dagster_home: the only instance that is served; None for any.
    """

    def land_prediction_logs(context: dg.SensorEvaluationContext) -> str:
        landed = land()
        for table, done in landed.items():
            if isinstance(done, LandedLabels):
                for said in (*(each.said for each in done.differing), *done.problems):
                    context.log.warning(f"{table}: {said}")
        written = {table: done.written for table, done in landed.items() if done.written}
        told = [
            f"{table} {day}: {rows:,} rows" for table, days in written.items() for day, rows in days.items()
        ]
        return f"landed {', '.join(told)}" if told else "no finished day of a log has changed"

    return home_sensor(
        LOG_SENSOR,
        "Lands each day that the scoring service has logged, and the labels it was told, when the day is over.",
        land_prediction_logs,
        dagster_home=dagster_home,
        interval_s=interval_s,
    )
