"""Checks of the Dagster instance: whether it opens, whether its tables fit, what runs, and whether a daemon does."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from my_platform.errors import HomeError
from my_platform.operations.doctor.findings import Told, ok, problem, warning
from my_platform.operations.home import open_instance
from my_platform.operations.orphans import orphans
from my_platform.operations.ui import is_served
from my_platform.settings import Settings

_MOST_SILENCE_S = 180
_RESTART = "end `my-platform ui` and start it again"
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING]


def instance(settings: Settings) -> Iterator[Told]:
    """Whether the instance opens, with tables that this version of Dagster reads."""
    with _opened(settings) as opened:
        for name, storage in (
            ("event log", opened.event_log_storage),
            ("runs", opened.run_storage),
            ("schedules", opened.schedule_storage),
        ):
            has, wanted = (storage.alembic_version() if storage is not None else None) or (None, None)
            if wanted is not None and has != wanted:
                yield problem(
                    f"the tables of Dagster's {name} have revision {has}, and this version expects {wanted}",
                    f"make a backup, then run `DAGSTER_HOME={settings.dagster_home} dagster instance migrate`",
                )
            else:
                yield ok(f"Dagster's {name} opens, revision {has or 'unnamed'}")


def dagster_home(settings: Settings) -> Iterator[Told]:
    """Whether DAGSTER_HOME, where it is set, means this home."""
    named = os.environ.get("DAGSTER_HOME")
    if named and Path(named).resolve() != settings.dagster_home.resolve():
        yield warning(
            f"DAGSTER_HOME is {named}, and what is current stands in {settings.dagster_home}",
            f"commands of my-platform go to the home whatever it says; before you call `dagster` yourself, "
            f"set DAGSTER_HOME={settings.dagster_home}",
        )
    else:
        yield ok(f"DAGSTER_HOME {'is this home' if named else 'is not set; my-platform sets it'}")


def runs(settings: Settings) -> Iterator[Told]:
    """Runs that nobody will end: their process is gone, or nobody is there to start them."""
    with _opened(settings) as opened:
        gone = orphans(opened)
        waiting = opened.get_runs(dg.RunsFilter(statuses=_WAITING))
    if gone:
        yield warning(
            f"{len(gone)} runs stand as started whose process is gone, such as {gone[0].run_id}",
            "run `my-platform refresh`, which reports them as failed; what they had committed is kept",
        )
    if waiting and not is_served(settings):
        yield warning(
            f"{len(waiting)} runs wait to be started and no daemon runs, such as {waiting[0].run_id}",
            "start `my-platform ui`, or cancel them there",
        )
    if not gone and not (waiting and not is_served(settings)):
        yield ok("no run was left behind")


def daemon(settings: Settings) -> Iterator[Told]:
    """Whether the daemon of a home that is served is alive."""
    if not is_served(settings):
        yield ok("no `my-platform ui` serves this home, so nothing happens by itself")
        return
    with _opened(settings) as opened:
        beats = opened.get_daemon_heartbeats()
    if not beats:
        yield problem("`my-platform ui` serves this home, and its daemon never said anything", _RESTART)
        return
    last = max(beat.timestamp for beat in beats.values())
    at = datetime.fromtimestamp(last, UTC).isoformat(timespec="seconds")
    if time.time() - last > _MOST_SILENCE_S:
        yield problem(
            f"`my-platform ui` serves this home, and its daemon was last heard of at {at}", _RESTART
        )
    else:
        yield ok(f"the daemon was last heard of at {at}")
    for name, beat in sorted(beats.items()):
        for error in (beat.errors or ())[:1]:
            yield warning(f"the daemon {name} met an error: {error.message.strip()[:300]}", "see its log")


@contextmanager
def _opened(settings: Settings) -> Iterator[dg.DagsterInstance]:
    # An instance that is not there would be made, and a doctor changes nothing.
    config = settings.dagster_home / "dagster.yaml"
    if not config.exists():
        raise HomeError(f"there is no {config}; run `my-platform prepare`, which writes it")
    before = os.environ.get("DAGSTER_HOME")
    try:
        with open_instance(settings) as opened:
            yield opened
    finally:
        if before is None:
            os.environ.pop("DAGSTER_HOME", None)
        else:
            os.environ["DAGSTER_HOME"] = before
