"""The deployment files fit the code: each variable is a setting, each command is one, each port and name is right."""

import fnmatch
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from assets_tests.operations import shop
from assets_tests.postgres_server import postgres
from my_platform.cli import app
from my_platform.settings import CHECKOUT, Settings

DEPLOY = CHECKOUT / "deploy"
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text()
COMPOSE = DEPLOY / "server" / "compose.yaml"
WORKFLOW = CHECKOUT / ".github" / "workflows" / "ci.yml"
HELM = DEPLOY / "helm"
OURS = ("prepare", "code", "web", "daemon", "scoring")
_PATIENCE_S = 300.0


def loaded(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text())
    return found


def compose() -> dict[str, Any]:
    services: dict[str, Any] = loaded(COMPOSE)["services"]
    return services


def manifests() -> dict[tuple[str, str], Any]:
    """The Kubernetes objects by kind and name."""
    return {
        (each["kind"], each["metadata"]["name"]): each
        for each in yaml.safe_load_all((HELM / "manifests.yaml").read_text())
    }


def every(value: Any, name: str) -> Iterator[Any]:
    """What stands under a name anywhere in a value."""
    if isinstance(value, dict):
        if name in value:
            yield value[name]
        for each in value.values():
            yield from every(each, name)
    elif isinstance(value, list):
        for each in value:
            yield from every(each, name)


@pytest.mark.parametrize(
    ("schema", "path"),
    [("compose-spec", COMPOSE), ("github-workflows", WORKFLOW)],
    ids=["compose", "workflow"],
)
def test_a_file_follows_its_schema(schema: str, path: Path) -> None:
    if importlib.util.find_spec("check_jsonschema") is None:
        pytest.skip("check-jsonschema, which has the schemas, is not installed: pip install check-jsonschema")
    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "path", [CHECKOUT / "Dockerfile", WORKFLOW, *sorted(p for p in DEPLOY.rglob("*") if p.is_file())], ids=str
)
def test_each_variable_is_a_setting(path: Path) -> None:
    named = set(re.findall(r"\bMY_PLATFORM_([A-Z_]+)\b", path.read_text()))
    assert {name.lower() for name in named} - Settings.model_fields.keys() == set()


@pytest.mark.parametrize(
    "path", [WORKFLOW, COMPOSE, HELM / "values.yaml", HELM / "manifests.yaml"], ids=lambda path: path.name
)
def test_each_command_is_one(path: Path) -> None:
    text = re.sub(r'", "', " ", path.read_text())
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    called = re.findall(r"(?:bin/| |\")my-platform (?:--home \S+ )?([a-z][a-z-]+)", text)
    domain = {"simulate"}
    assert {name for name in called if name not in commands} - domain == set()
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"\bmake ([a-z-]+)", text)) <= targets


def test_the_image_is_small_pinned_and_no_roots() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.M)[1:]
    assert len(stages) == 2
    last = stages[-1]
    assert "pip" not in last
    assert "apt-get install -y --no-install-recommends" in last
    user = re.search(r"^USER (\S+)$", last, re.M)
    assert user is not None
    assert not user[1].startswith(("0", "root"))
    assert last.index("USER") < last.index("\nCMD")
    assert "HEALTHCHECK" in last
    assert re.search(r"--require-hashes --only-binary :all: -r requirements\.lock", stages[0])
    installs = re.findall(r"pip install (.*)", stages[0])
    assert installs
    assert all("--no-index --find-links /wheels" in each for each in installs)


def test_the_lock_has_all_that_the_image_installs() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    (extras,) = re.findall(r"'\.\[([a-z0-9,]+)\]'", DOCKERFILE)
    wanted = [*project["dependencies"]]
    wanted += [each for extra in extras.split(",") for each in project["optional-dependencies"][extra]]
    locked = {
        line.partition("==")[0].lower()
        for line in (CHECKOUT / "requirements.lock").read_text().splitlines()
        if "==" in line and not line.startswith((" ", "#"))
    }
    names = {re.split(r"[<>=\[ ]", each)[0].lower() for each in wanted}
    assert names - locked <= {"torch", "dagster-postgres"}
    assert {"dagster-postgres", "psycopg2-binary", "torch"} <= set(DOCKERFILE.split())


def in_the_image() -> list[Path]:
    """What .dockerignore lets into the image."""
    lines = (CHECKOUT / ".dockerignore").read_text().split()
    kept = [line[1:] for line in lines if line.startswith("!")]
    left = [line for line in lines[1:] if not line.startswith("!")]
    found = [
        path for name in kept for path in [CHECKOUT / name, *(CHECKOUT / name).rglob("*")] if path.is_file()
    ]
    return [
        path
        for path in found
        if not any(
            fnmatch.fnmatch(f"{path.relative_to(CHECKOUT)}/", f"{pattern.replace('**/', '*')}/*")
            for pattern in left
        )
    ]


def test_the_files_of_the_image_are_enough(tmp_path: Path) -> None:
    image = tmp_path / "app"
    files = in_the_image()
    assert not any(part in path.parts for path in files for part in ("__pycache__", "assets_tests", ".git"))
    for path in files:
        target = image / path.relative_to(CHECKOUT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    script = (
        "import sys; from my_platform.cli import main\n"
        "from my_platform.settings import CHECKOUT; from my_platform.operations.instance_config import instance_config\n"
        "[instance_config(name) for name in ('embedded', 'server', 'cluster')]; print(CHECKOUT)\n"
        "sys.argv = ['my-platform', 'prepare']; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(image), "MY_PLATFORM_HOME": str(tmp_path / "home")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == str(image)


def test_ports_and_places_agree() -> None:
    services = compose()
    grpc = yaml.safe_load((DEPLOY / "server" / "workspace.yaml").read_text())["load_from"][0]["grpc_server"]
    assert grpc["host"] in services
    values = loaded(HELM / "values.yaml")
    deployment = values["dagster-user-deployments"]["deployments"][0]
    exposed = re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.M)
    assert [str(grpc["port"])] == exposed == [str(deployment["port"])]
    assert services["code"]["command"] == json.loads(DOCKERFILE.split("\nCMD ")[-1])
    assert deployment["dagsterApiGrpcArgs"] == services["code"]["command"][-2:]
    for name, port in (
        ("web", Settings.model_fields["port"]),
        ("scoring", Settings.model_fields["serve_port"]),
    ):
        assert services[name]["ports"] == [f"127.0.0.1:{port.default}:{port.default}"]
        assert f":{port.default}/" in services[name]["healthcheck"]["test"][-1]
    for environment in (services["code"]["environment"], manifests()["ConfigMap", "my-platform"]["data"]):
        home = environment["MY_PLATFORM_HOME"]
        assert environment.get("DAGSTER_HOME", f"{home}/dagster") == f"{home}/dagster"
        assert values["global"]["dagsterHome"] == f"{home}/dagster"
    assert {each["image"] for name, each in services.items() if name in OURS} == {"my-platform:0.1.0"}


def test_the_values_refer_to_what_the_manifests_make() -> None:
    values, made = loaded(HELM / "values.yaml"), manifests()
    assert {each["name"] for found in every(values, "envConfigMaps") for each in found} == {"my-platform"}
    assert ("ConfigMap", "my-platform") in made
    volumes = every([values, *made.values()], "persistentVolumeClaim")
    claims = {found["claimName"] for found in volumes}
    assert {("PersistentVolumeClaim", name) for name in claims} <= made.keys()
    said = (HELM / "manifests.yaml").read_text()
    for secret in {each["name"] for found in every(values, "envSecrets") for each in found} | {
        values["global"]["postgresqlSecretName"]
    }:
        assert f"create secret generic {secret} " in said
    deployment = made["Deployment", "my-platform-scoring"]["spec"]["template"]
    labels = made["Service", "my-platform-scoring"]["spec"]["selector"]
    assert labels.items() <= deployment["metadata"]["labels"].items()
    (container,) = deployment["spec"]["containers"]
    assert container["ports"][0]["containerPort"] == Settings.model_fields["serve_port"].default
    pin = re.search(r"dagster==([\d.]+)", (CHECKOUT / "pyproject.toml").read_text())
    assert pin is not None
    assert set(re.findall(r"(?:version|--version) (\d[\d.]*\d)", (HELM / "values.yaml").read_text())) == {
        pin[1]
    }


def test_the_values_have_the_limits_of_the_profile_server() -> None:
    values, profile = loaded(HELM / "values.yaml"), loaded(DEPLOY / "server" / "dagster.yaml")
    queue = values["dagsterDaemon"]["runCoordinator"]["config"]["queuedRunCoordinator"]
    runs = profile["concurrency"]["runs"]
    assert (queue["maxConcurrentRuns"], queue["tagConcurrencyLimits"]) == (
        runs["max_concurrent_runs"],
        runs["tag_concurrency_limits"],
    )
    watched, wanted = values["dagsterDaemon"]["runMonitoring"], profile["run_monitoring"]
    for ours, theirs in (
        ("start_timeout_seconds", "startTimeoutSeconds"),
        ("max_runtime_seconds", "maxRuntimeSeconds"),
        ("cancel_timeout_seconds", "cancelTimeoutSeconds"),
    ):
        assert watched[theirs] == wanted[ours]
    logs, theirs = (
        profile["compute_logs"]["config"],
        values["computeLogManager"]["config"]["s3ComputeLogManager"],
    )
    assert theirs["uploadInterval"] == logs["upload_interval"]
    assert logs["bucket"] == {"env": "DAGSTER_LOGS_BUCKET"}
    assert theirs["bucket"] == manifests()["ConfigMap", "my-platform"]["data"]["DAGSTER_LOGS_BUCKET"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(there: Callable[[], bool], processes: list[subprocess.Popen[bytes]], logs: Path) -> None:
    ends = time.monotonic() + _PATIENCE_S
    while not there():
        said = {log.name: log.read_text()[-1500:] for log in logs.glob("*.log")}
        assert all(process.poll() is None for process in processes), said
        assert time.monotonic() < ends, said
        time.sleep(0.5)


@pytest.mark.slow
def test_the_services_of_compose_run_and_are_healthy(tmp_path: Path, bucket: Any) -> None:
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("the extra `postgres` is not installed: pip install -e '.[postgres]'")
    ports = {"4000": str(free_port()), "3000": str(free_port())}
    workspace = tmp_path / "workspace.yaml"
    text = (DEPLOY / "server" / "workspace.yaml").read_text()
    workspace.write_text(text.replace("host: code", "host: 127.0.0.1").replace("4000", ports["4000"]))
    home = tmp_path / "home"

    def words(found: list[str]) -> list[str]:
        """A command of the file, on this machine's ports and loopback."""
        told = [ports.get(word, word) for word in found]
        told = [word.replace("0.0.0.0", "127.0.0.1").replace(":3000/", f":{ports['3000']}/") for word in told]
        told = [str(workspace) if word.endswith("workspace.yaml") else word for word in told]
        program = Path(sys.executable).with_name(told[0])
        return [str(program) if program.exists() else told[0], *told[1:]]

    services = compose()
    shop.land_days(tmp_path / "made", 1)
    for path in (tmp_path / "made" / "landing").rglob("*.csv"):
        name = path.relative_to(tmp_path / "made" / "landing")
        bucket.put_object(Bucket="home", Key=f"landing/{name}", Body=path.read_bytes())
    with postgres() as variables:
        environment = {
            **os.environ,
            **variables,
            "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *sys.path]),
            "MY_PLATFORM_PROFILE": services["code"]["environment"]["MY_PLATFORM_PROFILE"],
            "MY_PLATFORM_HOME": str(home),
            "MY_PLATFORM_BUCKET_URL": "s3://home",
            "MY_PLATFORM_DOMAINS": "assets_tests.operations.shop",
            "DAGSTER_HOME": str(home / "dagster"),
            "DAGSTER_LOGS_BUCKET": "home",
            "DAGSTER_LOGS_PREFIX": "compute-logs",
        }
        processes: list[subprocess.Popen[bytes]] = []

        def begin(name: str) -> None:
            with open(tmp_path / f"{name}.log", "w") as log:
                processes.append(
                    subprocess.Popen(
                        words(services[name]["command"]), cwd=CHECKOUT, env=environment, stdout=log, stderr=log,
                        stdin=subprocess.DEVNULL, start_new_session=True,
                    )
                )  # fmt: skip

        def healthy(name: str) -> bool:
            test = services[name]["healthcheck"]["test"]
            assert test[0] == "CMD"
            done = subprocess.run(
                words(test[1:]), env=environment, capture_output=True, check=False, cwd=CHECKOUT
            )
            return done.returncode == 0

        done = subprocess.run(
            words(services["prepare"]["command"]),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        try:
            for name in ("code", "web", "daemon"):
                assert name != "code" or not healthy(name)
                begin(name)
                until(lambda name=name: healthy(name), processes, tmp_path)  # type: ignore[misc]
        finally:
            for process in processes:
                os.killpg(process.pid, signal.SIGINT)
            for process in processes:
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def test_each_word_of_the_compose_header_can_be_typed() -> None:
    header = COMPOSE.read_text().split("name:")[0]
    assert shlex.split(re.findall(r"cp .*", header)[0])[1] == "deploy/server/settings.env"
    variables = set(re.findall(r"\$\{([A-Z_]+):\?\}", COMPOSE.read_text()))
    assert variables <= set(
        re.findall(r"^([A-Z_]+)=", (DEPLOY / "server" / "settings.env").read_text(), re.M)
    )
