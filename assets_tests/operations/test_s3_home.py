"""A home whose landing and lake lie in an S3 bucket gives what one on disk gives."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb

from assets_tests.homes import land, small
from assets_tests.operations import shop
from my_platform.operations import session

DAY = shop.FIRST + timedelta(days=3)


def test_refresh_on_s3_is_exact_and_equal_to_disk(tmp_path: Path, bucket: Any) -> None:
    def land(number: int, extra_cents: int = 0) -> None:
        day = shop.FIRST + timedelta(days=number)
        body = shop.file_of(day, extra_cents=extra_cents)
        bucket.put_object(Bucket="home", Key=f"landing/orders/{day}.csv", Body=body)

    for number in range(14):
        land(number)
    shop.land_days(tmp_path / "disk", 14)
    on_s3 = shop.settings(tmp_path / "s3", landing_url="s3://home/landing", lake_url="s3://home/lake")
    with session.opened(shop.settings(tmp_path / "disk")) as disk:
        disk.refresh()
        expected = disk.versions()
    with session.opened(on_s3) as opened:
        assert sum(map(len, opened.refresh().outcome.computed.values())) == sum(map(len, expected.values()))
        assert opened.versions() == expected
        assert opened.refresh().as_json()["runs"] == 0
        land(3, extra_cents=1)
        corrected = opened.refresh().as_json()["computed"]
        assert {asset: len(keys) for asset, keys in corrected.items()} == {
            "raw/orders": 1,
            "validated/orders": 1,
            "shop_week": 7,
            "report": 2,
        }
        land(3)
        assert opened.refresh().as_json()["computed"] == {}
        assert opened.versions() == expected

    # The index is only a cache: another machine, or this one after losing it, computes nothing.
    (tmp_path / "s3" / "lake" / "index.sqlite").unlink()
    with session.opened(on_s3) as opened:
        report = opened.refresh().as_json()
        assert (report["computed"], report["runs"]) == ({}, 0)
        assert opened.versions() == expected


def test_a_damaged_object_on_s3_is_noticed_and_computed_again(tmp_path: Path, bucket: Any) -> None:
    shop.land_days(tmp_path / "home", 8)
    with session.opened(shop.settings(tmp_path / "home", lake_url="s3://home/lake")) as opened:
        opened.refresh()
        before = opened.versions()
        (found,) = bucket.list_objects_v2(Bucket="home", Prefix=f"lake/validated/orders/{DAY}/")["Contents"]
        data = bytearray(bucket.get_object(Bucket="home", Key=found["Key"])["Body"].read())
        data[100] ^= 1
        bucket.put_object(Bucket="home", Key=found["Key"], Body=bytes(data))

        report = opened.refresh(verify=True).as_json()

        assert report["computed"] == {"validated/orders": [str(DAY)]}
        assert opened.versions() == before


def test_marts_over_a_lake_in_a_bucket_are_those_over_a_folder(tmp_path: Path, bucket: Any) -> None:
    found = []
    for place in ("home", "s3://home/lake"):
        home = tmp_path / place.partition(":")[0]
        land(home / "landing", 9, customers=40, terminals=80)
        lake = {"lake_url": place} if "://" in place else {}
        with session.opened(small(home, **lake)) as opened:
            opened.refresh(select="+group:marts")
            versions = {n: keys for n, keys in opened.versions().items() if n.startswith("marts/")}
            with duckdb.connect(str(opened.settings.analysts_database), read_only=True) as analyst:
                rows = analyst.execute("FROM marts.daily_volume_by_segment ORDER BY ALL").fetchall()
            found.append((versions, rows))

    on_disk, in_bucket = found
    assert sum(map(len, on_disk[0].values())) == 9 + 2 + 2
    assert in_bucket == on_disk
