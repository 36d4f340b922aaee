"""Homes of the profile server share one registry: what is promoted on one counts on the others, and in what is kept of them."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest

from assets_tests.operations import shop
from assets_tests.operations.served_shop import bundle_and_line
from assets_tests.storage.s3_servers import asked
from my_platform.errors import PlatformError
from my_platform.incremental.declare import SERVED, Asset, Read
from my_platform.learning.bundle import read_bundle
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations.backup import back_up
from my_platform.operations.doctor.of_ledgers import bundles, ledgers
from my_platform.operations.home import open_workspace, prepare_home
from my_platform.operations.platform import Project, Workspace
from my_platform.operations.restore import restore
from my_platform.settings import Settings

BUCKET_URL = "s3://home/team"
pytestmark = pytest.mark.s3


def machine(home: Path, bucket_url: str = BUCKET_URL) -> Settings:
    """The settings of a machine, whose home is made."""
    settings = shop.settings(home, profile="server", bucket_url=bucket_url)
    prepare_home(settings)
    return settings


def promote(settings: Settings, model: bytes) -> None:
    """Make a model champion on a machine."""
    bundle_and_line(RegistryPlace.of(settings), model)


def champion(settings: Settings) -> bytes:
    place = RegistryPlace.of(settings)
    served = place.promotions().standing("shop").champion
    assert served is not None
    return read_bundle(place.bundles, served.bundle).files["model.txt"]


def keys(bucket: Any) -> set[str]:
    return {each["Key"] for each in bucket.list_objects_v2(Bucket="home").get("Contents", ())}


def reading_champions(settings: Settings) -> Workspace:
    """A workspace with an asset that reads who is champion."""
    (first, *others) = shop.assets(settings)
    reads = {**first.reads, "champion": Read(f"{SERVED}shop")}
    reader: Asset = dataclasses.replace(first, reads=reads)
    return open_workspace(settings, Project.of([reader, *others]))


def test_a_machine_sees_at_commit_who_was_promoted_on_another_since_its_look(
    tmp_path: Path, bucket: Any
) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    day = shop.FIRST.replace(day=16)
    bucket.put_object(Bucket="home", Key=f"team/landing/orders/{day}.csv", Body=shop.file_of(day))
    promote(first, b"one")
    workspace = reading_champions(second)
    workspace.look()
    name = f"{SERVED}shop"
    before = workspace.said_now(name)
    promote(first, b"two")
    assert set(before) == {"2026-01-15", "2026-01-16"}
    now = workspace.said_now(name)
    assert all(now[day] != version for day, version in before.items())
    lines = RegistryPlace.of(second).copy.promotions().lines("shop")
    assert [line.after.bundle for line in lines] == [
        line.after.bundle for line in RegistryPlace.of(first).promotions().lines("shop")
    ]
    assert len(lines) == 2


def test_a_look_asks_once_more_for_the_shared_ledger_and_tells_so(tmp_path: Path, bucket: Any) -> None:
    first = machine(tmp_path / "first")
    promote(first, b"one")
    counts = {}
    for profile in ("embedded", "server"):
        home = shop.settings(tmp_path / profile, profile=profile, bucket_url=BUCKET_URL)
        prepare_home(home)
        workspace = reading_champions(home)
        workspace.look()
        told = workspace.requests
        with asked() as server:
            workspace.look()
        counts[profile] = server.total
        assert told is not None
        assert workspace.requests is not None
        assert (workspace.requests - told).total == server.total
    assert counts["server"] == counts["embedded"] + 1


def test_an_embedded_home_asks_nothing_of_its_bucket_for_its_registry(tmp_path: Path, bucket: Any) -> None:
    settings = shop.settings(tmp_path / "home", bucket_url=BUCKET_URL)
    prepare_home(settings)
    with asked() as server:
        promote(settings, b"one")
        assert champion(settings) == b"one"
        RegistryPlace.of(settings).thresholds().lines("shop")
    assert server.total == 0


def test_a_restored_home_goes_on_with_what_all_machines_share(tmp_path: Path, bucket: Any) -> None:
    first, second = machine(tmp_path / "first"), machine(tmp_path / "second")
    promote(first, b"one")
    done = back_up(second, tmp_path / "backups")
    assert done.elsewhere["registry"].startswith(f"{BUCKET_URL}/registry")
    promote(first, b"two")
    before = keys(bucket)
    restored = shop.settings(tmp_path / "restored", profile="server", bucket_url=BUCKET_URL)
    restore(restored, tmp_path / "backups")
    place = RegistryPlace.of(restored)
    assert len(place.copy.promotions().lines("shop")) == 1
    assert champion(restored) == b"two"
    assert keys(bucket) == before


def test_a_restored_home_of_another_history_is_refused_and_rewrites_nothing(
    tmp_path: Path, bucket: Any
) -> None:
    alone = machine(tmp_path / "alone", bucket_url=f"{BUCKET_URL}-of-others")
    promote(alone, b"other")
    back_up(alone, tmp_path / "backups")
    promote(machine(tmp_path / "first"), b"one")
    before = keys(bucket)
    restored = shop.settings(tmp_path / "restored", profile="server", bucket_url=BUCKET_URL)
    restore(restored, tmp_path / "backups")
    with pytest.raises(PlatformError, match=r"restored/registry/promotions\.jsonl, line 1 is not what"):
        champion(restored)
    assert keys(bucket) == before


def test_the_doctor_compares_all_lines_and_mends_what_one_of_the_two_lacks(
    tmp_path: Path, bucket: Any
) -> None:
    first = machine(tmp_path / "first")
    for model in (b"one", b"two"):
        promote(first, model)
    shutil.rmtree(
        first.registry / "bundles" / RegistryPlace.of(first).promotions().lines("shop")[1].after.bundle
    )
    bucket.delete_object(Bucket="home", Key="team/registry/promotions/00000001.json")
    assert {told.status for told in (*ledgers(first), *bundles(first))} == {"ok"}
    assert "team/registry/promotions/00000001.json" in keys(bucket)
    bucket.put_object(Bucket="home", Key="team/registry/promotions/00000001.json", Body=b"{")
    with pytest.raises(PlatformError, match=r"s3://home/team/registry/promotions/00000001\.json is damaged"):
        list(ledgers(first))
