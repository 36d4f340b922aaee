"""A home that is moved into a bucket is the same there: nothing is computed, nothing is lost, whoever is killed."""

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from assets_tests.homes import CHECKOUT, call, start
from assets_tests.operations import served_shop, shop
from assets_tests.postgres_server import postgres
from assets_tests.storage.s3_servers import KEY, SECRET, ceph_server, missing_for_ceph, variables
from my_platform.errors import HomeError, PlatformError
from my_platform.learning.bundle import read_bundle
from my_platform.learning.registry_place import RegistryPlace
from my_platform.learning.tracking import ModelRun, Tracker
from my_platform.operations.moving import Move, Moved
from my_platform.operations.refresh import look_ahead
from my_platform.operations.session import opened
from my_platform.settings import Settings

TARGET = "s3://home/team"
DOMAIN = "assets_tests.operations.shop"
RUN = ModelRun("shop", "trees", "v1", {"rounds": 3}, {"ap": 0.5}, {"week": "2026-01-07"}, {"model.txt": b"a"})
DAYS = 9


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that is up to date, with a calendar, a row in quarantine and a tracked model."""
    home = tmp_path_factory.mktemp("made") / "home"
    shop.land_days(home, DAYS)
    (home / "landing" / "calendar.json").write_text('{"first": "2026-01-07", "last": "2026-01-20"}')
    with opened(shop.settings(home)) as session:
        session.refresh()
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("DAGSTER_HOME", "DAGSTER_LOGS_BUCKET", "DAGSTER_LOGS_PREFIX"):
        # Restored afterwards, whatever an instance sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    home = shutil.copytree(made, tmp_path / "home")
    Tracker(home / "mlflow").log_model(RUN)
    return home


def versions(settings: Settings) -> dict[str, dict[str, str]]:
    with opened(settings) as session:
        return session.versions()


def moved(home: Path, **given: Any) -> Moved:
    return Move(shop.settings(home, bucket_url=TARGET, **given)).run()


def check_same(settings: Settings, before: dict[str, dict[str, str]]) -> None:
    """Nothing is owed, nothing is computed, and all is what it was."""
    with opened(settings) as session:
        planned = look_ahead(session.workspace, session.heads).entries
        assert {entry.action.value for entry in planned} <= {"waiting"}
        report = session.refresh().as_json()
        assert (report["computed"], report["reused"], report["runs"]) == ({}, {}, 0)
        assert session.versions() == before
        # What landed files say is known without reading them.
        assert session.workspace.landing.hashed == 0
        assert session.refresh(verify=True).as_json()["computed"] == {}
    found = Tracker.of(settings).find("shop", "v1")
    assert found is not None
    assert found.info.artifact_uri.startswith(f"{settings.bucket_url}/mlflow/")
    assert Tracker.of(settings).log_model(RUN) == found.info.run_id


def objects(bucket: Any) -> dict[str, str]:
    """What lies in the bucket: SHA-256 by key."""
    listed = bucket.list_objects_v2(Bucket="home").get("Contents", ())
    bodies = {
        each["Key"]: bucket.get_object(Bucket="home", Key=each["Key"])["Body"].read() for each in listed
    }
    return {key: hashlib.sha256(body).hexdigest() for key, body in bodies.items()}


def test_nothing_is_computed_afterwards(home: Path, bucket: Any) -> None:
    settings = shop.settings(home)
    before = versions(settings)
    local = {
        path.relative_to(home).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("landing", "lake")
        for path in (home / folder).rglob("*.[pcj]*")
        if path.is_file() and not path.name.startswith((".", "index"))
    }

    done = moved(home)

    there = objects(bucket)
    assert {key.removeprefix("team/"): digest for key, digest in there.items() if "/l" in key} == local
    assert done.carried["lake"].sent == done.carried["lake"].files == sum(map(len, before.values()))
    assert done.variables["MY_PLATFORM_BUCKET_URL"] == TARGET
    check_same(shop.settings(home, bucket_url=TARGET), before)
    # A day that lands in the new place is computed there.
    day = shop.FIRST.replace(day=shop.FIRST.day + DAYS)
    bucket.put_object(Bucket="home", Key=f"team/landing/orders/{day}.csv", Body=shop.file_of(day))
    with opened(shop.settings(home, bucket_url=TARGET)) as session:
        assert session.refresh().as_json()["computed"]["raw/orders"] == [str(day)]


def test_the_command_says_what_it_would_do_and_then_does_it(home: Path, bucket: Any) -> None:
    say = ["move", str(home), TARGET]
    plan = call(home, *say, "--dry-run", domains=DOMAIN)
    assert objects(bucket) == {}
    assert not (home / "move.json").exists()

    done = call(home, *say, domains=DOMAIN)

    assert plan["carried"] == done["carried"]
    assert plan["carried"]["landing"]["sent"] == DAYS + 1
    variables = {"bucket_url": TARGET, "domains": DOMAIN}
    plan = call(home, "plan", **variables)
    assert (plan["certain"], plan["possible"], plan["reuse"]) == ({}, {}, {})
    again = call(home, *say, domains=DOMAIN)
    assert (again["moved_before"], again["carried"]) == (True, {})
    report = call(home, "refresh", **variables)
    assert (report["computed"], report["runs"]) == ({}, 0)


def test_the_calendar_of_a_closed_data_set_counts_in_a_bucket(home: Path, bucket: Any) -> None:
    from my_platform.operations.home import data_span, open_workspace

    before = data_span(shop.settings(home), open_workspace(shop.settings(home)))
    moved(home)
    settings = shop.settings(home, bucket_url=TARGET)
    assert data_span(settings, open_workspace(settings)) == before


def test_another_place_than_an_empty_one_is_refused(home: Path, tmp_path: Path, bucket: Any) -> None:
    bucket.put_object(Bucket="home", Key="team/lake/somebody/else.parquet", Body=b"x")
    with pytest.raises(PlatformError, match=r"is not empty: lake/somebody/else\.parquet lies there"):
        moved(home)
    assert list(objects(bucket)) == ["team/lake/somebody/else.parquet"]
    bucket.delete_object(Bucket="home", Key="team/lake/somebody/else.parquet")
    moved(home)
    other = shutil.copytree(home, tmp_path / "other")
    (other / "move.json").unlink()
    with pytest.raises(PlatformError, match="the place of another home"):
        moved(other)
    with pytest.raises(PlatformError, match=r"was moved to s3://home/team"):
        Move(shop.settings(home, bucket_url="s3://home/elsewhere")).run()


def test_a_damaged_object_is_named_and_not_carried_over(home: Path, bucket: Any) -> None:
    (path, *_) = sorted((home / "lake" / "shop_week").rglob("*.parquet"))
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    with pytest.raises(PlatformError, match=path.name):
        moved(home)
    assert path.name not in "".join(objects(bucket))
    with opened(shop.settings(home)) as session:
        session.refresh(verify=True)
        before = session.versions()
    moved(home)
    check_same(shop.settings(home, bucket_url=TARGET), before)


def test_what_is_no_home_or_at_work_is_refused(home: Path, tmp_path: Path, bucket: Any) -> None:
    import fcntl

    with pytest.raises(HomeError, match="is no home"):
        moved(tmp_path / "nothing")
    with open(home / "dagster" / "ui.lock", "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(HomeError, match="`my-platform ui` serves"):
            moved(home)
    assert objects(bucket) == {}


def test_a_bucket_that_is_not_there_is_said(home: Path, bucket: Any) -> None:
    process = start(home, "move", str(home), "s3://no-such-bucket/x", domains=DOMAIN)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "no-such-bucket" in errors


# Where it is killed: before the n-th file is written to the bucket, and at each step of the switch.
_DIES = """
import os, sys
from my_platform.learning import store_move
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations import moving
from my_platform.settings import load_settings
from my_platform.storage.objects import BucketStore
from my_platform.storage.trace_index import TraceIndex

at, home, target = sys.argv[1:]
if at.isdigit():
    left, put = [int(at)], BucketStore.replace
    def replace(self, path, data):
        if left[0] == 0:
            os._exit(9)
        left[0] -= 1
        return put(self, path, data)
    BucketStore.replace = replace
else:
    holder, name = {
        "note": (BucketStore, "create"), "models": (moving.Move, "_models"), "heads": (moving.Move, "_heads"),
        "registry": (RegistryPlace, "pull"), "index": (TraceIndex, "relabel"), "end": (moving.Move, "_switch"),
    }[at]
    whole = getattr(holder, name)
    def dies(*arguments, **named):
        whole(*arguments, **named)
        os._exit(9)
    setattr(holder, name, staticmethod(dies) if at == "index" else dies)
moving.Move(load_settings(home=home, bucket_url=target)).run()
"""


def killed(home: Path, at: str, **given: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _DIES, at, str(home), TARGET],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path]), "MY_PLATFORM_DOMAINS": DOMAIN, **given},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 9, done.stderr


@pytest.mark.parametrize("at", ["note", "0", "7", "20", "models", "heads", "index", "end"])
def test_a_move_that_was_killed_goes_on_where_it_was(home: Path, bucket: Any, at: str) -> None:
    before = versions(shop.settings(home))
    killed(home, at)
    there = {key for key in objects(bucket) if not key.endswith("move.json")}
    # Until the end the home is what it was, in its old place.
    if at not in ("index", "end"):
        assert versions(shop.settings(home)) == before

    done = moved(home)

    assert sum(each.sent for each in done.carried.values()) + len(there) == sum(
        each.files for each in done.carried.values()
    )
    check_same(shop.settings(home, bucket_url=TARGET), before)
    assert json.loads((home / "move.json").read_text())["state"] == "finished"


def test_what_landed_between_two_tries_is_what_counts(home: Path, bucket: Any) -> None:
    killed(home, "end")
    shop.land(home, shop.FIRST, extra_cents=1)
    with opened(shop.settings(home)) as session:
        session.refresh()
        before = session.versions()
    moved(home)
    check_same(shop.settings(home, bucket_url=TARGET), before)


def test_a_day_that_was_taken_back_between_two_tries_is_not_brought_along_unseen(
    home: Path, bucket: Any
) -> None:
    killed(home, "models")
    (home / "landing" / "orders" / f"{shop.FIRST}.csv").unlink()
    with opened(shop.settings(home)) as session:
        session.refresh()
        before = session.versions()
    with pytest.raises(PlatformError, match=rf"landing/orders/{shop.FIRST}\.csv lies there and not in"):
        moved(home)
    bucket.delete_object(Bucket="home", Key=f"team/landing/orders/{shop.FIRST}.csv")
    moved(home)
    check_same(shop.settings(home, bucket_url=TARGET), before)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("the extra `postgres` is not installed: pip install -e '.[postgres]'")
    with postgres() as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.parametrize("at", [None, "models", "heads", "end"])
def test_the_profile_server_takes_heads_and_models_over(
    home: Path, bucket: Any, database: None, at: str | None
) -> None:
    before = versions(shop.settings(home))
    if at is not None:
        killed(home, at, MY_PLATFORM_PROFILE="server")
    done = moved(home, profile="server")
    server = shop.settings(home, bucket_url=TARGET, profile="server")
    check_same(server, before)
    if at != "end":
        assert done.heads == sum(map(len, before.values()))
    assert (home / "dagster" / "dagster.yaml.embedded").exists()
    # The next model gets a number of its own.
    Tracker.of(server).log_model(ModelRun("shop", "more", "v2", {}, {"ap": 0.6}, {"week": "2026-01-14"}))


@pytest.mark.parametrize("at", [None, "registry", "end"])
def test_who_serves_is_the_same_on_all_machines_of_the_profile_server(
    home: Path, tmp_path: Path, bucket: Any, database: None, at: str | None
) -> None:
    line = served_shop.promote(home, b"trees")
    if at is not None:
        killed(home, at, MY_PLATFORM_PROFILE="server")
    assert moved(home, profile="server").lines == 1
    there = {key for key in objects(bucket) if key.startswith("team/registry/")}
    bundle = f"team/registry/bundles/{line.after.bundle}"
    assert there == {
        "team/registry/promotions/00000001.json", f"{bundle}/bundle.json", f"{bundle}/model.txt"
    }  # fmt: skip
    place = RegistryPlace.of(shop.settings(tmp_path / "second", bucket_url=TARGET, profile="server"))
    assert place.promotions().standing("shop").champion == line.after
    assert read_bundle(place.bundles, line.after.bundle).files == {"model.txt": b"trees"}


@pytest.mark.parametrize("profile", ["embedded", "server"])
def test_a_place_with_a_registry_is_not_empty(home: Path, bucket: Any, profile: str) -> None:
    key = "team/registry/promotions/00000001.json"
    bucket.put_object(Bucket="home", Key=key, Body=b"x")
    with pytest.raises(PlatformError, match=r"is not empty: registry/promotions/00000001\.json lies there"):
        moved(home, profile=profile)
    assert list(objects(bucket)) == [key]


def test_an_embedded_home_keeps_its_registry_when_it_moves(home: Path, bucket: Any) -> None:
    served_shop.promote(home, b"trees")
    assert moved(home).lines == 0
    assert not any(key.startswith("team/registry/") for key in objects(bucket))


def test_a_database_of_another_home_is_refused(
    home: Path, bucket: Any, database: None, tmp_path: Path
) -> None:
    moved(home, profile="server")
    other = tmp_path / "other"
    shop.land(other, shop.FIRST, extra_cents=5)
    with opened(shop.settings(other)) as session:
        session.refresh()
    with pytest.raises(PlatformError, match="events of another home"):
        Move(shop.settings(other, bucket_url="s3://home/other", profile="server")).run()
    assert "embedded" not in (home / "dagster" / "dagster.yaml").read_text().splitlines()[0]


@pytest.mark.slow
@pytest.mark.s3
def test_a_home_moves_to_a_real_store(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing := missing_for_ceph():
        pytest.skip(f"a real S3 server cannot be started here: {', '.join(missing)} is missing")
    import boto3

    with contextlib.ExitStack() as stack:
        url = stack.enter_context(ceph_server(tmp_path / "ceph", KEY, SECRET))
        for name, value in variables(url).items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="home")
        before = versions(shop.settings(home))
        killed(home, "7")
        moved(home)
        check_same(shop.settings(home, bucket_url=TARGET), before)
