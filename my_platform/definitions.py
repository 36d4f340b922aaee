"""What Dagster loads: the assets of the domains that the settings name, on the home of the settings."""

from dataclasses import replace

import dagster as dg

from my_platform.incremental.declare import Grain
from my_platform.operations.alerts.home import tell_alerts
from my_platform.operations.alerts.sensor import alert_sensor
from my_platform.operations.assets import build_assets
from my_platform.operations.audit.job import service_level_job, service_level_schedule
from my_platform.operations.fetching import fetch_for_a_tick, fetch_sensor
from my_platform.operations.home import (
    data_span,
    land_logs,
    load_logged,
    load_sources,
    open_heads,
    open_registry,
    open_workspace,
    place_of,
    prepare_home,
    retraining_lock,
)
from my_platform.operations.jobs import refresh_job
from my_platform.operations.log_sensor import log_sensor
from my_platform.operations.platform import Workspace
from my_platform.operations.retraining.decide import Asking, retrain, with_policies
from my_platform.operations.retraining.sensor import retrain_sensor
from my_platform.operations.sensors import grain_jobs, owed_sensor
from my_platform.operations.specs import partitions_of
from my_platform.settings import Settings, load_settings


def build_definitions(
    settings: Settings, workspace: Workspace | None = None, *, any_instance: bool = False
) -> dg.Definitions:
    """The Dagster definitions of a home.

    Args:
        workspace: the opened workspace, where there is one.
        any_instance: let runs happen on other Dagster instances than the home's own, as tests do.
    """
    prepare_home(settings)
    workspace = workspace or open_workspace(settings)
    span = data_span(settings, workspace)
    place = place_of(settings)
    if any_instance:
        place = replace(place, dagster_home=None)
    assets = build_assets(workspace, span, place)
    jobs, refresh = grain_jobs(workspace.project), refresh_job(workspace, place)
    owed = owed_sensor(
        workspace,
        lambda instance: open_heads(settings, workspace, instance),
        jobs,
        refresh,
        {grain: partitions_of(grain, span) for grain in Grain},
        dagster_home=place.dagster_home,
        interval_s=settings.sensor_interval_s,
        analysts_database=place.analysts_database,
    )
    # Into a bucket no log is landed, as `land-log` says.
    landed = load_logged(settings) and "://" not in settings.landing
    sensor = log_sensor(
        lambda: land_logs(settings),
        dagster_home=place.dagster_home,
        interval_s=settings.land_log_interval_s,
    )
    # Sensors may tick at the same moment: each looks at landing for itself.
    watched = replace(workspace)
    alerts = alert_sensor(
        lambda instance: tell_alerts(settings, watched, open_heads(settings, watched, instance)),
        dagster_home=place.dagster_home,
        interval_s=settings.alert_interval_s,
    )
    asking = fetch_sensor(
        lambda: fetch_for_a_tick(settings),
        dagster_home=place.dagster_home,
        interval_s=settings.fetch_interval_s,
    )
    deciding = retrain_sensor(
        lambda instance, seen: retrain(
            (asked := replace(workspace)),
            open_heads(settings, asked, instance),
            open_registry(settings),
            retraining_lock(settings),
            with_policies(asked),
            Asking(seen=seen),
        ),
        dagster_home=place.dagster_home,
        interval_s=settings.retrain_interval_s,
    )
    levels = service_level_job(settings, replace(workspace), place)
    return dg.Definitions(
        assets=assets,
        sensors=[
            owed,
            alerts,
            *([deciding] if with_policies(workspace) else []),
            *([sensor] if landed else []),
            *([asking] if load_sources(settings) else []),
        ],
        jobs=[refresh, levels, *jobs.values()],
        schedules=[service_level_schedule(levels)],
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Called when Dagster loads the code location, so that importing this module touches no home."""
    return build_definitions(load_settings())
