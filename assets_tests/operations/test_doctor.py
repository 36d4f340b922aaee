"""The doctor tells what is wrong with a home and what to do, whatever else is broken, and changes nothing."""

import fcntl
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from assets_tests.homes import answer, start
from assets_tests.operations import served_shop, shop
from my_platform.operations.doctor import of_home, of_storage
from my_platform.operations.doctor.checks import examine_home
from my_platform.operations.doctor.findings import Finding
from my_platform.operations.home import open_instance
from my_platform.operations.session import opened
from my_platform.settings import Settings


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_shop.make(tmp_path_factory.mktemp("healthy") / "home")


@pytest.fixture
def home(healthy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    return shutil.copytree(healthy, tmp_path / "home")


def wrong(home: Path, *, deep: bool = False, **settings: object) -> dict[str, Finding]:
    """What is not well, by check; at least one thing is."""
    found = examine_home(shop.settings(home, **settings), deep=deep)
    return {each.check: each for each in found if each.status != "ok"}


def state(home: Path) -> dict[str, str]:
    """What every file of a home says; SQLite's own files beside a database come and go as it is read."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in home.rglob("*")
        if path.is_file() and not path.name.endswith(("-wal", "-shm"))
    }


def test_a_healthy_home_is_told_so_and_left_as_it_is(home: Path) -> None:
    before = state(home)

    told = answer(start(home, "doctor", "--deep", "--json", domains="assets_tests.operations.shop"))

    assert (told["problem"], told["warning"]) == (0, 0), told
    assert {"found", "status", "todo", "check"} == set(told["findings"][0])
    assert state(home) == before


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def an_object(home: Path) -> Path:
    return next((home / "lake" / "validated" / "orders").rglob("*.parquet"))


def a_column_less(home: Path) -> None:
    with sqlite3.connect(home / "dagster" / "history" / "runs" / "index.db") as database:
        database.execute("update alembic_version set version_num = '1b80a7bb1e4f'")


def a_torn_index(home: Path) -> None:
    for file in (home / "lake").glob("index.sqlite*"):
        file.write_bytes(b"no database at all" * 100)


def half_a_file(home: Path) -> None:
    """What a process leaves that is killed while it writes."""
    script = (
        "import os, sys; from my_platform.storage import objects; from pathlib import Path\n"
        "os.replace = lambda *_: os._exit(9)\n"
        "objects.replace_file(Path(sys.argv[1]), b'half')"
    )
    subprocess.run([sys.executable, "-c", script, str(home / "registry" / "x.json")], check=False)


def a_missing_line(home: Path) -> None:
    served_shop.promote(home, b"more trees")
    ledger = home / "registry" / "promotions.jsonl"
    ledger.write_bytes(ledger.read_bytes().splitlines(keepends=True)[1])


@pytest.mark.parametrize(
    ("check", "status", "break_it", "said"),
    [
        ("home", "problem", lambda home: shutil.rmtree(home / "reports"), "lacks reports"),
        ("format", "problem", lambda home: (home / "home.json").write_text('{"format": 99}'), "format 99"),
        ("format", "problem", lambda home: (home / "home.json").write_text("{"), "damaged"),
        ("format", "warning", lambda home: (home / "home.json").unlink(), "older version"),
        ("unfinished files", "warning", half_a_file, "half-written"),
        ("trace index", "problem", a_torn_index, "cannot be read"),
        ("trace index", "problem", lambda home: flip(an_object(home)), "not those that were written"),
        ("trace index", "problem", lambda home: an_object(home).unlink(), "not there"),
        ("Dagster instance", "problem", a_column_less, "expects"),
        ("ledgers", "problem", a_missing_line, "did not serve then"),
        (
            "bundles",
            "problem",
            lambda home: flip(next((home / "registry" / "bundles").rglob("model.txt"))),
            "not those that were promoted",
        ),
        ("landing", "problem", lambda home: shutil.rmtree(home / "landing"), "is no folder"),
    ],
)
def test_what_is_broken_is_named_with_what_to_do(
    home: Path, check: str, status: str, break_it: Callable[[Path], object], said: str
) -> None:
    break_it(home)

    found = wrong(home)

    assert found[check].status == status
    assert said in found[check].found
    assert found[check].todo


def test_a_home_that_is_not_there_is_told_and_not_made(tmp_path: Path) -> None:
    found = wrong(tmp_path / "none")

    assert found["home"].status == found["Dagster instance"].status == found["lake"].status == "problem"
    assert not (tmp_path / "none").exists()


def test_each_check_looks_whatever_the_others_met(home: Path) -> None:
    shutil.rmtree(home / "dagster" / "history")
    (home / "dagster" / "dagster.yaml").write_text("no: [yaml")
    (home / "registry" / "promotions.jsonl").write_text("no json\n")
    flip(an_object(home))

    told = examine_home(Settings(home=home, domains=("no.such.domain",)))
    found = {each.check for each in told if each.status == "problem"}

    assert {"Dagster instance", "runs", "ledgers", "bundles", "trace index", "domains"} <= found
    done = start(home, "doctor", "--json", domains="no.such.domain")
    out, _ = done.communicate(timeout=120)
    assert done.returncode == 1
    assert json.loads(out)["problem"] >= 5


def test_what_the_doctor_says_mends_a_damaged_object(home: Path) -> None:
    flip(an_object(home))
    assert "refresh --verify" in wrong(home)["trace index"].todo

    with opened(shop.settings(home)) as session:
        report = session.refresh(verify=True)

    assert report.outcome.computed.keys() == {"validated/orders"}
    assert wrong(home) == {}


def test_an_object_that_the_index_does_not_know_is_seen_by_a_deep_look(home: Path) -> None:
    with sqlite3.connect(home / "lake" / "index.sqlite") as database:
        database.execute(
            "delete from traces where asset = 'shop_week' and partition = ?", (str(date(2026, 1, 8)),)
        )

    assert wrong(home) == {}
    assert wrong(home, deep=True)["trace index"].found.startswith("1 objects are unknown")


def test_a_run_whose_process_is_gone_is_named(home: Path) -> None:
    with open_instance(shop.settings(home)) as instance:
        run = instance.create_run_for_job(shop_job, status=dg.DagsterRunStatus.STARTED)
        instance.add_run_tags(run.run_id, {"my_platform/process": f"{os.uname().nodename}:999999999:1"})

    found = wrong(home)["runs"]

    assert run.run_id in found.found
    assert "refresh" in found.todo


@dg.job
def shop_job() -> None:
    """A job of nothing."""


def test_another_dagster_home_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(home / "elsewhere"))

    found = wrong(home)

    assert str(home / "elsewhere") in found["DAGSTER_HOME"].found
    assert os.environ["DAGSTER_HOME"] == str(home / "elsewhere")


def test_a_served_home_without_a_daemon_that_beats_is_a_problem(home: Path) -> None:
    with open(home / "dagster" / "ui.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert "never said anything" in wrong(home)["daemon"].found
    assert "daemon" not in wrong(home)


def test_too_little_room_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_home, "_LEAST_FREE_BYTES", 1 << 60)

    assert "gc" in wrong(home)["disk space"].todo


def test_a_library_that_does_not_fit_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata

    monkeypatch.setattr(
        importlib.metadata, "requires", lambda _: ["polars>=99", "no-such-library>=1", "x; extra == 'dev'"]
    )

    told = [each for each in examine_home(shop.settings(home)) if each.check == "libraries"]

    assert [" ".join(each.found.split()[: 2 if i == 0 else 3]) for i, each in enumerate(told)] == [
        "polars is",
        "no-such-library is missing",
    ]


def test_a_lake_whose_names_can_be_taken_twice_is_a_problem(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a file system that replaces the target of a link."""
    monkeypatch.setattr(
        "my_platform.storage.objects._link", lambda staged, target: bool(os.replace(staged, target)) or True
    )

    assert "conditional writes" in wrong(home)["lake"].found


@pytest.mark.s3
def test_a_lake_in_a_bucket_is_reached_and_probed(home: Path, bucket: object) -> None:
    urls = {"lake_url": "s3://home/lake", "landing_url": "s3://home/landing"}
    told = {each.check: each for each in examine_home(shop.settings(home, **urls))}
    assert told["lake"].status == told["landing"].status == "ok"
    assert list(of_storage.open_store("s3://home/lake").list("")) == []

    gone = {name: url.replace("home", "nowhere") for name, url in urls.items()}
    assert wrong(home, **gone).keys() >= {"lake", "landing"}
