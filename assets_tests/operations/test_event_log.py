"""The event log that keeps its connections open: the same files and the same answers as Dagster's own."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from my_platform.operations.event_log import (
    OpenSqliteEventLogStorage,
    about_materialization,
    evaluation_entry,
    store_evaluations,
)
from my_platform.operations.home import open_instance, prepare_home
from my_platform.settings import Settings

KEY = dg.AssetKey("orders")
VERSION = "dagster/data_version"
# Dagster's own storage, which has no public name.
PLAIN = OpenSqliteEventLogStorage.__mro__[1]


@dg.job(executor_def=dg.in_process_executor)
def three_days() -> None:
    @dg.op
    def record(context: dg.OpExecutionContext) -> None:
        for day in ("2018-04-01", "2018-04-02", "2018-04-03"):
            context.log_event(dg.AssetMaterialization(KEY, partition=day, tags={VERSION: f"v {day}"}))

    record()


EVALUATIONS = [
    dg.AssetCheckEvaluation(
        KEY,
        check,
        passed,
        {"rows": 3},
        about_materialization(7, "run", 1.0),
        dg.AssetCheckSeverity.WARN,
        partition=partition,
    )
    for check, passed in (("complete", True), ("unique", False))
    for partition in (None, "2018-04-01", "2018-04-02")
]


@dg.job(executor_def=dg.in_process_executor)
def one_by_one() -> None:
    @dg.op
    def record(context: dg.OpExecutionContext) -> None:
        for evaluation in EVALUATIONS:
            context.log_event(evaluation)

    record()


@dg.job(executor_def=dg.in_process_executor)
def together() -> None:
    @dg.op
    def record(context: dg.OpExecutionContext) -> None:
        step = context.run_id, context.job_name, str(context.op_handle)
        for _ in range(2):
            store_evaluations(
                context.instance.event_log_storage,
                [evaluation_entry(evaluation, *step) for evaluation in EVALUATIONS],
            )

    record()


@pytest.fixture
def instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    settings = Settings(home=tmp_path)
    prepare_home(settings)
    monkeypatch.setenv("DAGSTER_HOME", str(settings.dagster_home))
    with open_instance(settings) as opened:
        yield opened


def heads(storage: Any) -> dict[str, str]:
    found = storage.get_latest_tags_by_partition(KEY, dg.DagsterEventType.ASSET_MATERIALIZATION, [VERSION])
    return {day: tags[VERSION] for day, tags in found.items()}


def test_a_home_has_the_open_event_log(instance: dg.DagsterInstance) -> None:
    assert type(instance.event_log_storage) is OpenSqliteEventLogStorage


def test_events_of_a_run_are_read_back_by_dagsters_own_storage(instance: dg.DagsterInstance) -> None:
    run = three_days.execute_in_process(instance=instance)

    plain = PLAIN(str(Path(os.environ["DAGSTER_HOME"], "history", "runs")))
    assert heads(plain) == {day: f"v {day}" for day in ("2018-04-01", "2018-04-02", "2018-04-03")}
    kinds = [
        event.dagster_event_type for event in plain.get_logs_for_run(run.run_id) if event.is_dagster_event
    ]
    assert kinds.count(dg.DagsterEventType.ASSET_MATERIALIZATION) == 3
    assert kinds[-1] is dg.DagsterEventType.RUN_SUCCESS


def test_it_reads_what_dagsters_own_storage_wrote(instance: dg.DagsterInstance) -> None:
    heads(instance.event_log_storage)
    Path(os.environ["DAGSTER_HOME"], "dagster.yaml").write_text("telemetry: {enabled: false}")
    with dg.DagsterInstance.get() as plain:
        assert type(plain.event_log_storage) is not OpenSqliteEventLogStorage
        three_days.execute_in_process(instance=plain)

    assert len(heads(instance.event_log_storage)) == 3


def test_whoever_watches_a_run_hears_of_each_event(instance: dg.DagsterInstance) -> None:
    run_id = dg.DagsterRun(job_name="three_days").run_id
    heard = threading.Event()
    with dg.DagsterInstance.get() as elsewhere:
        instance.event_log_storage.get_logs_for_run(run_id)
        elsewhere.event_log_storage.get_logs_for_run(run_id)
        elsewhere.watch_event_logs(run_id, None, lambda event, cursor: heard.set())

        instance.report_engine_event("begun", job_name="three_days", run_id=run_id)

        assert heard.wait(timeout=20)


def executions(instance: dg.DagsterInstance, job: dg.JobDefinition) -> list[dict[str, object]]:
    """What is kept of the check evaluations of a run of a job, which are those above."""
    run = job.execute_in_process(instance=instance)
    with instance.event_log_storage.index_connection() as connection:  # type: ignore[attr-defined]
        rows = connection.execute(
            sa.text("select * from asset_check_executions where run_id = :run order by id"),
            {"run": run.run_id},
        )
        found = [dict(row._mapping) for row in rows]
    said = [
        event.dagster_event.event_specific_data
        for event in instance.all_logs(run.run_id, dg.DagsterEventType.ASSET_CHECK_EVALUATION)
        if event.dagster_event
    ]
    assert said[: len(EVALUATIONS)] == EVALUATIONS
    kept = ("asset_key", "check_name", "partition", "execution_status", "materialization_event_storage_id")
    return [{name: row[name] for name in kept} for row in found]


def test_check_evaluations_that_are_written_together_are_those_that_dagster_writes(
    instance: dg.DagsterInstance,
) -> None:
    assert executions(instance, together) == executions(instance, one_by_one)
    records = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(KEY, "unique"), limit=1
    )
    assert [record.status.value for record in records] == ["FAILED"]


def test_the_events_of_a_deleted_run_are_gone(instance: dg.DagsterInstance) -> None:
    run = three_days.execute_in_process(instance=instance)

    instance.delete_run(run.run_id)

    assert instance.event_log_storage.get_logs_for_run(run.run_id) == []


def test_a_wiped_log_starts_again(instance: dg.DagsterInstance) -> None:
    three_days.execute_in_process(instance=instance)

    instance.event_log_storage.wipe()

    assert heads(instance.event_log_storage) == {}
    three_days.execute_in_process(instance=instance)
    assert len(heads(instance.event_log_storage)) == 3


def test_only_the_latest_runs_stay_open(instance: dg.DagsterInstance) -> None:
    for _ in range(6):
        three_days.execute_in_process(instance=instance)

    open_files = {os.path.basename(os.readlink(f"/proc/self/fd/{n}")) for n in _descriptors()}
    databases = {name for name in open_files if name.endswith(".db")}
    assert "index.db" in databases
    runs = {record.dagster_run.run_id for record in instance.get_run_records()}
    assert len(databases & {f"{run}.db" for run in runs}) == 3


def _descriptors() -> list[str]:
    return [n for n in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{n}")]
