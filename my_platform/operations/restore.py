"""Getting a home back from a backup, every byte checked, into a folder that is empty."""

import hashlib
import json
import os
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from my_platform.errors import HomeError, PlatformError
from my_platform.learning.store_move import relocate
from my_platform.operations.backup import (
    HOME,
    MANIFEST,
    Kept,
    back_up,
    latest_of,
    manifest_of,
    storage_elsewhere,
)
from my_platform.operations.formats import check_format
from my_platform.operations.home import open_instance
from my_platform.settings import Settings

_PACKED = ".tar"
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_CHUNK = 1 << 20


def is_packed(target: Path) -> bool:
    """Whether a backup is one file."""
    return target.name.endswith(_PACKED)


def pack(settings: Settings, file: Path) -> int:
    """Make a backup that is one file, and return the number of files in it; raises PlatformError."""
    if file.exists():
        raise PlatformError(
            f"{file} is there already; name another file, or a folder that keeps several backups"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        done = back_up(settings, Path(folder))
        packed = Path(folder) / "packed"
        with tarfile.open(packed, "w") as archive:
            archive.add(done.place, arcname=done.place.name)
        os.replace(packed, file)
    return done.files


def restore(settings: Settings, source: Path) -> dict[str, Kept]:
    """Make the home of the settings from a backup: a file, a backup's folder, or the last one of a folder of them.

    Raises:
        PlatformError: the home is not empty, there is no backup, or a file of it is not what was backed up; the home
            is then as it was.
    """
    home = settings.home
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise HomeError(
            f"{home} is not empty, and a backup is restored into an empty folder only: name another one with --home, or "
            "move this one away"
        )
    partial = home.with_name(f".{home.name}.{secrets.token_hex(4)}.partial")
    try:
        with _unpacked(source) as backup:
            files = manifest_of(backup)
            for name, kept in files.items():
                _take(backup / HOME / name, partial / name, kept)
            _settle(settings, partial, backup)
        os.replace(partial, home)
    except OSError as error:
        raise PlatformError(
            f"{source} cannot be restored into {home}: {error.strerror or error} ({error.filename})"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return files


@contextmanager
def _unpacked(source: Path) -> Iterator[Path]:
    if source.is_file():
        with tempfile.TemporaryDirectory(prefix="my_platform_", dir=source.absolute().parent) as folder:
            try:
                with tarfile.open(source) as archive:
                    archive.extractall(folder, filter="data")
            except tarfile.TarError as error:
                raise PlatformError(f"{source} is no backup, or was cut short: {error}") from error
            yield _found(Path(folder), source)
    else:
        yield source if (source / MANIFEST).exists() else _found(source, source)


def _found(folder: Path, source: Path) -> Path:
    found = latest_of(folder)
    if found is None:
        raise PlatformError(
            f"there is no whole backup in {source}: expected a folder with {MANIFEST}, as `my-platform backup` makes it"
        )
    return found


def _take(source: Path, target: Path, kept: Kept) -> None:
    """Copy a file of a backup and check what was copied."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    try:
        with open(source, "rb") as file, open(target, "xb") as copy:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                copy.write(chunk)
    except FileNotFoundError:
        raise PlatformError(f"{source} is missing, so the backup is not whole; use another one") from None
    if digest.hexdigest() != kept.sha256:
        raise PlatformError(f"{source} is not what was backed up: its bytes have changed; use another backup")
    os.utime(target, ns=(kept.mtime_ns, kept.mtime_ns))


def _settle(settings: Settings, partial: Path, backup: Path) -> None:
    """Make what was copied a home of its own: nothing runs in it, and MLflow's files lie in it."""
    check_format(partial)
    _move_artifacts(partial / "mlflow" / "mlflow.db", settings.home, backup)
    if storage_elsewhere(partial / "dagster") is not None:
        # Another home may be at work on that database: its runs are not this one's to end.
        return
    before = os.environ.get("DAGSTER_HOME")
    try:
        with open_instance(settings.model_copy(update={"home": partial})) as instance:
            for run in instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY)):
                instance.report_run_failed(
                    run, "it was under way when the backup was made that this home is from"
                )
    finally:
        os.environ.pop("DAGSTER_HOME", None)
        if before is not None:
            os.environ["DAGSTER_HOME"] = before


def _move_artifacts(database: Path, home: Path, backup: Path) -> None:
    """Tell MLflow where its files lie in the restored home."""
    old = Path(json.loads((backup / MANIFEST).read_bytes())["home"]).as_uri()
    if not database.exists() or old == home.as_uri():
        return
    import sqlalchemy as sa

    engine = sa.create_engine(f"sqlite:///{database}")
    try:
        relocate(engine, old, home.as_uri())
    finally:
        engine.dispose()
