"""Machines append to lines that they share: every line is there once, whoever dies, and what a line names is there first."""

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from assets_tests.storage.conftest import BUCKET, Servers
from assets_tests.storage.fault_proxy import Fault, at, fault_proxy
from assets_tests.storage.s3_servers import asked, variables
from my_platform.errors import PlatformError, StorageUnavailable
from my_platform.storage import bucket as bucket_module
from my_platform.storage.bucket import Patience
from my_platform.storage.objects import BucketStore, FolderStore, open_store
from my_platform.storage.shared_lines import SharedLines

WRITERS, LINES_EACH = 4, 8


def machine(folder: Path, location: str, **hooks: Any) -> SharedLines:
    """The lines as one machine has them."""
    return SharedLines(folder / "lines.jsonl", open_store(location), "lines", **hooks)


@pytest.fixture
def two(tmp_path: Path, location: str) -> tuple[SharedLines, SharedLines]:
    return machine(tmp_path / "first", location), machine(tmp_path / "second", location)


def always(_: Iterator[Mapping[str, Any]]) -> bool:
    return False


def said(lines: SharedLines) -> list[Any]:
    return [line["said"] for line in lines.read()]


def append(lines: SharedLines, *words: object) -> None:
    for word in words:
        assert lines.append({"said": word}, unless=always)


def test_what_one_machine_writes_the_other_reads_in_a_file_of_its_own(
    two: tuple[SharedLines, SharedLines],
) -> None:
    first, second = two
    append(first, "a")
    append(second, "b")
    append(first, "c")
    assert said(second) == said(first) == ["a", "b", "c"]
    assert (
        first.path.read_bytes()
        == second.path.read_bytes()
        == b'{"said": "a"}\n{"said": "b"}\n{"said": "c"}\n'
    )


def _count(folder: Path, location: str, start: Any, writer: int) -> None:
    """Write lines of which each tells how many came before it."""
    lines = machine(folder, location)
    start.wait()
    for number in range(LINES_EACH):
        done = False
        while not done:
            seen = len(list(lines.read()))
            line = {"said": [writer, number], "after": seen}
            done = lines.append(line, unless=lambda there, seen=seen: len(list(there)) != seen)


def check_counted(first: SharedLines, second: SharedLines) -> None:
    found = list(first.read())
    assert list(second.read()) == found
    assert first.path.read_bytes() == second.path.read_bytes()
    assert sorted(line["said"] for line in found) == [
        [writer, number] for writer in range(WRITERS) for number in range(LINES_EACH)
    ]
    assert [line["after"] for line in found] == list(range(WRITERS * LINES_EACH))


def test_threads_of_two_machines_write_every_line_once_and_after_all_it_knew_of(
    tmp_path: Path, location: str
) -> None:
    import threading

    start = threading.Barrier(WRITERS)
    folders = [tmp_path / name for name in ("first", "second")]
    with ThreadPoolExecutor(WRITERS) as pool:
        done = [pool.submit(_count, folders[n % 2], location, start, n) for n in range(WRITERS)]
        for each in done:
            each.result()
    check_counted(*(machine(folder, location) for folder in folders))


def test_processes_of_two_machines_do_so_too(tmp_path: Path) -> None:
    location = str(tmp_path / "store")
    folders = [tmp_path / name for name in ("first", "second")]
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(WRITERS)
    processes = [
        context.Process(target=_count, args=(folders[n % 2], location, start, n)) for n in range(WRITERS)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    check_counted(*(machine(folder, location) for folder in folders))


def test_a_line_is_not_written_where_another_machine_was_first(two: tuple[SharedLines, SharedLines]) -> None:
    first, second = two
    first.pull()
    append(second, "b")
    assert not first.append({"said": "a"}, unless=lambda there: len(list(there)) != 0)
    assert said(first) == ["b"]


def test_who_loses_a_number_asks_again_whether_to_write(two: tuple[SharedLines, SharedLines]) -> None:
    first, second = two
    seen: list[int] = []

    def overtaken(there: Iterator[Mapping[str, Any]]) -> bool:
        seen.append(len(list(there)))
        if len(seen) == 1:
            append(second, "b")
        return False

    assert first.append({"said": "a"}, unless=overtaken)
    assert seen == [0, 1]
    assert said(second) == ["b", "a"]


def test_two_lines_with_the_same_words_are_two_lines(two: tuple[SharedLines, SharedLines]) -> None:
    first, second = two

    def overtaken(there: Iterator[Mapping[str, Any]]) -> bool:
        if not list(there):
            append(second, "a")
        return False

    assert first.append({"said": "a"}, unless=overtaken)
    assert said(second) == ["a", "a"]


def test_what_a_line_names_is_sent_before_it_and_taken_before_it(tmp_path: Path) -> None:
    location, steps = str(tmp_path / "store"), []
    store = FolderStore(Path(location))
    first = machine(
        tmp_path / "first", location, before_sent=lambda _: steps.append(store.exists("lines/00000001.json"))
    )
    copy = tmp_path / "second" / "lines.jsonl"
    second = machine(tmp_path / "second", location, before_taken=lambda _: steps.append(copy.exists()))
    append(first, "a")
    assert said(second) == ["a"]
    assert steps == [False, False]


def test_who_cannot_send_what_a_line_names_writes_no_line(tmp_path: Path) -> None:
    def dies(_: object) -> None:
        raise OSError("gone")

    location = str(tmp_path / "store")
    with pytest.raises(OSError, match="gone"):
        append(machine(tmp_path / "first", location, before_sent=dies), "a")
    again = machine(tmp_path / "first", location)
    assert said(again) == []
    append(again, "a")
    assert said(machine(tmp_path / "second", location)) == ["a"]


def _dies_after_the_claim(folder: Path, location: str) -> None:
    lines = machine(folder, location)
    lines._take = lambda *_: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
    append(lines, "a")


def test_a_line_counts_though_its_writer_was_killed_before_its_own_copy_had_it(tmp_path: Path) -> None:
    location = str(tmp_path / "store")
    process = multiprocessing.get_context("spawn").Process(
        target=_dies_after_the_claim, args=(tmp_path / "first", location)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    for name in ("second", "first"):
        lines = machine(tmp_path / name, location)
        assert said(lines) == ["a"]
    append(lines, "b")
    assert lines.path.read_bytes() == b'{"said": "a"}\n{"said": "b"}\n'


# Lines that only one machine has ---------------------------------------------------------------------------


def old(folder: Path, *words: str) -> Path:
    """A file as a machine had it that shared nothing."""
    folder.mkdir()
    file = folder / "lines.jsonl"
    file.write_text("".join(json.dumps({"said": word}) + "\n" for word in words))
    return file


def test_an_old_file_is_sent_once_by_however_many_have_it(tmp_path: Path, location: str) -> None:
    file = old(tmp_path / "first", "a", "b")
    before = file.read_bytes()
    shutil.copytree(tmp_path / "first", tmp_path / "second")
    sent: list[object] = []
    for name in ("first", "second", "first", "third"):
        lines = machine(tmp_path / name, location, before_sent=lambda line: sent.append(line["said"]))
        assert said(lines) == ["a", "b"]
        assert lines.path.read_bytes() == before
    assert sent == ["a", "b"]
    assert len(dict(open_store(location).list("lines"))) == 2


def test_sending_an_old_file_goes_on_where_it_was_cut_off(tmp_path: Path) -> None:
    old(tmp_path / "first", "a", "b", "c")
    location, left = str(tmp_path / "store"), [2]

    def dies(_: object) -> None:
        if not left[0]:
            raise OSError("gone")
        left[0] -= 1

    with pytest.raises(OSError, match="gone"):
        machine(tmp_path / "first", location, before_sent=dies).pull()
    assert said(machine(tmp_path / "second", location)) == ["a", "b"]
    assert said(machine(tmp_path / "first", location)) == ["a", "b", "c"]
    assert said(machine(tmp_path / "second", location)) == ["a", "b", "c"]


def test_an_older_copy_of_the_shared_lines_is_brought_up_to_date(
    two: tuple[SharedLines, SharedLines],
) -> None:
    """As one from a backup is, whose note may be older or newer than itself."""
    first, second = two
    append(first, "a")
    kept = first.path.read_bytes()
    append(first, "b")
    first.path.write_bytes(kept)
    append(second, "c")
    assert said(first) == ["a", "b", "c"]


def test_two_files_that_say_different_things_are_told_apart_and_kept(tmp_path: Path, location: str) -> None:
    first, second = old(tmp_path / "first", "a", "b"), old(tmp_path / "second", "a", "x")
    assert said(machine(tmp_path / "first", location)) == ["a", "b"]
    before = second.read_bytes()
    lines = machine(tmp_path / "second", location)
    for ask in (lines.pull, lines.compare, lambda: append(lines, "c")):
        with pytest.raises(
            PlatformError, match=r"second/lines\.jsonl, line 2 is not what .*/00000002\.json"
        ) as told:
            ask()
    assert "move" in str(told.value)
    assert (first.read_bytes(), second.read_bytes()) == (b'{"said": "a"}\n{"said": "b"}\n', before)
    second.rename(second.with_suffix(".old"))
    assert said(lines) == ["a", "b"]


def test_a_line_that_somebody_edited_in_a_copy_is_named(two: tuple[SharedLines, SharedLines]) -> None:
    first, _ = two
    append(first, "a", "b")
    first.path.write_bytes(first.path.read_bytes().replace(b'"a"', b'"z"'))
    with pytest.raises(PlatformError, match="line 1"):
        said(first)


def test_a_line_that_was_cut_short_in_a_copy_is_taken_again(two: tuple[SharedLines, SharedLines]) -> None:
    first, second = two
    append(first, "a")
    with open(first.path, "ab") as file:
        file.write(b'{"said"')
    append(second, "b")
    assert said(first) == ["a", "b"]
    assert first.path.read_bytes() == second.path.read_bytes()


# Objects that are not what they were -------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b'{"line": {"said"', b"[]", b'{"line": 1}'])
def test_an_object_that_is_no_line_is_named(tmp_path: Path, data: bytes) -> None:
    store = tmp_path / "store"
    append(machine(tmp_path / "first", str(store)), "a")
    (store / "lines" / "00000001.json").write_bytes(data)
    with pytest.raises(PlatformError, match=r"store/lines/00000001\.json is damaged"):
        said(machine(tmp_path / "second", str(store)))


def test_an_object_that_is_gone_is_sent_again_by_who_has_its_line(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = machine(tmp_path / "first", str(store))
    append(first, "a", "b", "c")
    (store / "lines" / "00000002.json").unlink()
    with pytest.raises(PlatformError, match=r"lines/00000002\.json is missing"):
        said(machine(tmp_path / "second", str(store)))
    first.compare()
    assert said(machine(tmp_path / "second", str(store))) == ["a", "b", "c"]


def test_no_line_is_written_behind_one_that_is_gone(tmp_path: Path) -> None:
    store = tmp_path / "store"
    first = machine(tmp_path / "first", str(store))
    append(first, "a", "b")
    shutil.rmtree(store / "lines")
    append(first, "c")
    assert said(machine(tmp_path / "second", str(store))) == ["a", "b", "c"]


# A bucket --------------------------------------------------------------------------------------------------


@pytest.mark.s3
@pytest.mark.parametrize("fault", [Fault.LOST_REPLY, Fault.LATE_REPLY, Fault.CONFLICT, Fault.SLOW_DOWN])
def test_a_line_whose_reply_was_lost_is_its_writers_and_there_once(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr(bucket_module, "FIRST_WAIT_S", 0.01)
    with fault_proxy(servers.url("moto")) as proxy:
        for name, value in variables(proxy.url).items():
            monkeypatch.setenv(name, value)
        url = f"s3://{BUCKET}/{tmp_path.name}-{fault.name}"
        first, second = (
            SharedLines(tmp_path / name, BucketStore.from_url(url, Patience(60.0, 2.0)), "lines")
            for name in ("first.jsonl", "second.jsonl")
        )
        append(first, "a")
        proxy.plan = at(fault, [1], method="PUT")
        append(first, "b")
        assert proxy.injected[fault] == 1
        assert said(first) == said(second) == ["a", "b"]


@pytest.mark.s3
def test_reading_asks_once_where_nothing_is_new(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables(servers.url("moto")).items():
        monkeypatch.setenv(name, value)
    lines = machine(tmp_path / "first", f"s3://{BUCKET}/{tmp_path.name}-economy")
    with asked() as server:
        assert said(lines) == []
    assert server.by_method == {"LIST": 1}
    append(lines, *range(30))
    with asked() as server:
        assert said(lines) == list(range(30))
    assert server.by_method == {"GET": 1}


@pytest.mark.s3
def test_a_bucket_that_is_gone_says_nothing_of_the_lines(
    tmp_path: Path, servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_proxy(servers.url("moto")) as proxy:
        for name, value in variables(proxy.url).items():
            monkeypatch.setenv(name, value)
        store = BucketStore.from_url(f"s3://{BUCKET}/{tmp_path.name}-gone", Patience(0.0, 2.0))
        lines = SharedLines(tmp_path / "lines.jsonl", store, "lines")
        append(lines, "a")
        before = lines.path.read_bytes()
        proxy.gone = True
        for ask in (lines.pull, lambda: append(lines, "b")):
            with pytest.raises(StorageUnavailable, match=r"lines/00000002\.json"):
                ask()
        assert lines.path.read_bytes() == before
        proxy.gone = False
        append(lines, "b")
        assert said(lines) == ["a", "b"]
