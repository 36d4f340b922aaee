"""What plan, why and quote say before a refresh, and what the refresh then does."""

from datetime import timedelta
from pathlib import Path

import pytest

from assets_tests.operations import shop
from my_platform.errors import PlatformError
from my_platform.operations import session
from my_platform.operations.forecast import forecast, quote, why

DAY = shop.FIRST + timedelta(days=9)


def computed(report: dict[str, dict[str, list[str]]]) -> set[tuple[str, str]]:
    return {(asset, key) for asset, keys in report["computed"].items() for key in keys}


def named(found: dict[str, dict[str, dict[str, str]]], *kinds: str) -> set[tuple[str, str]]:
    return {(asset, key) for kind in kinds for asset, keys in found[kind].items() for key in keys}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    shop.land_days(tmp_path / "home", 21)
    with session.opened(shop.settings(tmp_path / "home")) as opened:
        opened.refresh()
    return tmp_path / "home"


def test_a_plan_of_a_new_home_names_all_that_is_then_computed(tmp_path: Path) -> None:
    shop.land_days(tmp_path / "home", 21)
    with session.opened(shop.settings(tmp_path / "home")) as opened:
        planned = forecast(opened.workspace, opened.heads).as_json()
        report = opened.refresh().as_json()

    assert computed(report) == named(planned, "certain")
    assert not named(planned, "possible", "reuse", "withdraw", "refused")
    assert ("report", "2026-01-28") in named(planned, "waiting")
    assert planned["waiting"]["report"]["2026-01-28"].startswith("waits for shop_week 2026-01-28")


def test_what_is_computed_lies_between_certain_and_possible(home: Path) -> None:
    file = home.parent / "orders" / f"{DAY}.csv"
    file.parent.mkdir()
    file.write_bytes(shop.file_of(DAY, extra_cents=1))
    with session.opened(shop.settings(home)) as opened:
        quoted = quote(opened.workspace, opened.heads, file, None, None).as_json()
        shop.land(home, DAY, extra_cents=1)
        planned = forecast(opened.workspace, opened.heads).as_json()
        report = opened.refresh().as_json()

    assert {kind: quoted[kind] for kind in ("certain", "possible")} == {
        kind: planned[kind] for kind in ("certain", "possible")
    }
    assert named(quoted, "certain") == {("raw/orders", str(DAY))}
    assert len(quoted["possible"]["shop_week"]) == 7
    assert named(quoted, "certain") < computed(report) <= named(quoted, "certain", "possible")
    assert quoted["certain"]["raw/orders"][str(DAY)].startswith(
        f"landing:orders {DAY} changed: 1 of 1 inputs; was "
    )
    assert quoted["estimate"]["seconds_certain"] < quoted["estimate"]["seconds_at_most"]


def test_quoting_the_file_that_is_there_quotes_nothing(home: Path) -> None:
    with session.opened(shop.settings(home)) as opened:
        landed = home / "landing" / "orders" / f"{DAY}.csv"
        quoted = quote(opened.workspace, opened.heads, landed, None, None).as_json()
        assert not named(quoted, "certain", "possible", "reuse")
        with pytest.raises(PlatformError, match="is no landed table; say --table with one of orders"):
            quote(opened.workspace, opened.heads, home / "landing" / "x.csv", None, None)


def test_why_follows_a_change_down_to_the_landed_file(home: Path) -> None:
    late = DAY + timedelta(days=3)
    shop.land(home, DAY, extra_cents=1)
    with session.opened(shop.settings(home)) as opened:
        chain = why(opened.workspace, opened.heads, "shop_week", str(late))
        assert chain["state"] == "possible"
        assert chain["because"] == f"reads validated/orders {DAY}"
        (link,) = chain["inputs"]
        validated = link["through"]
        assert (validated["asset"], validated["partition"]) == ("validated/orders", str(DAY))
        (raw_link,) = validated["inputs"]
        assert raw_link["through"]["state"] == "certain"
        assert raw_link["through"]["inputs"][0]["files"][0].endswith(f"orders/{DAY}.csv")

        opened.refresh()
        fresh = why(opened.workspace, opened.heads, "shop_week", str(late))
        assert (fresh["state"], fresh["because"]) == ("fresh", "nothing that it reads has changed")
        with pytest.raises(PlatformError, match="start on Wednesdays"):
            why(opened.workspace, opened.heads, "report", "2026-01-15")
        with pytest.raises(PlatformError, match="nothing is no asset"):
            why(opened.workspace, opened.heads, "nothing", "")
