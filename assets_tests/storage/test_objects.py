"""Objects in a folder and in S3-compatible buckets keep the same promises."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from assets_tests.storage.s3_servers import variables
from my_platform.errors import DamagedObject, StorageUnavailable
from my_platform.storage.bucket import Patience
from my_platform.storage.objects import STAGING, BucketStore, FolderStore, open_store, replace_file

Store = FolderStore | BucketStore


@pytest.fixture
def store(location: str) -> Store:
    return open_store(location)


def names(store: Store, prefix: str = "") -> dict[str, int]:
    return dict(store.list(prefix))


def test_what_is_created_can_be_read_back(store: Store) -> None:
    for path, data in {"a/2018-04-01/f.parquet": b"\0\xff" * 1000, "empty": b""}.items():
        assert store.create(path, data)
        assert store.read(path) == data
        assert store.exists(path)


def test_a_name_that_is_taken_keeps_its_bytes(store: Store) -> None:
    assert store.create("a/b", b"first")
    assert not store.create("a/b", b"second, and longer")
    assert store.read("a/b") == b"first"


def test_one_of_sixteen_writers_wins(store: Store) -> None:
    barrier = threading.Barrier(16)

    def write(number: int) -> bool:
        barrier.wait()
        return store.create("a/b/c", b"%02d" % number * 50_000)

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert won.count(True) == 1
    assert store.read("a/b/c") == b"%02d" % won.index(True) * 50_000
    assert names(store) == {"a/b/c": 100_000}


def test_objects_are_listed_by_folder_with_their_sizes(store: Store) -> None:
    for path, size in {"a/1/x": 3, "a/2/y": 4, "ab/1/z": 5}.items():
        store.create(path, b"." * size)
    assert names(store) == {"a/1/x": 3, "a/2/y": 4, "ab/1/z": 5}
    assert names(store, "a") == {"a/1/x": 3, "a/2/y": 4}
    assert names(store, "a/2") == {"a/2/y": 4}
    assert names(store, "none") == {}


def test_a_listing_has_more_than_a_page_of_objects(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: store.create(f"a/{n:04}", b"x"), range(1100)))
    assert len(names(store, "a")) == 1100


def test_what_is_deleted_is_gone_and_its_name_free(store: Store) -> None:
    store.create("a/b", b"first")
    store.delete("a/b")
    store.delete("a/b")
    assert not store.exists("a/b")
    assert names(store) == {}
    assert store.create("a/b", b"second")
    assert store.read("a/b") == b"second"


def test_a_missing_object_is_named(store: Store) -> None:
    with pytest.raises(
        DamagedObject, match=rf"^{store.root}/a/b: the object is not there.*my-platform refresh"
    ):
        store.read("a/b")
    assert not store.exists("a/b")
    assert store.modified("a/b") is None


def test_the_time_of_writing_is_known(store: Store) -> None:
    before = time.time()
    store.create("a", b"x")
    written = store.modified("a")
    assert written is not None
    assert before - 2 <= written <= time.time() + 2


def test_a_name_may_have_spaces_and_letters_of_any_script(store: Store) -> None:
    assert store.create("größe a/2018-04-01/x+y=z%20.parquet", b"x")
    assert names(store) == {"größe a/2018-04-01/x+y=z%20.parquet": 1}
    assert store.read("größe a/2018-04-01/x+y=z%20.parquet") == b"x"


# A folder --------------------------------------------------------------------------------------------------

# A writer that is killed when all of its bytes but no name has been written.
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from my_platform.storage import objects
objects._link = lambda staged, target: os.kill(os.getpid(), signal.SIGKILL)
objects.FolderStore(Path(sys.argv[1])).create("a/b", b"x" * 1_000_000)
"""


def test_a_killed_writer_leaves_nothing_that_can_be_read_and_is_swept_away(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    store = FolderStore(tmp_path)
    assert names(store) == {}
    assert store.create("a/b", b"whole")
    assert store.sweep() == 1
    assert store.sweep() == 0
    assert store.read("a/b") == b"whole"
    assert list((tmp_path / STAGING).glob("*/*")) == []


def test_a_sweep_leaves_alone_what_a_living_writer_stages(tmp_path: Path) -> None:
    store = FolderStore(tmp_path)
    staged = store._staged()
    staged.write_bytes(b"half")
    assert store.sweep() == 0
    assert staged.exists()
    assert names(store) == {}


def test_a_sweep_leaves_alone_what_another_machine_staged_within_a_day(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    staged = tmp_path / STAGING / f"{int(dead.stdout)}@elsewhere" / "being-written"
    staged.parent.mkdir(parents=True)
    staged.write_bytes(b"half")
    store = FolderStore(tmp_path)
    assert store.sweep() == 0
    two_days_ago = time.time() - 2 * 86_400
    os.utime(staged.parent, (two_days_ago, two_days_ago))
    assert store.sweep() == 1
    assert not staged.exists()


def test_a_write_to_a_full_disk_leaves_no_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this machine has no /dev/full")
    store = FolderStore(tmp_path)
    store.create("before", b"x")
    staged = tmp_path / STAGING / "link-to-full"
    staged.symlink_to(full)
    monkeypatch.setattr(store, "_staged", lambda: staged)
    with pytest.raises(OSError, match="No space left"):
        store.create("a/b", b"x" * 1_000_000)
    monkeypatch.undo()
    assert names(store) == {"before": 1}


def test_a_replaced_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "page.html"
    killed = (
        "import os, signal, sys; from pathlib import Path; from my_platform.storage import objects\n"
        "objects.os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "objects.replace_file(Path(sys.argv[1]), b'half')"
    )
    replace_file(path, b"first")
    subprocess.run([sys.executable, "-c", killed, str(path)], timeout=60, check=False)
    assert path.read_bytes() == b"first"
    assert len(list(path.parent.iterdir())) == 2
    replace_file(path, b"second")
    assert path.read_bytes() == b"second"
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


# A bucket --------------------------------------------------------------------------------------------------


def test_an_unreachable_bucket_is_an_error_and_not_a_missing_object(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables("http://127.0.0.1:9").items():
        monkeypatch.setenv(name, value)
    store = BucketStore.from_url("s3://my-lake/x", Patience(total_s=0.0))
    for call in (
        lambda: store.read("a"),
        lambda: store.exists("a"),
        lambda: store.create("a", b"x"),
        lambda: names(store),
    ):
        with pytest.raises(StorageUnavailable, match=r"^s3://my-lake/x/.*error"):
            call()
