"""The real web server and daemon: what a person presses in the UI, and what happens when nobody does."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from assets_tests.homes import FIRST, Versions, day, folder_in_memory, land, session
from assets_tests.operations import shop
from assets_tests.operations.served import lives, owed, served, until
from my_platform.domains.fraud.simulator import land_correction
from my_platform.operations.session import opened

pytestmark = pytest.mark.slow

DAYS = 35


@pytest.fixture(scope="module")
def truth() -> Iterator[Versions]:
    """What a refresh makes of the landed days."""
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", DAYS, customers=100, terminals=200)
        with session(folder / "home") as refreshed:
            refreshed.refresh()
            yield refreshed.versions()


def test_the_whole_graph_is_backfilled_and_then_kept_up_to_date(truth: Versions) -> None:
    with folder_in_memory() as folder:
        home = folder / "a home"
        home.mkdir()
        with served(home) as ui:
            ui.stop_sensor()
            land(home / "landing", DAYS, customers=100, terminals=200)
            until(lambda: day(0) in json.dumps(ui.ask("{ assetNodes { partitionKeys } }")))

            status = ui.backfill()

            # Days and weeks that wait for what has not landed end it as failed, and are named.
            assert status == "COMPLETED_FAILED"
            assert f"predictions {day(35)}: waits for" in ui.messages()
            assert ui.versions() == truth

            land_correction(home / "landing", FIRST + timedelta(days=20))
            ui.start_sensor()
            until(lambda: not owed(home))
            corrected = ui.versions()
        changed = {
            week
            for week, version in corrected["fraud_lightgbm"].items()
            if truth["fraud_lightgbm"][week] != version
        }
        assert changed
        with folder_in_memory() as clean:
            (clean / "home").mkdir()
            (clean / "home" / "landing").symlink_to(home / "landing")
            with session(clean / "home") as refreshed:
                refreshed.refresh()
                assert refreshed.versions() == corrected


def test_two_homes_are_served_side_by_side_from_another_folder_without_a_display(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "assets_tests.operations.shop")
    homes = [tmp_path / "one home", tmp_path / "another"]
    for home in homes:
        home.mkdir()
    with served(homes[0]) as one, served(homes[1]) as another:
        shop.land_days(homes[0], 3)
        until(lambda: len(versions(homes[0]).get("shop_week", {})) == 3)
        shop.land_days(homes[1], 1)
        until(lambda: len(versions(homes[1]).get("shop_week", {})) == 1)
        until(lambda: not one.busy() and not another.busy())
        assert len(versions(homes[0])["shop_week"]) == 3


def test_what_ui_has_started_ends_with_it_where_it_is_killed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MY_PLATFORM_DOMAINS", "assets_tests.operations.shop")
    home = tmp_path / "home"
    home.mkdir()
    with served(home) as killed:
        started = killed.children()
        assert len(started) >= 4
        killed.process.kill()
        killed.process.wait()
        until(lambda: not any(map(lives, started)))
    with served(home) as ui:
        shop.land_days(home, 1)
        until(lambda: len(versions(home).get("shop_week", {})) == 1)
        ui.kill()
        assert not ui.children()


def versions(home: Path) -> Versions:
    with opened(shop.settings(home)) as found:
        return found.versions()
