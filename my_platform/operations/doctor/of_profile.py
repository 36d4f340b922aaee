"""Checks of what a profile rests on: what is installed and set, PostgreSQL, the bucket, MLflow's store and Ray."""

import os
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator

from my_platform.operations.doctor.findings import Told, ok, problem, warning
from my_platform.operations.profiles import fits, install_line, missing_extras, missing_variables, profile_of
from my_platform.settings import Settings

_TIMEOUT_S = 10


def profile(settings: Settings) -> Iterator[Told]:
    """Whether the home is of the profile, and all is there that the profile needs."""
    found = True
    if extras := missing_extras(settings):
        found = False
        yield problem(
            f"the profile {settings.profile} needs {', '.join(extras)}, not installed", install_line(extras)
        )
    if missing := missing_variables(settings):
        found = False
        yield problem(
            f"the profile {settings.profile} needs {', '.join(missing)}, not set",
            f"set what deploy/{settings.profile}/settings.env names",
        )
    config = settings.dagster_home / "dagster.yaml"
    has = profile_of(config) if config.exists() else settings.profile
    if has and has != settings.profile:
        found = False
        yield problem(
            f"MY_PLATFORM_PROFILE is {settings.profile}, and {config} is of {has}",
            f"set MY_PLATFORM_PROFILE={has}, or carry the home over with `my-platform move`",
        )
    elif not has and not fits(settings, config):
        found = False
        yield problem(
            f"{config} is none of the profile {settings.profile}",
            f"take over deploy/{settings.profile}/dagster.yaml",
        )
    if found:
        yield ok(f"{settings.profile}: what it needs is installed and set")


def postgres(settings: Settings) -> Iterator[Told]:
    """Whether the database can be reached, and tables made in it. Dagster's own tables are another check's."""
    if settings.profile == "embedded" or "postgres" in missing_extras(settings):
        return
    import psycopg2

    where = f"{os.environ.get('PGHOST')}:{os.environ.get('PGPORT')}/{os.environ.get('PGDATABASE')}"
    try:
        connection = psycopg2.connect("", connect_timeout=_TIMEOUT_S)
    except psycopg2.OperationalError as error:
        said = str(error).strip().splitlines()[0]
        yield problem(
            f"PostgreSQL at {where} cannot be reached: {said}", "start it, or correct the PG… variables"
        )
        return
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "select current_setting('server_version'), has_database_privilege(current_database(), 'create')"
            )
            version, may_create = cursor.fetchone()
    finally:
        connection.close()
    if may_create:
        yield ok(f"PostgreSQL {version} at {where} can be reached, and tables can be made in it")
    else:
        yield problem(
            f"the user {os.environ.get('PGUSER')} may make no schema in {where}",
            f"as its owner: grant create on database {os.environ.get('PGDATABASE')} to {os.environ.get('PGUSER')}",
        )


def bucket(settings: Settings) -> Iterator[Told]:
    """Whether the client of Dagster's logs and of MLflow's artifacts, which is boto3, can write into the bucket.

    Whether conditional writes are honoured is seen by the check of the lake.
    """
    if settings.bucket_url is None:
        return
    import boto3
    import botocore.exceptions

    name, _, prefix = settings.bucket_url.removeprefix("s3://").partition("/")
    key, data = f"{prefix}/compute-logs/.doctor-{secrets.token_hex(8)}".lstrip("/"), secrets.token_bytes(32)
    client = boto3.client("s3")
    try:
        client.put_object(Bucket=name, Key=key, Body=data)
        same = client.get_object(Bucket=name, Key=key)["Body"].read() == data
        client.delete_object(Bucket=name, Key=key)
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        yield problem(
            f"{settings.bucket_url} cannot be written: {error}",
            "make the bucket, or correct the AWS_… variables",
        )
        return
    if same:
        yield ok(f"{settings.bucket_url} can be read and written")
    else:
        yield problem(f"{settings.bucket_url} gave other bytes than were written", "use another store")


def mlflow(settings: Settings) -> Iterator[Told]:
    """Whether MLflow's store can be reached, with tables of the installed version."""
    from my_platform.learning.tracking import Tracker

    tracker = Tracker.of(settings)
    if tracker.is_empty:
        yield ok("no model was tracked yet")
        return
    if tracker.server and "postgres" in missing_extras(settings):
        return
    import sqlalchemy as sa

    engine = sa.create_engine(tracker.uri)
    try:
        has = _revision(engine)
    except sa.exc.OperationalError as error:
        yield problem(
            f"MLflow's store cannot be read: {str(error.orig).strip().splitlines()[0]}", "see to the store"
        )
        return
    finally:
        engine.dispose()
    wanted = _wanted()
    if has is None:
        yield ok("no model was tracked yet")
    elif has != wanted:
        yield problem(
            f"MLflow's tables have revision {has}, and this version expects {wanted}",
            "make a backup, then run `mlflow db upgrade` on the store",
        )
    else:
        yield ok(f"MLflow's store opens, revision {has}")


def _revision(engine: object) -> str | None:
    from alembic.migration import MigrationContext

    with engine.connect() as connection:  # type: ignore[attr-defined]
        return MigrationContext.configure(connection).get_current_revision()


def _wanted() -> str | None:
    """The revision of the installed version's tables."""
    import importlib.util
    from pathlib import Path

    from alembic.script import ScriptDirectory

    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    return ScriptDirectory(str(Path(spec.origin).parent / "store" / "db_migrations")).get_current_head()


def ray(settings: Settings) -> Iterator[Told]:
    """Whether jobs can be submitted to the Ray cluster."""
    if settings.profile != "cluster":
        return
    address = os.environ.get("RAY_ADDRESS", "")
    if not address.startswith(("http://", "https://")):
        yield problem(
            f"RAY_ADDRESS is {address!r}, where jobs cannot be submitted",
            "set it to the dashboard of the head, such as http://ray-head:8265",
        )
        return
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=_TIMEOUT_S) as answer:
            said = answer.read(500).decode(errors="replace")
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        yield problem(
            f"the Ray cluster at {address} does not answer: {error}", "start it, or correct RAY_ADDRESS"
        )
        return
    if '"ray_version"' in said:
        yield ok(f"the Ray cluster at {address} takes jobs")
    else:
        yield warning(
            f"{address} answers, and not as a Ray cluster does: {said[:100]}", "correct RAY_ADDRESS"
        )
