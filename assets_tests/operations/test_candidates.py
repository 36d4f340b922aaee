"""History under other code beside the current one: built, compared, switched to without computing, or thrown away."""

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.homes import answer, call, folder_in_memory, start
from assets_tests.operations import shop
from assets_tests.operations.changing_shop import settings
from assets_tests.operations.dagster_shop import day
from my_platform.errors import PlatformError
from my_platform.operations import backfills
from my_platform.operations.backfills import Ended, Watch
from my_platform.operations.candidates import drop, overview, show
from my_platform.operations.heads import asset_key
from my_platform.operations.session import Session, opened
from my_platform.storage.backfill_book import BackfillBook, Ordered

DAYS = 14
NAME = "bonus-2"
CHANGED = ("report", "rows", "shop_week")
MADE = {"shop_week": DAYS, "rows": DAYS, "report": 2}
DETERMINISTIC = ("raw/orders", "report", "rows", "shop_week", "validated/orders")


@pytest.fixture(scope="module")
def built() -> Iterator[Path]:
    with folder_in_memory() as folder:
        shop.land_days(folder / "home", DAYS)
        with opened(settings(folder / "home")) as session:
            session.refresh()
        yield folder / "home"


@pytest.fixture
def home(built: Path) -> Iterator[Path]:
    with folder_in_memory() as folder:
        shutil.copytree(built, folder / "home")
        yield folder / "home"


@contextmanager
def code(home: Path, number: int) -> Iterator[Session]:
    """A checkout with other code on the same home."""
    with opened(settings(home, number)) as session:
        yield session


def book(session: Session) -> BackfillBook:
    return BackfillBook(session.settings.backfills)


def rebuild(session: Session, name: str = NAME, **more: Any) -> Ended:
    order = Ordered(CHANGED, candidate=name, **more)
    return backfills.backfill(session, book(session), order, Watch())


def objects(home: Path) -> set[Path]:
    return set((home / "lake").rglob("*.parquet"))


def published(home: Path) -> list[str]:
    return (home / "published.txt").read_text().splitlines()


def observations(session: Session, asset: str) -> list[dg.AssetObservation]:
    records = session.instance.fetch_observations(asset_key(asset), limit=1000).records
    return [found for record in records if (found := record.asset_observation) is not None]


def test_it_is_built_beside_and_nothing_current_moves(home: Path) -> None:
    shown = published(home)
    with code(home, 1) as old:
        before = old.versions()
    with code(home, 2) as new:
        told = rebuild(new).as_json()
        assert (told["computed"], told["as"], told["state"]) == (sum(MADE.values()), NAME, "done")
        assert new.versions() == before
        assert rebuild(new).as_json()["computed"] == 0
        found = observations(new, "shop_week")
        assert {each.partition for each in found} == {day(number) for number in range(DAYS)}
        assert {each.tags["my_platform/candidate"] for each in found} == {NAME}
        compared = show(new.workspace, new.heads, book(new), NAME)
        # What reads it is computed from the candidate's values, and tells where they make no difference.
        assert [len(compared["assets"][name]["different"]) for name in CHANGED] == [2, 0, DAYS]
        assert compared["behind"] == []
    assert published(home) == shown
    with code(home, 1) as old:
        assert old.versions() == before
        assert old.refresh().as_json()["runs"] == 0


def test_to_switch_computes_nothing_and_is_the_same_as_a_refresh(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        stored = objects(home)
        done = new.switch(book(new), NAME).as_json()
        assert done["computed"] == {}
        assert {asset: len(keys) for asset, keys in done["reused"].items()} == {
            "shop_week": DAYS,
            "report": 2,
        }
        assert objects(home) == stored
        assert new.refresh().as_json()["runs"] == 0
        switched = new.versions()
        with pytest.raises(PlatformError, match="switched to already"):
            new.switch(book(new), NAME)
        assert set(published(home)) >= {f"{week} {v}" for week, v in switched["report"].items()}
    with folder_in_memory() as folder:
        shop.land_days(folder / "clean", DAYS)
        with code(folder / "clean", 2) as clean:
            clean.refresh()
            truth = clean.versions()
    assert [switched[name] for name in DETERMINISTIC] == [truth[name] for name in DETERMINISTIC]


def test_to_switch_from_the_wrong_checkout_or_behind_what_landed_changes_nothing(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        before = new.versions()
    with code(home, 1) as old:
        with pytest.raises(PlatformError, match="has another value"):
            old.switch(book(old), NAME)
        shop.land(home, shop.FIRST, extra_cents=5)
        old.refresh()
        corrected = old.versions()
        assert corrected != before
    with code(home, 2) as new:
        with pytest.raises(PlatformError, match=r"shop_week 2026-01-07 \(compute\)"):
            new.switch(book(new), NAME)
        assert new.versions() == corrected
        assert rebuild(new).as_json()["state"] == "done"
        assert new.switch(book(new), NAME).as_json()["computed"] == {}


def test_a_switch_that_was_killed_goes_on_with_the_same_command(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        # As a kill leaves it: some have become current, and nothing says that the candidate has.
        new.refresh(select="shop_week", through=shop.FIRST.replace(day=10))
        done = new.switch(book(new), NAME).as_json()
        assert done["computed"] == {}
        assert len(done["reused"]["shop_week"]) == DAYS - 4
        (entry,) = overview(new.workspace, book(new))
        assert entry["state"] == "switched"


def test_to_drop_throws_away_what_only_the_candidate_refers_to(home: Path) -> None:
    before = objects(home)
    with code(home, 1) as old:
        versions = old.versions()
    with code(home, 2) as new:
        rebuild(new)
        assert len(objects(home) - before) == sum(MADE.values())
        done = drop(new.workspace, new.heads, book(new), NAME)
        # The rows came out the same: what is current has that value, too, in an object of its own.
        assert done["removed"] == MADE
        assert objects(home) == before
        assert overview(new.workspace, book(new)) == []
    with code(home, 1) as old:
        assert old.versions() == versions
        assert old.refresh(verify=True).as_json()["runs"] == 0


def test_what_a_candidate_holds_survives_gc_until_it_is_dropped(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        rebuild(new, "another", first=day(3), through=day(5))
        stored = objects(home)
        for path in stored:
            os.utime(path, (time.time() - 90 * 86_400,) * 2)
        assert new.collect(keep_days=30, dry_run=False).as_json()["removed"] == {}
        assert objects(home) == stored
        drop(new.workspace, new.heads, book(new), NAME)
        held = {each.partition for each in book(new).held("another") if each.asset == "shop_week"}
        left = {path.parent.name for path in (home / "lake" / "shop_week").rglob("*.parquet")}
        assert held == {day(number) for number in (3, 4, 5)}
        assert held <= left
        assert new.collect(keep_days=30, dry_run=False).as_json()["removed"] == {}
        assert rebuild(new, "another", first=day(3), through=day(5)).as_json()["computed"] == 0


def test_after_a_switch_a_drop_only_forgets_the_name(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        new.switch(book(new), NAME)
        stored, versions = objects(home), new.versions()
        assert drop(new.workspace, new.heads, book(new), NAME)["removed"] == {}
        assert (objects(home), new.versions()) == (stored, versions)


def test_what_a_refresh_has_made_current_meanwhile_is_not_thrown_away(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        new.refresh()
        stored, versions = objects(home), new.versions()
        assert drop(new.workspace, new.heads, book(new), NAME)["removed"] == {}
        assert (objects(home), new.versions()) == (stored, versions)
        assert new.refresh().as_json()["runs"] == 0


def test_what_was_current_once_is_not_thrown_away_after_the_code_went_back(home: Path) -> None:
    with code(home, 2) as new:
        rebuild(new)
        new.refresh()
    with code(home, 1) as old:
        old.refresh()
    with code(home, 2) as new:
        # The rows came out as they had been, so that no event was needed for them to be current.
        assert set(drop(new.workspace, new.heads, book(new), NAME)["removed"]) <= {"rows"}
        assert set(new.refresh().as_json()["computed"]) <= {"rows"}


def test_a_function_that_is_not_deterministic_is_told_and_its_value_stays(home: Path) -> None:
    with code(home, 1) as session:
        versions, stored = session.versions(), objects(home)
        order = Ordered(("noise", "shop_week"), first=day(2), through=day(4), force=True)
        ended = backfills.backfill(session, book(session), order, Watch())
        told = ended.as_json()
        assert (told["state"], told["confirmed"], told["problems"]) == ("failed", 3, 3)
        assert set(ended.differs["noise"]) == {day(number) for number in (2, 3, 4)}
        for partition, reason in ended.differs["noise"].items():
            assert f"noise {partition} is not deterministic" in reason
            assert versions["noise"][partition] in reason
        assert session.versions() == versions
        assert objects(home) == stored


@pytest.mark.slow
def test_the_commands_do_the_same(home: Path) -> None:
    given = {"domains": "assets_tests.operations.changing_shop", "boosting_rounds": 2}
    built = call(home, "backfill", ",".join(CHANGED), "--as", NAME, **given)
    assert built["computed"] == sum(MADE.values())
    (entry,) = call(home, "candidate", "list", **given)["candidates"]
    assert (entry["name"], entry["state"], entry["partitions"]) == (NAME, "open", sum(MADE.values()))
    assert call(home, "candidate", "show", NAME, **given)["assets"]["rows"]["different"] == []
    assert call(home, "candidate", "switch", NAME, **given)["computed"] == {}
    assert call(home, "candidate", "drop", NAME, **given)["removed"] == {}
    process = start(home, "candidate", "show", NAME, **given)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert f"there is no candidate {NAME}" in errors
    forced = start(home, "backfill", "noise", "--force", "--json", **given)
    assert answer(forced, code=1)["problems"] == DAYS
