"""Fixtures for tests of whole homes."""

from collections.abc import Iterator
from typing import Any

import pytest

from assets_tests.storage.s3_servers import moto_server


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of an empty bucket on a real HTTP server on loopback, which other tests may share."""
    import boto3

    with moto_server() as url:
        for name, value in {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "testtest",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
        }.items():
            monkeypatch.setenv(name, value)
        made = boto3.resource("s3", endpoint_url=url, region_name="us-east-1").create_bucket(Bucket="home")
        yield made.meta.client
        made.objects.delete()
        made.delete()
