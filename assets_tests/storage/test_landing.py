"""Landed files and the ledger of their content, in a folder and in a bucket."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from my_platform.errors import Refused
from my_platform.incremental.declare import Grain, ordinal
from my_platform.storage.landing import Landed, Landing, content_digest, key_of
from my_platform.storage.places import LandingBucket, LandingFolder
from my_platform.storage.trace_index import TraceIndex

TABLES = {"sales": Grain.DAY, "shops": Grain.ONCE}
ONE, TWO = "2018-04-01", "2018-04-02"


class Source:
    """A source system that drops, changes and removes files."""

    def __init__(self, location: str) -> None:
        self.location = location
        if location.startswith("s3://"):
            from obstore.store import S3Store

            self.bucket = S3Store.from_url(location)

    def drop(self, path: str, data: bytes = b"rows", *, age_s: float = 10) -> None:
        """Land a file that was written that long ago; a bucket only knows now."""
        if self.location.startswith("s3://"):
            import obstore

            obstore.put(self.bucket, path, data)
        else:
            file = Path(self.location, path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            written = time.time() - age_s
            os.utime(file, (written, written))

    def remove(self, path: str) -> None:
        if self.location.startswith("s3://"):
            import obstore

            obstore.delete(self.bucket, path)
        else:
            Path(self.location, path).unlink()


@pytest.fixture
def source(location: str) -> Source:
    return Source(location)


@pytest.fixture
def landing(source: Source, tmp_path: Path) -> Landing:
    place = (
        LandingBucket(source.location) if "://" in source.location else LandingFolder(Path(source.location))
    )
    return Landing(place, TraceIndex(tmp_path / "index.sqlite"))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every hash be taken a minute after what was landed last."""
    now_ns = time.time_ns
    monkeypatch.setattr(TraceIndex, "now_ns", staticmethod(lambda: now_ns() + 60_000_000_000))


def sales(landing: Landing, *, verify: bool = False) -> Landed:
    return landing.scan(TABLES, verify=verify)["sales"]


def test_nothing_has_landed_where_there_is_nothing(landing: Landing) -> None:
    assert landing.scan(TABLES) == {"sales": Landed(), "shops": Landed()}


def test_files_are_found_by_table_and_day_and_known_by_their_content(
    source: Source, landing: Landing
) -> None:
    source.drop(f"sales/{ONE}.parquet", b"a")
    source.drop(f"sales/{TWO}.csv.gz", b"b")
    source.drop("shops.csv", b"c")
    found = landing.scan(TABLES)
    assert found["sales"].digests == {ordinal(ONE): content_digest(b"a"), ordinal(TWO): content_digest(b"b")}
    assert found["sales"].files == {
        ordinal(ONE): (f"sales/{ONE}.parquet",),
        ordinal(TWO): (f"sales/{TWO}.csv.gz",),
    }
    assert found["shops"].digests == {0: content_digest(b"c")}


@pytest.mark.usefixtures("settled")
def test_a_file_that_has_not_moved_is_not_hashed_again(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet")
    source.drop("shops.parquet")
    first = landing.scan(TABLES)
    assert landing.hashed == 2
    assert landing.scan(TABLES) == first
    assert landing.hashed == 2
    assert landing.scan(TABLES, verify=True) == first
    assert landing.hashed == 4


@pytest.mark.usefixtures("settled")
def test_a_replaced_file_has_another_digest_and_only_it_is_hashed(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet", b"a")
    source.drop(f"sales/{TWO}.parquet", b"b")
    sales(landing)
    source.drop(f"sales/{TWO}.parquet", b"c", age_s=5)
    found = sales(landing)
    assert landing.hashed == 3
    assert found.digests == {ordinal(ONE): content_digest(b"a"), ordinal(TWO): content_digest(b"c")}


@pytest.mark.usefixtures("settled")
def test_an_identical_file_that_lands_again_has_the_same_digest(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet", b"a")
    first = sales(landing)
    source.remove(f"sales/{ONE}.parquet")
    source.drop(f"sales/{ONE}.parquet", b"a", age_s=5)
    assert sales(landing) == first


@pytest.mark.usefixtures("settled")
def test_a_removed_file_is_gone_from_the_ledger(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet")
    source.drop("shops.csv")
    sales(landing)
    source.remove(f"sales/{ONE}.parquet")
    source.remove("shops.csv")
    assert landing.scan(TABLES) == {"sales": Landed(), "shops": Landed()}
    assert landing.index.landed() == {}


def test_a_table_that_is_not_asked_for_stays_in_the_ledger(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet")
    source.drop(f"sales_old/{ONE}.parquet")
    landing.scan({"sales": Grain.DAY, "sales_old": Grain.DAY})
    landing.scan({"sales": Grain.DAY})
    assert set(landing.index.landed()) == {f"sales/{ONE}.parquet", f"sales_old/{ONE}.parquet"}


def test_two_files_for_a_day_are_one_partition(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.csv", b"a")
    one = sales(landing)
    source.drop(f"sales/{ONE}.parquet", b"b")
    both = sales(landing)
    assert both.files == {ordinal(ONE): (f"sales/{ONE}.csv", f"sales/{ONE}.parquet")}
    assert both.digests[ordinal(ONE)] not in (one.digests[ordinal(ONE)], content_digest(b"b"))


def test_names_that_are_no_day_are_left_aside_and_told(source: Source, landing: Landing) -> None:
    misnamed = [
        "2018-02-30.parquet", "20180401.parquet", "2018-4-1.parquet", "day 2018-04-01.parquet", "2018-W14-7.parquet",
    ]  # fmt: skip
    ignored = [
        "2018-04-01.txt",
        "2018-04-01",
        "README.md",
        "2018-04-01.parquet.tmp",
        "2018-04-01.parquet.part",
    ]
    for name in (*misnamed, *ignored):
        source.drop(f"sales/{name}")
    source.drop(f"sales/{ONE}.parquet")
    source.drop("shops/2018-04-01.parquet")
    found = landing.scan(TABLES)
    assert found["sales"].files == {ordinal(ONE): (f"sales/{ONE}.parquet",)}
    assert sorted(found["sales"].ignored) == sorted(f"sales/{name}" for name in ignored)
    assert sorted(found["sales"].misnamed) == sorted(f"sales/{name}" for name in misnamed)
    assert "its name is no partition of sales" in found["sales"].misnamed["sales/2018-4-1.parquet"]
    assert found["shops"].digests == {}
    assert "Name it shops.parquet" in found["shops"].misnamed["shops/2018-04-01.parquet"]


def test_hidden_files_are_not_seen_at_all(source: Source, landing: Landing) -> None:
    source.drop(f"sales/.{ONE}.parquet.tmp-1")
    source.drop(f"sales/.{ONE}.parquet")
    assert sales(landing) == Landed()


def test_what_was_planned_is_read_or_nothing(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet", b"a")
    found = sales(landing)
    assert landing.read(found, ordinal(ONE)) == [(f"{source.location}/sales/{ONE}.parquet", b"a")]
    source.drop(f"sales/{ONE}.parquet", b"b", age_s=5)
    assert landing.read(found, ordinal(ONE)) is None
    source.remove(f"sales/{ONE}.parquet")
    assert landing.read(found, ordinal(ONE)) is None


def test_whether_files_stand_still_is_told_without_reading_them(source: Source, landing: Landing) -> None:
    source.drop(f"sales/{ONE}.parquet", b"a")
    found = sales(landing)
    hashed = landing.hashed
    assert landing.still(found, ordinal(ONE))
    assert not landing.still(replace(found, digests={ordinal(ONE): content_digest(b"other")}), ordinal(ONE))
    assert landing.has("sales", Grain.DAY, ordinal(ONE))
    assert not landing.has("sales", Grain.DAY, ordinal(TWO))
    source.drop(f"sales/{ONE}.parquet", b"longer", age_s=5)
    assert not landing.still(found, ordinal(ONE))
    source.remove(f"sales/{ONE}.parquet")
    assert not landing.still(found, ordinal(ONE))
    assert not landing.has("sales", Grain.DAY, ordinal(ONE))
    assert landing.hashed == hashed


def changing(landing: Landing, change: Callable[[int], None], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """While a file is read something happens to it; gives the paths that were read.

    A bucket gives an object whole and says which one: there it happens between the listing and the read.
    """
    seen: list[str] = []

    def happen(path: str) -> None:
        seen.append(path)
        change(len(seen))

    if isinstance(landing.place, LandingBucket):
        bucket = landing.place.bucket
        get_known = bucket.get_known
        monkeypatch.setattr(bucket, "get_known", lambda path: (happen(path), get_known(path))[1])
    else:
        read = landing.place.read
        monkeypatch.setattr(landing.place, "read", lambda path: (read(path), happen(path))[0])
    return seen


def test_a_file_that_is_replaced_while_it_is_read_is_read_again(
    source: Source, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"sales/{ONE}.parquet"
    source.drop(path, b"half")
    seen = changing(
        landing, lambda n: source.drop(path, b"whole now", age_s=5) if n == 1 else None, monkeypatch
    )
    assert sales(landing).digests == {ordinal(ONE): content_digest(b"whole now")}
    assert len(seen) >= 2


def test_a_file_that_keeps_changing_counts_by_what_it_said_before(
    source: Source, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"sales/{ONE}.parquet"
    source.drop(path, b"whole")
    before = sales(landing)
    source.drop(path, b"x", age_s=9)
    changing(landing, lambda n: source.drop(path, b"x" * (n + 1), age_s=8), monkeypatch)
    found = sales(landing)
    assert (found.digests, list(found.unfinished)) == (before.digests, [path])


def test_a_new_file_that_keeps_changing_has_not_landed_yet(
    source: Source, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"sales/{ONE}.parquet"
    source.drop(path, b"x")
    changing(landing, lambda n: source.drop(path, b"x" * (n + 1), age_s=8), monkeypatch)
    found = sales(landing)
    assert (found.digests, list(found.unfinished)) == ({}, [path])
    monkeypatch.undo()
    assert set(sales(landing).digests) == {ordinal(ONE)}


def test_a_file_that_goes_while_it_is_read_is_gone(
    source: Source, landing: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"sales/{ONE}.parquet"
    source.drop(path)
    changing(landing, lambda n: source.remove(path), monkeypatch)
    assert sales(landing) == Landed()


# A folder --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "landing"


@pytest.fixture
def here(folder: Path, tmp_path: Path) -> Landing:
    return Landing(LandingFolder(folder), TraceIndex(tmp_path / "index.sqlite"))


def in_place(file: Path, data: bytes) -> None:
    """Other bytes of the same number, with inode and time of modification as before."""
    before = file.stat()
    assert len(data) == before.st_size
    with open(file, "r+b") as opened:
        opened.write(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_change_that_size_and_time_do_not_tell_is_seen_while_the_file_is_young(
    folder: Path, here: Landing
) -> None:
    Source(str(folder)).drop(f"sales/{ONE}.parquet", b"one", age_s=1)
    assert sales(here).digests == {ordinal(ONE): content_digest(b"one")}
    in_place(folder / "sales" / f"{ONE}.parquet", b"two")
    assert sales(here).digests == {ordinal(ONE): content_digest(b"two")}


def test_a_change_that_size_and_time_do_not_tell_is_seen_later_by_verify_only(
    folder: Path, here: Landing
) -> None:
    Source(str(folder)).drop(f"sales/{ONE}.parquet", b"one", age_s=3)
    sales(here)
    in_place(folder / "sales" / f"{ONE}.parquet", b"two")
    assert sales(here).digests == {ordinal(ONE): content_digest(b"one")}
    assert sales(here, verify=True).digests == {ordinal(ONE): content_digest(b"two")}
    assert sales(here).digests == {ordinal(ONE): content_digest(b"two")}


def test_a_file_renamed_over_another_of_its_size_and_time_is_seen(folder: Path, here: Landing) -> None:
    file = folder / "sales" / f"{ONE}.parquet"
    Source(str(folder)).drop(f"sales/{ONE}.parquet", b"one", age_s=3600)
    sales(here)
    replacement = file.with_name(".new")
    replacement.write_bytes(b"two")
    os.utime(replacement, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns))
    replacement.replace(file)
    assert sales(here).digests == {ordinal(ONE): content_digest(b"two")}


def test_what_is_no_plain_file_is_refused_as_what_it_is_and_not_opened(
    folder: Path, here: Landing, tmp_path: Path
) -> None:
    (folder / "sales").mkdir(parents=True)
    (tmp_path / "elsewhere.parquet").write_bytes(b"x")
    (folder / "sales" / f"{ONE}.parquet").symlink_to(tmp_path / "elsewhere.parquet")
    os.mkfifo(folder / "sales" / f"{TWO}.parquet")
    (folder / "sales" / "2018-04-03.parquet").mkdir()
    (folder / "shops.parquet").symlink_to("nowhere")
    found = here.scan(TABLES)
    assert here.hashed == 0
    for day, what in ((ONE, "a symbolic link"), (TWO, "a pipe"), ("2018-04-03", "a folder")):
        with pytest.raises(Refused, match=rf"{folder}/sales/{day}.parquet is {what}, expected a plain file"):
            here.read(found["sales"], ordinal(day))
    with pytest.raises(Refused, match=r"shops.parquet is a symbolic link"):
        here.read(found["shops"], 0)


def test_a_file_that_becomes_a_pipe_after_it_was_listed_is_not_waited_for(
    folder: Path, here: Landing
) -> None:
    path = folder / "sales" / f"{ONE}.parquet"
    Source(str(folder)).drop(f"sales/{ONE}.parquet", b"a")
    found = sales(here)
    path.unlink()
    os.mkfifo(path)
    assert here.read(found, ordinal(ONE)) is None


def test_a_folder_of_a_table_may_lie_elsewhere(folder: Path, here: Landing, tmp_path: Path) -> None:
    folder.mkdir()
    Source(str(tmp_path)).drop(f"disk/{ONE}.parquet", b"a")
    (folder / "sales").symlink_to(tmp_path / "disk")
    assert sales(here).digests == {ordinal(ONE): content_digest(b"a")}


def test_a_file_where_a_folder_is_expected_holds_nothing(folder: Path, here: Landing) -> None:
    folder.mkdir()
    (folder / "sales").write_bytes(b"x")
    assert sales(here) == Landed()


def test_a_file_that_may_not_be_read_is_named(
    folder: Path, here: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    Source(str(folder)).drop(f"sales/{ONE}.parquet")

    Source(str(folder)).drop(f"sales/{TWO}.parquet")
    deny(monkeypatch, f"{folder}/sales/{ONE}.parquet")
    found = sales(here)
    assert list(found.digests) == [ordinal(ONE), ordinal(TWO)]
    with pytest.raises(Refused, match=rf"{folder}/sales/{ONE}.parquet cannot be read: Permission denied"):
        here.read(found, ordinal(ONE))
    monkeypatch.undo()
    assert here.read(sales(here), ordinal(ONE))


def test_a_folder_that_may_not_be_listed_counts_as_it_was_before(
    folder: Path, here: Landing, monkeypatch: pytest.MonkeyPatch
) -> None:
    Source(str(folder)).drop(f"sales/{ONE}.parquet")
    before = sales(here)
    listdir = os.listdir
    monkeypatch.setattr(
        os, "listdir", lambda path: denied(path) if str(path).endswith("sales") else listdir(path)
    )
    found = sales(here)
    assert found.digests == before.digests
    assert found.unusable == {
        "sales": f"{folder}/sales cannot be read: Permission denied. Give the user of this process the right "
        "to read what lands"
    }


def denied(path: object) -> Any:
    raise PermissionError(13, "Permission denied", str(path))


def deny(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    """Let a file be unreadable, as its mode would make it for a user who is not root."""
    opened = os.open
    monkeypatch.setattr(
        os, "open", lambda p, *rest, **more: denied(p) if str(p) == path else opened(p, *rest, **more)
    )


@pytest.mark.parametrize("day", [date(1969, 12, 31), date(1970, 1, 1), date(2024, 2, 29)])
def test_the_key_of_a_file_is_its_day(day: date) -> None:
    assert key_of(f"sales/{day}.parquet", "sales", Grain.DAY) == (day - date(1970, 1, 1)).days
    assert key_of(f"others/{day}.parquet", "sales", Grain.DAY) is None
    assert key_of("sales.parquet", "sales", Grain.ONCE) == 0
    assert key_of("sales.parquet", "sales", Grain.DAY) is None
