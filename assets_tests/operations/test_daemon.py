"""The real web server and daemon: what a person presses in the UI, and what happens when nobody does."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pytest

from assets_tests.homes import FIRST, Versions, day, folder_in_memory, land, session
from assets_tests.operations.served import owed, served, until
from my_platform.domains.fraud.simulator import land_correction

pytestmark = pytest.mark.slow

DAYS = 35


@pytest.fixture(scope="module")
def truth() -> Iterator[Versions]:
    """What a refresh makes of the landed days."""
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", DAYS, customers=100, terminals=200)
        with session(folder / "home") as opened:
            opened.refresh()
            yield opened.versions()


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
            with session(clean / "home") as opened:
                opened.refresh()
                assert opened.versions() == corrected
