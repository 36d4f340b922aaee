"""The sensor that asks the retraining policies, so that nobody has to."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dagster as dg

from my_platform.operations.home_sensor import home_sensor
from my_platform.operations.retraining.decide import Asked

RETRAIN_SENSOR = "retrain_by_policy"


def retrain_sensor(
    ask: Callable[[dg.DagsterInstance, Mapping[str, str]], Sequence[Asked]],
    *,
    dagster_home: Path | None,
    interval_s: int,
) -> dg.SensorDefinition:
    """A sensor that decides which weeks are fitted, and requests no run.

    A week that is decided is owed then, as anything else is: the sensor that keeps the home up to date has it fitted.
    Where nothing has changed since the last tick no policy is asked.

    Args:
        ask: asks the policies, given the marks of what was seen last by model.
        dagster_home: the only instance that is served; None for any.
    """

    def retrain_by_policy(context: dg.SensorEvaluationContext) -> str:
        asked = ask(context.instance, _seen(context.cursor))
        marks = json.dumps({each.model: each.mark for each in asked}, sort_keys=True)
        # A decision changes what the mark is made of: the next tick asks once more, and finds it decided.
        if marks != context.cursor:
            context.update_cursor(marks)
        for each in asked:
            if each.written:
                context.log.info(each.said)
        return "; ".join(each.said for each in asked) or "no model has a retraining policy"

    return home_sensor(
        RETRAIN_SENSOR,
        "Decides by the retraining policies which weeks of which models are fitted, and why.",
        retrain_by_policy,
        dagster_home=dagster_home,
        interval_s=interval_s,
    )


def _seen(cursor: str | None) -> Mapping[str, str]:
    try:
        seen = json.loads(cursor or "{}")
    except ValueError:
        return {}
    return seen if isinstance(seen, dict) else {}
