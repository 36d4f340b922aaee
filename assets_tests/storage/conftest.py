"""A folder, a bucket of a moto server and, for the slow tests, one of a Ceph gateway."""

import contextlib
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from assets_tests.storage.s3_servers import (
    CEPH_PACKAGES,
    KEY,
    REGION,
    SECRET,
    ceph_server,
    missing_for_ceph,
    moto_server,
    variables,
)

BUCKET = "my-lake"
CEPH = pytest.param("ceph", marks=[pytest.mark.slow, pytest.mark.s3])
MOTO = pytest.param("moto", marks=pytest.mark.s3)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Servers"]:
    started = Servers(tmp_path_factory)
    yield started
    started.close()


class Servers:
    """S3 servers that are started when a test first asks for them."""

    def __init__(self, folders: pytest.TempPathFactory) -> None:
        self.folders = folders
        self._urls: dict[str, str] = {}
        self._running = contextlib.ExitStack()

    def url(self, kind: str) -> str:
        if kind not in self._urls:
            if kind == "ceph":
                if missing := missing_for_ceph():
                    pytest.skip(
                        f"a real S3 server cannot be started here: {', '.join(missing)} is missing. As root: "
                        f"apt-get install -y --no-install-recommends {CEPH_PACKAGES}"
                    )
                context = ceph_server(self.folders.mktemp("ceph") / "server", KEY, SECRET)
            else:
                context = moto_server()
            url = self._running.enter_context(context)
            client(url).create_bucket(Bucket=BUCKET)
            self._urls[kind] = url
        return self._urls[kind]

    def close(self) -> None:
        self._running.close()


def client(url: str) -> "boto3.client":
    return boto3.client(
        "s3", endpoint_url=url, aws_access_key_id=KEY, aws_secret_access_key=SECRET, region_name=REGION
    )


@pytest.fixture(params=["folder", MOTO, CEPH])
def location(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    """An empty place for objects: a folder with a space in its name, or a prefix of a bucket."""
    if request.param == "folder":
        return str(tmp_path / "a place")
    for name, value in variables(servers.url(request.param)).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"
