"""The sensor that looks for alerts and sends them, so that nobody has to ask."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from my_platform.operations.alerts.telling import Told
from my_platform.operations.heads import wrong_instance

ALERT_SENSOR = "alerts"


def alert_sensor(
    tell: Callable[[dg.DagsterInstance], Told], *, dagster_home: Path | None, interval_s: int
) -> dg.SensorDefinition:
    """A sensor that says what somebody has to know, and requests no run.

    Args:
        tell: looks once, and sends what there is to say.
        dagster_home: the only instance that is served; None for any.
    """

    @dg.sensor(
        name=ALERT_SENSOR,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Sends alerts: failed runs and checks, refused and missing days, drift, budgets, promotions.",
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        reason = wrong_instance(context.instance, dagster_home)
        if reason is not None:
            return dg.SkipReason(reason)
        told = tell(context.instance)
        for receiver, why in told.failed.items():
            context.log.warning(f"{receiver} does not have all alerts yet: {why}")
        return dg.SkipReason(
            f"{len(told.open)} alerts last, {len(told.notices)} were new, {told.waiting} wait for a receiver"
        )

    return alerts
