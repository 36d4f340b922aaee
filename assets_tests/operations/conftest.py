"""Fixtures for tests of whole homes."""

import importlib.util
from collections.abc import Iterator
from typing import Any

import pytest

from assets_tests import postgres_server
from assets_tests.storage.s3_servers import moto_server, variables


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty bucket on a real HTTP server on loopback, which other tests may share."""
    import boto3

    with moto_server() as url:
        for name, value in variables(url).items():
            monkeypatch.setenv(name, value)
        made = boto3.resource("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="home")
        made.objects.delete()
        yield made.meta.client
        made.objects.delete()
        made.delete()


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[postgres_server.Server]:
    """An empty database, named in the environment."""
    if importlib.util.find_spec("dagster_postgres") is None:
        pytest.skip("the extra `postgres` is not installed: pip install -e '.[postgres]'")
    with postgres_server.server() as running:
        for name, value in running.variables.items():
            monkeypatch.setenv(name, value)
        for name in ("DAGSTER_HOME", "DAGSTER_LOGS_BUCKET", "DAGSTER_LOGS_PREFIX"):
            # Restored afterwards, whatever the instance sets.
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
        yield running


@pytest.fixture
def server(database: postgres_server.Server, bucket: Any) -> None:
    """An empty database and an empty bucket, named in the environment."""
