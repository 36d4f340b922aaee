"""What Dagster loads: the assets of the domains that the settings name, on the home of the settings."""

import dagster as dg

from my_platform.incremental.declare import Grain
from my_platform.operations.assets import Place, build_assets, partitions_of
from my_platform.operations.home import commit_lock, data_span, open_heads, open_workspace, prepare_home
from my_platform.operations.jobs import refresh_job
from my_platform.operations.platform import Workspace
from my_platform.operations.sensors import grain_jobs, owed_sensor
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
    place = Place(commit_lock(settings), None if any_instance else settings.dagster_home)
    assets = build_assets(workspace, span, place)
    jobs, refresh = grain_jobs(workspace.project), refresh_job(workspace, place)
    sensor = owed_sensor(
        workspace,
        lambda instance: open_heads(settings, workspace, instance),
        jobs,
        refresh,
        {grain: partitions_of(grain, span) for grain in Grain},
        dagster_home=place.dagster_home,
        interval_s=settings.sensor_interval_s,
    )
    return dg.Definitions(
        assets=assets,
        sensors=[sensor],
        jobs=[refresh, *jobs.values()],
        executor=dg.in_process_executor,
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Called when Dagster loads the code location, so that importing this module touches no home."""
    return build_definitions(load_settings())
