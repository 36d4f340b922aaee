"""The sensor that looks for alerts and sends them, so that nobody has to ask."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from my_platform.operations.alerts.telling import Told
from my_platform.operations.home_sensor import home_sensor

ALERT_SENSOR = "alerts"


def alert_sensor(
    tell: Callable[[dg.DagsterInstance], Told], *, dagster_home: Path | None, interval_s: int
) -> dg.SensorDefinition:
    """A sensor that says what somebody has to know, and requests no run.

    Args:
        tell: looks once, and sends what there is to say.
        dagster_home: the only instance that is served; None for any.
    """

    def alerts(context: dg.SensorEvaluationContext) -> str:
        told = tell(context.instance)
        for receiver, why in told.failed.items():
            context.log.warning(f"{receiver} does not have all alerts yet: {why}")
        return (
            f"{len(told.open)} alerts last, {len(told.notices)} were new, {told.waiting} wait for a receiver"
        )

    return home_sensor(
        ALERT_SENSOR,
        "Sends alerts: failed runs and checks, refused and missing days, drift, budgets, promotions.",
        alerts,
        dagster_home=dagster_home,
        interval_s=interval_s,
    )
