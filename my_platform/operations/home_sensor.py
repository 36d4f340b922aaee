"""What the sensors have in common that look after a home and request no run."""

from collections.abc import Callable
from pathlib import Path

import dagster as dg

from my_platform.operations.heads import wrong_instance


def home_sensor(
    name: str,
    description: str,
    look: Callable[[dg.SensorEvaluationContext], str],
    *,
    dagster_home: Path | None,
    interval_s: int,
) -> dg.SensorDefinition:
    """A sensor whose ticks do something to a home and say what, on the instance of that home alone.

    Args:
        look: does it; what came of it, in words. Where it raises the tick fails.
        dagster_home: the only instance that is served; None for any.
    """

    @dg.sensor(
        name=name,
        minimum_interval_seconds=interval_s,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=description,
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        return dg.SkipReason(wrong_instance(context.instance, dagster_home) or look(context))

    return tick
