"""The job and the daily schedule that write the page of service levels, so that it is found in the Dagster UI."""

import time
from typing import Any

import dagster as dg
from pydantic import Field

from my_platform.operations.assets import Place, open_for_run, retried
from my_platform.operations.audit.home import audit, write_page
from my_platform.operations.platform import Workspace
from my_platform.settings import Settings

JOB = "service_levels"
SCHEDULE = "service_levels_each_morning"
_CRON = "0 6 * * *"


class ServiceLevelConfig(dg.Config):
    """What the page tells of."""

    days: int = Field(
        default=30, ge=1, le=3_650, description="days before now that service levels are told of"
    )


def service_level_job(settings: Settings, workspace: Workspace, place: Place) -> dg.JobDefinition:
    """The job over a home. It computes no partition; its run links the page that it wrote."""

    @dg.op(
        name="write_service_levels",
        description="Writes the page of service levels and of where time goes; the output links it.",
    )
    def write_service_levels(context: dg.OpExecutionContext, config: ServiceLevelConfig) -> dg.Output[None]:
        with retried(context):
            found = audit(
                settings, workspace, open_for_run(context, workspace, place), time.time(), config.days
            )
            path = write_page(settings.reports, found)
        about = {"page": dg.MetadataValue.path(str(path)), "page_url": dg.MetadataValue.url(path.as_uri())}
        return dg.Output(None, metadata={**about, **_counts(found)})

    @dg.job(
        name=JOB,
        description="Shows how well is kept what was promised, where time goes and what to do about it.",
    )
    def service_levels() -> None:
        write_service_levels()

    return service_levels


def _counts(found: dict[str, Any]) -> dict[str, Any]:
    """What the UI shows of an audit beside the link."""
    levels = found["service_levels"]
    missed = [f"{level['name']} of {level['about']}" for level in levels if level["met"] is False]
    return {
        "met": sum(level["met"] is True for level in levels),
        "missed": len(missed),
        **(
            {"missed_levels": dg.MetadataValue.md("\n".join(f"- {each}" for each in missed))}
            if missed
            else {}
        ),
        "findings": len(found["findings"]),
    }


def service_level_schedule(job: dg.JobDefinition) -> dg.ScheduleDefinition:
    """The page anew each morning, for whoever switches it on."""
    return dg.ScheduleDefinition(
        name=SCHEDULE,
        job=job,
        cron_schedule=_CRON,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Writes the page of service levels each day at 6 UTC; off until it is switched on.",
    )
