"""The ``refresh`` job: one run that computes what is owed, from the command line or the Dagster UI."""

import contextlib
import contextvars
from collections.abc import Mapping
from datetime import date

import dagster as dg
from pydantic import Field

from my_platform.errors import PlatformError
from my_platform.operations.assets import (
    Place,
    fail_on_problems,
    name_champion,
    open_for_run,
    retried,
    serve_analysts,
    tell_reasons,
)
from my_platform.operations.faults import MOST_TRIES, is_infrastructure, wait_before, was_waited_for
from my_platform.operations.orphans import end_own, this_process
from my_platform.operations.platform import Workspace
from my_platform.operations.quality_report import show_quality
from my_platform.operations.refresh import Order, bring_up_to_date, plan_as_it_is
from my_platform.operations.selection import allow

JOB = "refresh"
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_order: contextvars.ContextVar[Order | None] = contextvars.ContextVar("refresh_order", default=None)


class RefreshConfig(dg.Config):
    """What a refresh is limited to; by default it does all that is owed."""

    assets: list[str] = Field(default=[], description="only these assets; none for all")
    first: str = Field(default="", description="only partitions from this day on, YYYY-MM-DD")
    through: str = Field(default="", description="only partitions through this day, YYYY-MM-DD")
    retry: bool = Field(default=False, description="run again what was refused")


def refresh_job(workspace: Workspace, place: Place) -> dg.JobDefinition:
    """The job over a workspace."""

    @dg.op(name="compute_what_is_owed", description="Computes exactly the partitions that are owed.")
    def compute_what_is_owed(context: dg.OpExecutionContext, config: RefreshConfig) -> None:
        with retried(context):
            _compute(context, config, workspace, place)

    @dg.job(name=JOB, description="Brings everything up to date: computes exactly what is owed.")
    def refresh() -> None:
        compute_what_is_owed()

    return refresh


def _compute(
    context: dg.OpExecutionContext, config: RefreshConfig, workspace: Workspace, place: Place
) -> None:
    order = _order.get()
    heads = open_for_run(context, workspace, place)
    if order is None:
        if config.retry:
            workspace.lake.index.forget_refusals()
        allowed = allow(
            set(config.assets) or None,
            workspace.project,
            date.fromisoformat(config.first) if config.first else None,
            date.fromisoformat(config.through) if config.through else None,
        )
    else:
        allowed = order.allowed
    outcome = bring_up_to_date(
        workspace,
        heads,
        allowed,
        run_id=context.run_id,
        on_partition=order.on_partition if order else None,
        log=context.log.info,
    )
    tell_reasons(context, workspace, outcome)
    serve_analysts(context, workspace, heads, place)
    name_champion(context, workspace, heads, place, outcome)
    show_quality(workspace, heads, place.reports, outcome, lambda: plan_as_it_is(workspace, heads))
    if order is not None:
        order.outcome.add(outcome)
    fail_on_problems(outcome, waiting=False)


def launch_here(job: dg.JobDefinition, instance: dg.DagsterInstance, order: Order) -> None:
    """Execute the refresh job in this process.

    Raises:
        PlatformError: the run broke off for another reason than a partition that failed.
    """
    token = _order.set(order)
    try:
        result = executed(job, instance, {})
    finally:
        _order.reset(token)
    if not result.success and not order.outcome.failed:
        raise PlatformError(f"run {result.run_id} broke off: {why_broken_off(result)}")


def executed(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: Mapping[str, str]
) -> dg.ExecuteInProcessResult:
    """A run of a job in this process; where the event log did not answer, another one, a few times, later each time."""
    for attempt in range(1, MOST_TRIES):
        try:
            return _executed(job, instance, tags)
        except Exception as error:
            if not is_infrastructure(error) or was_waited_for(error):
                raise
            wait_before(attempt + 1)
            # Its own words, which it could not write then: nothing of it is under way any more.
            with contextlib.suppress(Exception):
                end_own(instance, f"the event log did not answer: {error}")
    return _executed(job, instance, tags)


def _executed(
    job: dg.JobDefinition, instance: dg.DagsterInstance, tags: Mapping[str, str]
) -> dg.ExecuteInProcessResult:
    return job.execute_in_process(
        instance=instance, run_config=_QUIET, raise_on_error=False, tags={**this_process(), **tags}
    )


def why_broken_off(result: dg.ExecuteInProcessResult) -> str:
    """What a failed run says of why it ended."""
    for event in result.all_events:
        if event.is_step_failure:
            told = event.step_failure_data.user_failure_data
            if told is not None and told.description:
                return str(told.description)
            if event.step_failure_data.error:
                return event.step_failure_data.error.to_string()
    return "see the run in the UI"
