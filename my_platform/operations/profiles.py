"""Profiles: where runs, events, logs and models of a home lie, and where runs happen.

A profile is a configuration of Dagster with settings, in a folder of ``deploy/``; ``MY_PLATFORM_PROFILE`` chooses one.
A home keeps to the profile that it was made in: what is current stands in that profile's event log.
"""

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import yaml

from my_platform.errors import HomeError
from my_platform.operations.instance_config import MARK, instance_config
from my_platform.settings import Settings
from my_platform.storage.objects import replace_file

_EXTRAS: Mapping[str, Mapping[str, str]] = {
    "embedded": {},
    "server": {"dagster_postgres": "postgres"},
    "cluster": {"dagster_postgres": "postgres", "dagster_ray": "ray", "ray": "ray"},
}
_POSTGRES = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE")
_VARIABLES: Mapping[str, tuple[str, ...]] = {
    "embedded": (),
    "server": ("MY_PLATFORM_BUCKET_URL", *_POSTGRES),
    "cluster": ("MY_PLATFORM_BUCKET_URL", *_POSTGRES, "RAY_ADDRESS"),
}
# Dagster's and the platform's own, PostgreSQL's, the bucket's, MLflow's, and where jobs are submitted.
_OF_WORKERS = ("DAGSTER_", "MY_PLATFORM_", "PG", "AWS_", "MLFLOW_", "RAY_ADDRESS")


def missing_extras(settings: Settings) -> list[str]:
    """The extras that the profile needs and that are not installed."""
    wanted = _EXTRAS[settings.profile]
    return sorted({extra for module, extra in wanted.items() if importlib.util.find_spec(module) is None})


def install_line(extras: list[str]) -> str:
    """The command that installs extras."""
    return f"pip install -c constraints.txt -e '.[{','.join(extras)}]'"


def missing_variables(settings: Settings) -> list[str]:
    """The environment variables that the profile needs and that are not set."""
    given = {**os.environ, "MY_PLATFORM_BUCKET_URL": settings.bucket_url or ""}
    return [name for name in _VARIABLES[settings.profile] if not given.get(name)]


def environment_of_workers() -> dict[str, str]:
    """The variables of this process that a worker elsewhere needs: settings, places and credentials."""
    return {name: value for name, value in os.environ.items() if name.startswith(_OF_WORKERS)}


def export_for_dagster(settings: Settings) -> None:
    """Set the variables that the profile's configuration of Dagster names; raises HomeError for what is missing."""
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)
    if settings.profile == "embedded":
        return
    if extras := missing_extras(settings):
        raise HomeError(f"the profile {settings.profile} needs what is not installed: {install_line(extras)}")
    if missing := missing_variables(settings):
        raise HomeError(
            f"the profile {settings.profile} needs {', '.join(missing)}, not set now; "
            f"deploy/{settings.profile}/settings.env tells what they are"
        )
    assert settings.bucket_url is not None
    bucket, _, prefix = settings.bucket_url.removeprefix("s3://").partition("/")
    # Who starts Dagster's processes himself has set them, and runs log where the web server looks.
    os.environ.setdefault("DAGSTER_LOGS_BUCKET", bucket)
    os.environ.setdefault("DAGSTER_LOGS_PREFIX", f"{prefix}/compute-logs".lstrip("/"))


def profile_of(config: Path) -> str:
    """The profile of a home by its configuration of Dagster; empty for one that somebody wrote himself."""
    text = config.read_text()
    for line in text.splitlines():
        if line.startswith(MARK):
            return line.removeprefix(MARK).strip()
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    own = isinstance(found, dict) and {"storage", "run_launcher", "event_log_storage"} & found.keys()
    faster = "my_platform.operations.event_log" in text
    return "" if own and not faster else "embedded"


def fits(settings: Settings, config: Path) -> bool:
    """Whether a configuration that somebody wrote himself, as Dagster's Helm chart does, can be that of the profile."""
    if settings.profile == "embedded":
        return True
    try:
        found = yaml.safe_load(config.read_text())
    except yaml.YAMLError:
        return False
    return isinstance(found, dict) and "postgres" in str(found.get("storage"))


def settle_profile(settings: Settings) -> None:
    """Give a home the configuration of its profile; one that has a history keeps to where that lies.

    Raises:
        HomeError: the home is of another profile, in whose event log stands what is current.
    """
    config = settings.dagster_home / "dagster.yaml"
    if settings.profile == "embedded" and config.exists() and MARK not in config.read_text():
        return
    wanted = instance_config(settings.profile)
    if not config.exists():
        replace_file(config, wanted.encode())
        return
    present = profile_of(config)
    if present == settings.profile or (not present and fits(settings, config)):
        return
    edited = not present or config.read_text() != instance_config(present)
    # The two differ in where runs happen, not in where anything lies.
    alike = {present, settings.profile} <= {"server", "cluster"}
    fresh = present == "embedded" and not (settings.dagster_home / "history").exists()
    if (alike or fresh) and not edited:
        replace_file(config, wanted.encode())
        return
    raise HomeError(_other_profile(settings, present, alike=alike))


def _other_profile(settings: Settings, present: str, *, alike: bool) -> str:
    said = f"the home {settings.home} is of the profile {present or 'that its own dagster.yaml describes'}"
    if alike or not present:
        return (
            f"{said}, and its dagster.yaml was edited: take over by hand what you want of "
            f"deploy/{settings.profile}/dagster.yaml, its first line too"
        )
    if present == "embedded":
        return (
            f"{said}, whose event log says what is current. Carry it over with `my-platform move {settings.home} "
            f"{settings.bucket_url or 's3://…'}`, or name another home"
        )
    return f"{said}: set MY_PLATFORM_PROFILE={present} (and what deploy/{present}/settings.env names), or name another home"
