"""Checks of where tables lie: whether landing can be read, whether the lake keeps its promises, and whether the index
tells of the objects what they are.

Probes are written under names that no table has, and removed again.
"""

import contextlib
import os
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from my_platform.errors import DamagedObject
from my_platform.operations.doctor.findings import Check, Told, ok, problem, warning
from my_platform.settings import Settings
from my_platform.storage.bucket import Patience
from my_platform.storage.objects import STAGING, BucketStore, FolderStore, open_store, this_writer
from my_platform.storage.places import open_place
from my_platform.storage.sealed import record_of
from my_platform.storage.trace_index import Trace

_SAMPLE = 100
_MOST_SHOWN = 5
_MOST_DRIFT_S = 5.0
# A person waits for the answer.
BRIEFLY = Patience(total_s=5.0, silence_s=10.0)
_HEAL = "run `my-platform refresh --verify`: what is damaged is computed again"


def landing(settings: Settings) -> Iterator[Told]:
    """Whether landed files can be listed and read."""
    place = open_place(settings.landing, BRIEFLY)
    if "://" not in settings.landing:
        folder = Path(settings.landing)
        if not folder.is_dir():
            yield problem(f"landing {folder} is no folder", "make it, or set MY_PLATFORM_LANDING_URL")
            return
        tables = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        if denied := [path for path in tables if not os.access(path, os.R_OK)]:
            yield problem(
                f"{denied[0]} and {len(denied) - 1} others in landing cannot be read",
                f"give the user of this process the right to read {folder}",
            )
            return
        yield ok(f"{folder} can be read; {len(tables)} tables and files lie there")
        return
    found = sum(1 for _ in zip(range(_SAMPLE), place.below(""), strict=False))
    yield ok(
        f"{settings.landing} can be reached; {'at least ' if found == _SAMPLE else ''}{found} files lie there"
    )


def lake(settings: Settings) -> Iterator[Told]:
    """Whether an object is created once, whole, and only by the first who writes it."""
    if "://" not in settings.lake and not Path(settings.lake).is_dir():
        yield problem(f"the lake {settings.lake} is no folder", "run `my-platform prepare`")
        return
    store = open_store(settings.lake, BRIEFLY)
    path, data = f"{STAGING}/{this_writer()}/{secrets.token_hex(8)}", secrets.token_bytes(64)
    try:
        first, second = store.create(path, data), store.create(path, b"another")
        if not first or second or store.read(path) != data:
            yield problem(
                f"{settings.lake} does not honour conditional writes: a second writer replaced what the first had "
                "written",
                "use a store that honours `If-None-Match: *` (Amazon S3, MinIO, Ceph), or a local file system",
            )
            return
        written = store.modified(path)
        drift_s = abs(time.time() - written) if written is not None else 0.0
    except OSError as error:
        yield problem(
            f"{settings.lake} cannot be written: {error}",
            "give the user of this process the right to write there, on a file system that has hard links",
        )
        return
    finally:
        with contextlib.suppress(OSError):
            store.delete(path)
            if isinstance(store, FolderStore):
                (store.folder / STAGING / this_writer()).rmdir()
    if drift_s > _MOST_DRIFT_S:
        yield warning(
            f"the clock of {settings.lake} is {drift_s:,.0f} s away from this one",
            "set both clocks (NTP): `gc --keep-days` goes by the store's",
        )
    else:
        yield ok(f"{settings.lake} can be read and written, and a name is taken by its first writer only")


def index_of(settings: Settings) -> Path:
    """Where the trace index lies."""
    return (settings.home / "lake" if "://" in settings.lake else Path(settings.lake)) / "index.sqlite"


def traces(*, deep: bool) -> Check:
    """Whether the objects that the index tells of are there and whole: a sample of them, or all."""

    def check(settings: Settings) -> Iterator[Told]:
        path = index_of(settings)
        if not path.exists():
            yield warning(
                f"there is no index {path}", "run `my-platform refresh`, which fills it from the objects"
            )
            return
        try:
            known = _traces(path)
        except sqlite3.DatabaseError as error:
            yield problem(
                f"the index {path} cannot be read: {error}",
                "run `my-platform refresh`, which makes it anew from the objects; costs and refusals are lost",
            )
            return
        store = open_store(settings.lake, BRIEFLY)
        step = 1 if deep else max(1, len(known) // _SAMPLE)
        looked_at = known[::step]
        bad = [said for trace in looked_at if (said := _unlike(store, trace))]
        if bad:
            told = "; ".join(bad[:_MOST_SHOWN])
            more = f", and {len(bad) - _MOST_SHOWN} more" if len(bad) > _MOST_SHOWN else ""
            yield problem(
                f"{len(bad)} of {len(looked_at)} objects are not what the index says: {told}{more}", _HEAL
            )
        else:
            kind = "all" if deep else "a sample of"
            yield ok(f"{kind} {len(looked_at):,} of {len(known):,} objects are whole and what the index says")
        if deep:
            yield _unknown(store, known)

    return check


def _traces(path: Path) -> list[Trace]:
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
        (verdict,) = database.execute("pragma quick_check(1)").fetchone()
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        return [Trace(*row) for row in database.execute("select * from traces order by 1, 2, 3")]


def _path(trace: Trace) -> str:
    return f"{trace.asset}/{trace.partition or 'all'}/{trace.fingerprint}.parquet"


def _unlike(store: FolderStore | BucketStore, trace: Trace) -> str:
    """What is wrong with the object of a trace; empty where nothing is."""
    path = _path(trace)
    try:
        record = record_of(store.read(path), f"{store.root}/{path}")
    except DamagedObject as error:
        return f"{error.path}: {error.reason}"
    if record["data_version"] != trace.data_version:
        return f"{store.root}/{path}: it has data version {record['data_version']}, expected {trace.data_version}"
    return ""


def _unknown(store: FolderStore | BucketStore, known: Sequence[Trace]) -> Told:
    paths = {_path(trace) for trace in known}
    strange = [path for path, _ in store.list("") if path.endswith(".parquet") and path not in paths]
    if strange:
        return warning(
            f"{len(strange)} objects are unknown to the index, such as {strange[0]}",
            "nothing is lost: they are taken in when they are needed",
        )
    return ok("the index knows every object")
