"""A profile is chosen by one variable, holds what it says, and a home keeps to the one that it was made in."""

import contextlib
import importlib.util
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import dagster as dg
import pytest
import yaml

from assets_tests.homes import CHECKOUT
from assets_tests.operations import shop
from my_platform.errors import HomeError
from my_platform.operations.doctor import of_profile
from my_platform.operations.doctor.checks import examine_home
from my_platform.operations.home import prepare_home
from my_platform.operations.instance_config import instance_config
from my_platform.operations.profiles import profile_of
from my_platform.operations.session import opened
from my_platform.settings import Settings, load_settings

DEPLOY = CHECKOUT / "deploy"
BUCKET_URL = "s3://home/team"
POSTGRES = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")


def configuration(profile: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(instance_config(profile))
    return loaded


def test_the_profiles_differ_in_nothing_but_where_things_lie_and_run() -> None:
    embedded, server, cluster = (configuration(name) for name in ("embedded", "server", "cluster"))
    assert cluster.pop("run_launcher")["class"] == "RayRunLauncher"
    assert cluster == server
    assert server.pop("storage")["postgres"]["postgres_db"]["hostname"] == {"env": "PGHOST"}
    assert server.pop("compute_logs")["class"] == "S3ComputeLogManager"
    embedded.pop("event_log_storage")
    limits = server.pop("concurrency"), embedded.pop("concurrency")
    assert limits[0]["runs"]["max_concurrent_runs"] > limits[1]["runs"]["max_concurrent_runs"]
    assert limits[0]["pools"] == limits[1]["pools"]
    assert server == embedded


@pytest.mark.parametrize("profile", ["embedded", "server", "cluster"])
def test_the_settings_of_a_profile_are_settings(profile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (DEPLOY / profile / "settings.env").read_text()
    named = dict(re.findall(r"^(?:# )?([A-Z_]+)=(\S+)$", text, re.M))
    for name, value in named.items():
        if name.startswith("MY_PLATFORM_"):
            monkeypatch.setenv(name, value)
    settings = load_settings()
    assert settings.profile == profile
    if profile != "embedded":
        assert {*POSTGRES, "AWS_ACCESS_KEY_ID"} <= named.keys()
        assert settings.lake == "s3://my-platform/lake"
    assert ("RAY_ADDRESS" in named) == (profile == "cluster")


def test_a_job_on_ray_gets_every_setting_that_can_matter_to_a_run() -> None:
    named = set(configuration("cluster")["run_launcher"]["config"]["ray"]["env_vars"])
    of_runs = {name for name in Settings.model_fields if not name.startswith(("alert_", "serve_"))}
    assert {f"MY_PLATFORM_{name.upper()}" for name in of_runs} <= named


def test_a_home_of_the_profile_server_keeps_everything_where_it_says(
    tmp_path: Path, server: None, bucket: Any
) -> None:
    for number in range(3):
        day = f"{shop.FIRST:%Y-%m-}{shop.FIRST.day + number:02}"
        bucket.put_object(
            Bucket="home",
            Key=f"team/landing/orders/{day}.csv",
            Body=shop.file_of(shop.FIRST.replace(day=shop.FIRST.day + number)),
        )
    settings = shop.settings(tmp_path / "home", profile="server", bucket_url=BUCKET_URL)
    with opened(settings) as session:
        first = session.refresh().as_json()
        assert len(first["computed"]["raw/orders"]) == 3
        assert session.refresh().as_json()["runs"] == 0
        assert "Postgres" in type(session.instance.event_log_storage).__name__
        assert type(session.instance.compute_log_manager).__name__ == "S3ComputeLogManager"
    stored = {entry["Key"].split("/")[1] for entry in bucket.list_objects_v2(Bucket="home")["Contents"]}
    assert {"landing", "lake"} <= stored
    assert not (settings.dagster_home / "history").exists()

    told = examine_home(settings)
    assert [each for each in told if each.status == "problem"] == []
    by_check = {each.check: each for each in told}
    assert "can be reached" in by_check["PostgreSQL"].found
    assert by_check["bucket"].status == "ok"
    assert any("event log opens, revision" in each.found for each in told)

    # Whoever forgets the variable does not get an empty home.
    with pytest.raises(HomeError, match="MY_PLATFORM_PROFILE=server"):
        prepare_home(shop.settings(settings.home))


def test_models_are_tracked_in_postgresql_and_the_bucket(tmp_path: Path, server: None, bucket: Any) -> None:
    from my_platform.learning.tracking import ModelRun, Tracker

    settings = shop.settings(tmp_path / "home", profile="server", bucket_url=BUCKET_URL)
    prepare_home(settings)
    tracker = Tracker.of(settings)
    run = ModelRun(
        "shop", "trees", "v1", {"rounds": 3}, {"ap": 0.5}, {"week": "2026-01-07"}, {"model.txt": b"a"}
    )

    first = tracker.log_model(run)

    assert Tracker.of(settings).log_model(run) == first
    keys = [
        entry["Key"] for entry in bucket.list_objects_v2(Bucket="home", Prefix="team/mlflow/")["Contents"]
    ]
    assert [key.rpartition("/")[2] for key in keys] == ["model.txt"]
    assert not (settings.mlflow_folder / "mlflow.db").exists()
    (found,) = of_profile.mlflow(settings)
    assert found.found.startswith("MLflow's store opens, revision ")


def test_a_fresh_home_takes_another_profile_and_one_with_history_is_moved_instead(tmp_path: Path) -> None:
    settings = shop.settings(tmp_path / "home")
    prepare_home(settings)
    config = settings.dagster_home / "dagster.yaml"
    for profile in ("server", "cluster", "server"):
        prepare_home(settings.model_copy(update={"profile": profile, "bucket_url": BUCKET_URL}))
        assert config.read_text() == instance_config(profile)
        assert profile_of(config) == profile
    other = shop.settings(tmp_path / "other")
    shop.land_days(other.home, 1)
    with opened(other) as session:
        session.refresh()
    with pytest.raises(HomeError, match=r"my-platform move \S+ s3://home/team"):
        prepare_home(other.model_copy(update={"profile": "server", "bucket_url": BUCKET_URL}))
    assert profile_of(other.dagster_home / "dagster.yaml") == "embedded"


def test_a_configuration_of_ones_own_is_never_written_over(tmp_path: Path) -> None:
    settings = shop.settings(tmp_path / "home", profile="server", bucket_url=BUCKET_URL)
    prepare_home(settings)
    config = settings.dagster_home / "dagster.yaml"
    edited = config.read_text().replace("max_concurrent_runs: 4", "max_concurrent_runs: 40")
    config.write_text(edited)
    prepare_home(settings)
    with pytest.raises(HomeError, match=r"deploy/cluster/dagster\.yaml"):
        prepare_home(settings.model_copy(update={"profile": "cluster"}))
    assert config.read_text() == edited


def test_what_is_missing_is_named_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*POSTGRES, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("my_platform.operations.profiles.importlib.util.find_spec", lambda _: None)
    told = list(of_profile.profile(shop.settings(tmp_path, profile="cluster")))
    assert told[0].todo == "pip install -c constraints.txt -e '.[postgres,ray]'"
    assert f"MY_PLATFORM_BUCKET_URL, {', '.join(POSTGRES)}, RAY_ADDRESS, not set" in told[1].found
    settings = shop.settings(tmp_path / "home", profile="server", bucket_url=BUCKET_URL)
    with pytest.raises(HomeError, match=r"\.\[postgres\]"), opened(settings):
        pass


def test_a_database_that_does_not_answer_is_a_problem(
    tmp_path: Path, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    (told,) = of_profile.postgres(shop.settings(tmp_path, profile="server", bucket_url=BUCKET_URL))
    assert (told.status, "cannot be reached" in told.found) == ("problem", True)


def test_a_bucket_that_is_not_there_is_a_problem(tmp_path: Path, bucket: Any) -> None:
    (told,) = of_profile.bucket(shop.settings(tmp_path, bucket_url="s3://no-such-bucket/x"))
    assert (told.status, "NoSuchBucket" in told.found) == ("problem", True)


@contextlib.contextmanager
def dashboard(body: bytes) -> Iterator[str]:
    """An HTTP server that answers as the dashboard of a Ray cluster, or as something else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=made.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{made.server_port}"
    finally:
        made.shutdown()
        thread.join()
        made.server_close()


@pytest.mark.parametrize(
    ("answered", "status"),
    [({"ray_version": "2.60.0"}, "ok"), ({"hello": "world"}, "warning"), (None, "problem")],
)
def test_the_ray_cluster_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answered: dict[str, str] | None, status: str
) -> None:
    settings = shop.settings(tmp_path, profile="cluster", bucket_url=BUCKET_URL)
    with dashboard(json.dumps(answered).encode()) as url:
        monkeypatch.setenv("RAY_ADDRESS", url)
        if answered is not None:
            (told,) = of_profile.ray(settings)
            assert told.status == status
    if answered is None:
        (told,) = of_profile.ray(settings)
        assert told.status == status
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    (told,) = of_profile.ray(settings)
    assert (told.status, "http://ray-head:8265" in told.todo) == ("problem", True)


def test_the_launcher_of_the_profile_cluster_takes_its_configuration(
    tmp_path: Path, server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if None in (importlib.util.find_spec("dagster_ray"), importlib.util.find_spec("ray")):
        pytest.skip("the extra `ray` is not installed: pip install -e '.[ray]'")
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    settings = shop.settings(tmp_path / "home", profile="cluster", bucket_url=BUCKET_URL)
    with opened(settings) as session:
        launcher = session.instance.run_launcher
        assert type(launcher).__name__ == "RayRunLauncher"
        assert {"MY_PLATFORM_PROFILE", *POSTGRES} <= set(launcher.env_vars)
        assert isinstance(session.instance, dg.DagsterInstance)
