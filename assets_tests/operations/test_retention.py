"""What gc removes, and what it never removes."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from assets_tests.operations import shop
from my_platform.operations import session
from my_platform.operations.retention import collect

DAY = shop.FIRST + timedelta(days=3)
OLD_S = 40 * 86_400


def objects(home: Path) -> set[str]:
    return {str(path.relative_to(home / "lake")) for path in (home / "lake").rglob("*.parquet")}


def age(home: Path) -> None:
    """Let all that is stored be forty days old."""
    for path in (home / "lake").rglob("*.parquet"):
        os.utime(path, (time.time() - OLD_S, time.time() - OLD_S))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose fourth day was corrected after its weekly report was made."""
    home = tmp_path / "home"
    shop.land_days(home, 14)
    with session.opened(shop.settings(home)) as opened:
        opened.refresh()
        shop.land(home, DAY, extra_cents=1)
        opened.refresh()
    return home


def test_values_that_a_head_or_a_published_value_was_made_of_stay(home: Path) -> None:
    age(home)
    before = objects(home)
    with session.opened(shop.settings(home)) as opened:
        found = collect(opened.workspace, opened.versions(), keep_days=30, dry_run=False)
        # The first report is still in the lake, and all that it was made from with it, the old day included.
        assert dict(found.objects) == {}
        assert objects(home) == before


def test_what_nothing_refers_to_goes_after_its_days_and_can_be_computed_again(home: Path) -> None:
    last = shop.FIRST + timedelta(days=13)
    with session.opened(shop.settings(home)) as opened:
        shop.land(home, last + timedelta(days=1))
        opened.refresh()
        shop.land(home, last + timedelta(days=1), extra_cents=5)
        opened.refresh()
        versions = opened.versions()
        young = collect(opened.workspace, versions, keep_days=30, dry_run=False)
        assert dict(young.objects) == {}
        age(home)
        before = objects(home)
        dry = collect(opened.workspace, versions, keep_days=30, dry_run=True)
        assert dict(dry.objects) == {"raw/orders": 1, "validated/orders": 1, "shop_week": 1}
        assert objects(home) == before

        done = collect(opened.workspace, versions, keep_days=30, dry_run=False)

        assert done == dry
        assert len(objects(home)) == len(before) - 3
        assert opened.versions() == versions
        assert opened.refresh().as_json()["runs"] == 0
        shop.land(home, last + timedelta(days=1))
        report = opened.refresh().as_json()
        assert {asset: len(keys) for asset, keys in report["computed"].items()} == {
            "raw/orders": 1,
            "validated/orders": 1,
            "shop_week": 1,
        }
