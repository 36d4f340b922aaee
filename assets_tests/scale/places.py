"""Where homes of the profiles server and cluster lie in tests: PostgreSQL, an S3 server and a Ray cluster on loopback."""

import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import boto3

from assets_tests.postgres_server import postgres
from assets_tests.storage.s3_servers import KEY, SECRET, ceph_server, missing_for_ceph, moto_server
from assets_tests.storage.s3_servers import variables as variables_of


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Variables of this process and of those that it starts, as they were afterwards."""
    # Dagster's are set by the platform when it opens a home.
    names = {*variables, "DAGSTER_HOME", "DAGSTER_LOGS_BUCKET", "DAGSTER_LOGS_PREFIX"}
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """The variables that name an S3 server: Ceph's gateway where it can be started, else moto."""
    with moto_server() if missing_for_ceph() else ceph_server(folder, KEY, SECRET) as url:
        yield variables_of(url)


def uploaded(landing: Path, variables: Mapping[str, str]) -> str:
    """The URL of a new bucket with the landed files in it."""
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    bucket = boto3.resource(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        region_name=variables["AWS_REGION"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
    ).create_bucket(Bucket=name)
    for path in sorted(p for p in landing.rglob("*") if p.is_file()):
        bucket.upload_file(str(path), f"landing/{path.relative_to(landing)}")
    return f"s3://{name}"


@contextmanager
def place(profile: str, landing: Path, s3: Mapping[str, str], more: Mapping[str, str]) -> Iterator[None]:
    """This process and those that it starts work in a profile, on an empty database and the landed files in a bucket."""
    with postgres() as database:
        variables = {
            **database,
            **s3,
            **more,
            "MY_PLATFORM_PROFILE": profile,
            "MY_PLATFORM_BUCKET_URL": uploaded(landing, s3),
        }
        with environment(variables):
            yield
