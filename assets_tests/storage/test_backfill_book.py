"""The book of backfills: who is at which, what became of each partition, and what candidates hold."""

from pathlib import Path

import pytest

from my_platform.errors import HomeError, PlatformError
from my_platform.storage.backfill_book import CANCELLED, DONE, BackfillBook, Held, Ordered

ORDER = Ordered(("shop_week",), "2026-01-07", "2026-01-20")
VALUE = Held("shop_week", "2026-01-07", "aa", "ff")


@pytest.fixture
def book(tmp_path: Path) -> BackfillBook:
    return BackfillBook(tmp_path / "a folder")


def test_one_process_at_a_time_takes_up_a_backfill(book: BackfillBook) -> None:
    with book.taken_up(ORDER) as first, book.taken_up(ORDER) as second:
        assert first != second
        assert book.is_running(first)
        with book.running(first) as free:
            assert not free
    assert not book.is_running(first)


def test_the_same_order_goes_on_with_what_did_not_end(book: BackfillBook) -> None:
    with book.taken_up(ORDER) as killed:
        pass
    with book.taken_up(Ordered(("shop_week",), "2026-01-07")) as another:
        assert another != killed
    with book.taken_up(Ordered(("shop_week",), "2026-01-07", "2026-01-20", chunk=5)) as again:
        assert again == killed
        book.end(again, CANCELLED, 1.0)
    with book.taken_up(ORDER) as again:
        assert again == killed
        book.end(again, DONE, 1.0)
    with book.taken_up(ORDER) as new:
        assert new not in (killed, another)


def test_what_was_computed_stays_so_when_it_is_found_again(book: BackfillBook) -> None:
    number = book.begin(ORDER)
    book.note(number, "shop_week", "2026-01-07", "failed", "no network")
    book.note(number, "shop_week", "2026-01-07", "computed")
    book.note(number, "shop_week", "2026-01-07", "reused")
    assert book.backfill(number).counts == {"computed": 1}
    book.note(number, "shop_week", "2026-01-07", "confirmed")
    assert book.backfill(number).counts == {"confirmed": 1}


def test_a_backfill_that_is_taken_up_again_forgets_what_failed_and_that_it_was_cancelled(
    book: BackfillBook,
) -> None:
    number = book.begin(ORDER)
    book.note(number, "shop_week", "2026-01-07", "failed", "no network")
    book.ask_cancel(number)
    assert book.is_cancelled(number)
    book.reopen(number)
    assert not book.is_cancelled(number)
    assert book.backfill(number).counts == {}


def test_a_candidate_that_was_switched_to_begins_anew(book: BackfillBook) -> None:
    book.open_candidate("new")
    book.hold("new", [VALUE], [VALUE])
    book.open_candidate("new")
    assert book.held("new") == [VALUE]
    book.switch("new")
    book.open_candidate("new")
    assert (book.held("new"), book.made_for("new"), book.candidate("new").state) == ([], [], "open")


def test_what_is_not_there_is_said_with_what_is(book: BackfillBook) -> None:
    book.open_candidate("new")
    with pytest.raises(PlatformError, match="no candidate old, there is new"):
        book.candidate("old")
    with pytest.raises(PlatformError, match="no backfill 3"):
        book.backfill(3)


def test_a_broken_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "book.sqlite").write_bytes(b"no database" * 1_000)
    with pytest.raises(HomeError, match=r"remove it: values stay"):
        BackfillBook(tmp_path)
