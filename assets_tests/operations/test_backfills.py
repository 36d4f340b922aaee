"""Backfills: exactly what is owed, piece by piece; ended, killed, doubled, and gone on with."""

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets_tests.homes import Versions, answer, call, folder_in_memory, start
from assets_tests.operations import contest
from assets_tests.operations.dagster_shop import DAILY, DAYS, Shop, correct, day, land, opened_shop, requested
from assets_tests.operations.held_shop import held_at, shut
from my_platform.operations import backfills
from my_platform.operations.backfill_scope import estimate
from my_platform.operations.backfills import Ended, Watch
from my_platform.operations.chunks import cut, in_turn, seconds_of
from my_platform.operations.home import load_project
from my_platform.operations.priorities import (
    BACKFILL_PRIORITY,
    CURRENT_PRIORITY,
    SCORING_PRIORITY,
    priority_of,
)
from my_platform.operations.refresh import look_ahead
from my_platform.storage.backfill_book import BackfillBook, Ordered

DOMAIN = {"domains": "assets_tests.operations.dagster_shop"}
EVERYTHING = "*"
ALL = 118


@pytest.fixture(scope="module")
def built() -> Iterator[tuple[Path, Versions]]:
    """A home that a refresh brought up to date, and what is current in it."""
    with folder_in_memory() as folder:
        land(folder / "home")
        with opened_shop(folder / "home") as shop:
            shop.session.refresh()
            yield folder / "home", shop.session.versions()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home where everything has landed and nothing is computed."""
    with folder_in_memory() as folder:
        land(folder / "home")
        yield folder / "home"


@contextmanager
def copy_of(built: tuple[Path, Versions]) -> Iterator[Shop]:
    with folder_in_memory() as folder:
        shutil.copytree(built[0], folder / "home")
        with opened_shop(folder / "home") as shop:
            yield shop


def book_of(shop: Shop) -> BackfillBook:
    return BackfillBook(shop.session.settings.backfills)


def ordered(shop: Shop, *assets: str, **more: Any) -> Ordered:
    names = assets or tuple(shop.session.workspace.project.assets)
    return Ordered(tuple(sorted(names)), **more)


def do(shop: Shop, order: Ordered, **more: Any) -> Ended:
    return backfills.backfill(shop.session, book_of(shop), order, Watch(**more))


def stored(shop: Shop) -> Counter[tuple[str, str]]:
    return Counter((trace.asset, trace.partition) for trace in shop.traces())


def test_pieces_give_what_one_refresh_gives_each_in_a_run_of_its_own(
    home: Path, built: tuple[Path, Versions]
) -> None:
    with opened_shop(home) as shop:
        ended = do(shop, ordered(shop, chunk=25))

        assert shop.session.versions() == built[1]
        assert stored(shop).total() == ALL
        told = ended.as_json()
        assert (told["state"], told["computed"], told["planned"]) == ("done", ALL, ALL)
        assert len(told["runs"]) == -(-ALL // 25)
        runs = {run.run_id: run for run in shop.session.instance.get_runs()}
        assert set(told["runs"]) == set(runs)
        assert {run.tags["dagster/priority"] for run in runs.values()} == {"-10"}
        assert shop.session.refresh().as_json()["runs"] == 0
        assert do(shop, ordered(shop)).as_json()["runs"] == []


def test_no_piece_reads_what_a_later_one_computes(home: Path) -> None:
    with opened_shop(home) as shop:
        workspace = shop.session.workspace
        turns = in_turn(workspace.project, look_ahead(workspace, shop.session.heads))
        place = {(entry.asset, entry.key): number for number, entry in enumerate(turns)}
        assert len(place) == ALL
        for entry in turns:
            for read in workspace.project.assets[entry.asset].reads.values():
                once = read.asset in ("validated/shops", "raw/shops")
                keys = [0] if once else range(entry.key + read.first, entry.key + read.last + 1)
                before = [place[read.asset, key] for key in keys if (read.asset, key) in place]
                assert all(number < place[entry.asset, entry.key] for number in before)


def test_pieces_are_cut_by_what_computing_took_before(built: tuple[Path, Versions]) -> None:
    with copy_of(built) as shop:
        workspace = shop.session.workspace
        entries = in_turn(workspace.project, look_ahead(workspace, shop.session.heads, None))
        assert entries == []
        for number in range(DAYS):
            correct(shop.home, number)
        entries = in_turn(workspace.project, look_ahead(workspace, shop.session.heads))
        known = seconds_of(workspace)
        assert cut(entries, known) == entries
        assert len(cut(entries, lambda entry: 7.0)) == 8
        assert len(cut(entries, lambda entry: None)) == 32
        assert len(cut(entries, lambda entry: 1e6)) == 1


def test_only_the_days_and_assets_that_were_named_are_computed(home: Path) -> None:
    with opened_shop(home) as shop:
        do(shop, ordered(shop, "raw/orders", "validated/orders", first=day(3), through=day(6)))
        assert stored(shop) == Counter(
            (asset, day(number)) for asset in ("raw/orders", "validated/orders") for number in range(3, 7)
        )
        waits = do(shop, ordered(shop, "shop_week", first=day(1), through=day(2)))
        assert waits.as_json()["computed"] == 0
        assert set(waits.waiting["shop_week"]) == {day(1), day(2)}


def test_a_day_that_fails_stops_no_other_and_is_named_at_the_end(
    home: Path, built: tuple[Path, Versions]
) -> None:
    (home / "landing" / "orders" / f"{day(5)}.csv").write_text("nonsense\n1\n")
    process = start(home, "backfill", "raw/orders,validated/orders", "--chunk", "10", "--json", **DOMAIN)
    told = answer(process, code=1)
    assert told["state"] == "failed"
    assert set(told["failed"]["raw/orders"]) == {day(5)}
    assert told["computed"] == 2 * (DAYS - 1)
    with opened_shop(home) as shop:
        versions = shop.session.versions()
        for asset in ("raw/orders", "validated/orders"):
            assert versions[asset] == {k: v for k, v in built[1][asset].items() if k != day(5)}
        correct(shop.home, 5, extra_cents=0)
        ended = do(shop, ordered(shop, "raw/orders", "validated/orders"))
        assert (ended.problems, ended.as_json()["computed"]) == ([], 2)


def test_it_ends_after_the_partition_under_way_and_the_same_order_goes_on(
    home: Path, built: tuple[Path, Versions]
) -> None:
    with opened_shop(home) as shop:
        book, order = book_of(shop), ordered(shop, chunk=50)

        def cancel(_asset: str, _partition: str, _kind: str) -> None:
            (found,) = book.backfills()
            if found.counts["computed"] >= 20:
                backfills.cancel(book, found.id)

        ended = backfills.backfill(shop.session, book, order, Watch(on_partition=cancel))
        told = ended.as_json()
        assert told["state"] == "cancelled"
        assert 20 <= told["computed"] < ALL
        assert told["computed"] == stored(shop).total()
        assert told["left"]["partitions"] == ALL - told["computed"]

        again = backfills.backfill(shop.session, book, order, Watch()).as_json()
        assert (again["id"], again["state"], again["computed"]) == (told["id"], "done", ALL)
        assert stored(shop).total() == ALL
        assert shop.session.versions() == built[1]
        assert backfills.backfill(shop.session, book, order, Watch()).as_json()["id"] != told["id"]


def test_the_sensor_leaves_to_a_backfill_what_it_is_at(home: Path) -> None:
    asked: list[Any] = []
    with opened_shop(home) as shop, opened_shop(home) as watching:

        def tick(*_partition: str) -> None:
            if not asked:
                asked.append(watching.tick())

        first = ordered(shop, "raw/orders", first=day(0), through=day(9))
        do(shop, first, on_partition=tick)
        (ticked,) = asked
        spans = [requested(request) for request in ticked.run_requests]
        assert (("raw/orders",), day(10), day(DAYS - 1)) in spans
        assert not any("raw/orders" in names and low < day(10) for names, low, _ in spans)
        assert {request.tags["dagster/priority"] for request in ticked.run_requests} == {"10"}


def test_scoring_goes_before_what_else_keeps_a_home_current(tmp_path: Path) -> None:
    project = load_project(contest.settings(tmp_path))
    assert priority_of(project, ["test_set", "plain_predictions"]) == SCORING_PRIORITY
    assert priority_of(project, ["test_set"]) == CURRENT_PRIORITY
    assert SCORING_PRIORITY > CURRENT_PRIORITY > 0 > BACKFILL_PRIORITY


def test_what_is_there_is_computed_again_by_force_and_stays(built: tuple[Path, Versions]) -> None:
    with copy_of(built) as shop:
        correct(shop.home, 23)
        before = len(shop.events("shop_week"))
        told = do(shop, ordered(shop, "raw/orders", "validated/orders", "shop_week", force=True)).as_json()
        # The corrected day is owed, and is not computed twice.
        assert (told["computed"], told["confirmed"], told["state"]) == (3, 3 * (DAYS - 1), "done")
        assert len(shop.events("shop_week")) == before + 1
        assert stored(shop).total() == ALL + 3


@pytest.mark.slow
class TestOnItsOwnProcess:
    def test_a_killed_one_goes_on_with_the_same_command(
        self, home: Path, built: tuple[Path, Versions]
    ) -> None:
        words = ("backfill", EVERYTHING, "--chunk", "15")
        book = BackfillBook(home / "backfills")
        process = start(home, *words, "--json", **DOMAIN)
        until(lambda: _computed(book) >= 30)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        with opened_shop(home) as shop:
            before = stored(shop)
            assert 0 < before.total() < ALL
        (killed,) = call(home, "backfill", "--list", **DOMAIN)["backfills"]
        assert killed["state"] == "interrupted"

        told = call(home, *words, **DOMAIN)

        assert (told["id"], told["state"]) == (killed["id"], "done")
        with opened_shop(home) as shop:
            assert stored(shop) == Counter((a, k) for a, found in built[1].items() for k in found)
            assert shop.session.versions() == built[1]
            ended = {run.status for run in shop.session.instance.get_runs()}
            assert ended == {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE}

    def test_another_process_or_a_signal_ends_it_after_the_partition_under_way(self, home: Path) -> None:
        held = {"domains": "assets_tests.operations.held_shop"}
        for number in (4, 9):
            shut(home, day(number))
        process = start(home, "backfill", "*", "--chunk", "72", "--json", **held)
        with held_at(home, day(4)):
            assert call(home, "backfill", "--status", "1", **held)["state"] == "running"
            call(home, "backfill", "--cancel", "1", **held)
        first = answer(process, code=1)
        assert (first["state"], first["left"]["partitions"]) == ("cancelled", 3 * DAYS - first["computed"])
        assert stored_of(home, "cents") == {day(number) for number in range(5)}

        process = start(home, "backfill", "--resume", "1", "--json", **held)
        with held_at(home, day(9)):
            process.send_signal(signal.SIGTERM)
        second = answer(process, code=1)
        assert second["state"] == "cancelled"
        assert stored_of(home, "cents") == {day(number) for number in range(10)}

        done = call(home, "backfill", "--resume", "1", **held)
        assert (done["state"], done["computed"]) == ("done", 3 * DAYS)
        assert stored_of(home, "cents") == {day(number) for number in range(DAYS)}

    def test_two_at_once_commit_each_partition_once(self, home: Path, built: tuple[Path, Versions]) -> None:
        both = [start(home, "backfill", EVERYTHING, "--chunk", "30", "--json", **DOMAIN) for _ in range(2)]
        told = [answer(process) for process in both]
        assert {each["id"] for each in told} == {1, 2}
        assert sum(each["computed"] for each in told) == ALL
        with opened_shop(home) as shop:
            assert stored(shop).total() == ALL
            assert shop.session.versions() == built[1]

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (("shop_weak",), "shop_weak"),
            (("shop_week", "--from", "2026-02-30"), "--from 2026-02-30"),
            (("shop_week", "--from", "2026-02-03", "--to", "2026-02-01"), "no day in between"),
            (("shop_week", "--list"), "say one of"),
            ((), "there is none"),
            (("--resume", "7"), "no backfill 7"),
            (("shop_week", "--as", "Über alles"), "cannot name a candidate"),
        ],
    )
    def test_a_call_that_is_wrong_says_what_is_right(
        self, built: tuple[Path, Versions], words: tuple[str, ...], told: str
    ) -> None:
        process = start(built[0], "backfill", *words, **DOMAIN)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 2, errors
        assert told in errors
        assert "Traceback" not in errors


def test_an_estimate_computes_nothing(built: tuple[Path, Versions]) -> None:
    with copy_of(built) as shop:
        correct(shop.home, 20)
        told = estimate(shop.session, book_of(shop), ordered(shop, *DAILY, chunk=2))
        assert told["assets"]["raw/orders"] == {"compute": [day(20)]}
        assert sum(told["chunks"]) == told["partitions"] >= 3
        assert set(told["chunks"][:-1]) == {2}
        assert told["seconds"] >= 0
        assert stored(shop).total() == ALL
        assert book_of(shop).backfills() == []
        json.dumps(told)


def stored_of(home: Path, asset: str) -> set[str]:
    """The partitions of an asset that are stored, each of which is there once."""
    paths = list((home / "lake" / asset).rglob("*.parquet"))
    assert len(paths) == len({path.parent.name for path in paths})
    return {path.parent.name for path in paths}


def until(there: Any) -> None:
    ends = time.monotonic() + 240
    while not there():
        assert time.monotonic() < ends, "waited in vain"
        time.sleep(0.02)


def _computed(book: BackfillBook) -> int:
    return sum(found.counts.get("computed", 0) for found in book.backfills())
