"""A home on an S3 server that is reached through the proxy of faults, and what a clean build of it gives."""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from assets_tests.homes import Versions
from assets_tests.operations import shop
from assets_tests.storage.conftest import client as client_of
from assets_tests.storage.fault_proxy import FaultProxy, fault_proxy
from assets_tests.storage.s3_servers import variables
from my_platform.operations.session import opened

BUCKET = "home"
# Weekly reports come with the eighth day.
DAYS = 9


@dataclass
class FaultyS3:
    """A server, the proxy before it, and a client of the server itself, to which nothing ever happens.

    Attributes:
        url: of a place in the bucket that nobody else uses.
    """

    proxy: FaultProxy
    client: Any
    url: str

    @property
    def prefix(self) -> str:
        return self.url.removeprefix(f"s3://{BUCKET}/")

    def land(self, number: int, *, extra_cents: int = 0) -> None:
        """Land a day of orders, counted from 0."""
        day = shop.FIRST + timedelta(days=number)
        body = shop.file_of(day, extra_cents=extra_cents)
        self.client.put_object(Bucket=BUCKET, Key=f"{self.prefix}/landing/orders/{day}.csv", Body=body)

    def stored(self) -> Counter[tuple[str, str]]:
        """How many values lie in the lake of each asset and partition."""
        pages = self.client.get_paginator("list_objects_v2").paginate(
            Bucket=BUCKET, Prefix=f"{self.prefix}/lake/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", ())]
        names = [key.removeprefix(f"{self.prefix}/lake/").rsplit("/", 2)[:2] for key in keys]
        return Counter((asset, partition) for asset, partition in names)

    def commits(self) -> Counter[str]:
        """How often each object of the lake was written, as the proxy saw it."""
        return self.proxy.written(f"/{self.prefix}/lake/")


@contextmanager
def faulty_s3(upstream: str, monkeypatch: pytest.MonkeyPatch, prefix: str) -> Iterator[FaultyS3]:
    """The proxy before a server, named in the environment."""
    with fault_proxy(upstream) as proxy:
        for name, value in variables(proxy.url).items():
            monkeypatch.setenv(name, value)
        client = client_of(upstream)
        if BUCKET not in {each["Name"] for each in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=BUCKET)
        yield FaultyS3(proxy, client, f"s3://{BUCKET}/{prefix}")


def clean_versions(folder: Path, days: int = DAYS, corrected: int | None = None) -> Versions:
    """What a build on disk that nothing disturbs makes of the same days; one of them corrected."""
    home = folder / "clean"
    shop.land_days(home, days)
    if corrected is not None:
        shop.land(home, shop.FIRST + timedelta(days=corrected), extra_cents=1)
    before = os.environ.get("DAGSTER_HOME")
    with opened(shop.settings(home)) as session:
        session.refresh()
        found = session.versions()
    os.environ.pop("DAGSTER_HOME", None)
    if before is not None:
        os.environ["DAGSTER_HOME"] = before
    return found


def once_each(versions: Versions) -> Counter[tuple[str, str]]:
    """Each partition once."""
    return Counter((asset, key or "all") for asset, keys in versions.items() for key in keys)
