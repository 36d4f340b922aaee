"""The two configurations of a Dagster instance, each with the real daemon: the embedded one, and PostgreSQL."""

import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from assets_tests.homes import CHECKOUT, Versions, folder_in_memory, start
from assets_tests.operations import held_shop, shop
from assets_tests.operations.dagster_shop import Shop, correct, day, land, opened_shop
from assets_tests.postgres_server import postgres
from my_platform.operations.backfills import Watch, backfill
from my_platform.operations.orphans import PROCESS_TAG
from my_platform.operations.session import opened
from my_platform.storage.backfill_book import BackfillBook, Ordered

pytestmark = pytest.mark.slow

DOMAIN = "assets_tests.operations.dagster_shop"
SERVER = CHECKOUT / "deploy" / "server" / "dagster.yaml"
_PATIENCE_S = 300.0


@pytest.fixture(params=["embedded", "postgres"])
def home(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home with landed days and nothing computed, on each kind of instance."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(folder_in_memory())
        home = folder / "home"
        land(home)
        if request.param == "postgres":
            if importlib.util.find_spec("dagster_postgres") is None:
                pytest.skip("the extra `postgres` is not installed: pip install -e '.[postgres]'")
            for name, value in stack.enter_context(postgres()).items():
                monkeypatch.setenv(name, value)
            (home / "dagster").mkdir()
            own = yaml.safe_load(SERVER.read_text())
            # As somebody writes it who has a database and no bucket.
            del own["compute_logs"]
            (home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(own))
        yield home


@pytest.fixture(scope="module")
def truth() -> Iterator[Versions]:
    with folder_in_memory() as folder:
        land(folder / "home")
        with opened_shop(folder / "home") as shop:
            shop.session.refresh()
            yield shop.session.versions()


@contextmanager
def daemon(home: Path, domain: str = DOMAIN) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon that a home's sensors, queue and run monitoring live in."""
    given = {"HOME": str(home), "DOMAINS": domain, "SENSOR_INTERVAL_S": "5", "THREADS": "1"}
    with open(home.with_name("daemon.log"), "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", "my_platform.definitions"],
            env={
                **os.environ,
                "PYTHONPATH": str(CHECKOUT),
                "DAGSTER_HOME": str(home / "dagster"),
                **{f"MY_PLATFORM_{name}": value for name, value in given.items()},
            },
            cwd=home.parent, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)


def until(there: Callable[[], bool], log: Path, every_s: float = 1.0) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not there():
        assert time.monotonic() < ends, log.read_text()[-4000:] if log.exists() else "no daemon"
        time.sleep(every_s)


def owed(shop: Shop) -> bool:
    from my_platform.operations.refresh import look_ahead

    planned = look_ahead(shop.session.workspace, shop.session.heads)
    return any(entry.action.value not in ("waiting", "refused") for entry in planned.entries)


def test_the_daemon_brings_it_up_to_date_and_ends_what_was_left_behind(home: Path, truth: Versions) -> None:
    # Ends in the middle of a run, as a machine that loses power does.
    process = start(home, "backfill", "*", "--chunk", "200", domains=DOMAIN)
    book = BackfillBook(home / "backfills")
    log = home.with_name("daemon.log")
    until(lambda: any(found.counts for found in book.backfills()), log, every_s=0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    with opened_shop(home) as shop:
        (left,) = shop.session.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
        assert PROCESS_TAG in left.tags
        with daemon(home):
            until(lambda: not owed(shop), log)
            correct(home, 5)
            until(lambda: owed(shop), log)
            until(lambda: not owed(shop), log)
            instance = shop.session.instance
            until(lambda: all(run.is_finished for run in instance.get_runs()), log)
        swept = instance.get_run_by_id(left.run_id)
        assert swept is not None
        assert swept.status is dg.DagsterRunStatus.FAILURE
        by_sensor = instance.get_runs(dg.RunsFilter(tags={"my_platform/launched_by": "keep_up_to_date"}))
        assert by_sensor
        assert {run.tags["dagster/priority"] for run in by_sensor} <= {"10", "20"}
        assert {run.status for run in by_sensor} == {dg.DagsterRunStatus.SUCCESS}
        corrected = shop.session.versions()
        assert corrected["raw/orders"].keys() == truth["raw/orders"].keys()
        changed = [k for k, version in corrected["raw/orders"].items() if truth["raw/orders"][k] != version]
        assert changed == [day(5)]
        # Each partition was computed once, whoever was killed: the corrected day and its readers twice.
        assert shop.session.refresh().as_json()["runs"] == 0


def test_refreshes_and_backfills_give_what_they_give_on_any_instance(home: Path, truth: Versions) -> None:
    with opened_shop(home) as shop:
        names = tuple(sorted(shop.session.workspace.project.assets))
        book = BackfillBook(shop.session.settings.backfills)
        order = Ordered(names, through=day(9), chunk=30)
        assert backfill(shop.session, book, order, Watch()).problems == []
        report = shop.session.refresh().as_json()
        assert report["failed"] == {}
        assert shop.session.versions() == truth
        assert shop.session.refresh().as_json()["runs"] == 0
        assert len(shop.traces()) == sum(len(found) for found in truth.values())


def test_a_run_that_takes_too_long_is_ended_and_what_it_stored_stays() -> None:
    with folder_in_memory() as folder:
        home, log = folder / "home", folder / "daemon.log"
        shop.land_days(home, 3)
        config = yaml.safe_load((CHECKOUT / "dagster.yaml").read_text())
        config["run_monitoring"] |= {"max_runtime_seconds": 20, "poll_interval_seconds": 2}
        (home / "dagster").mkdir()
        (home / "dagster" / "dagster.yaml").write_text(yaml.safe_dump(config))
        stuck = str(shop.FIRST + timedelta(days=1))
        held_shop.shut(home, stuck)
        domain = held_shop.__name__
        with opened(shop.settings(home, domains=(domain,))) as session, daemon(home, domain):
            instance = session.instance
            too_long = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE])
            until(lambda: bool(instance.get_runs(too_long)), log)
            assert list(session.versions()["validated/orders"]) == [
                str(shop.FIRST + timedelta(days=number)) for number in range(3)
            ]
            assert stuck not in session.versions()["cents"]
            # Whoever tries again finds the way free.
            held_shop.gate_of(home, stuck).unlink()
            until(lambda: stuck in session.versions()["cents"], log)
            until(lambda: all(run.is_finished for run in instance.get_runs()), log)
            assert "Exceeded maximum runtime of 20 seconds" in "".join(
                str(event.message) for event in instance.all_logs(instance.get_runs(too_long)[0].run_id)
            )
        with opened(shop.settings(home, domains=(domain,))) as session:
            assert session.refresh().as_json()["runs"] == 0
