"""Backups: consistent copies of a home that may be in use.

What points comes before what is pointed at: the events that say what is current are copied while nobody can make
anything current, and then the objects that they name, which are written once and stay. Databases are copied
through SQLite, ledgers of lines under their own lock, up to the end of their last whole line.

A backup is a folder named by its time, whole when its manifest is there. What cannot change is linked to the copy
in the backup before it, so a second one takes the room of what is new.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from my_platform.errors import HomeError, PlatformError
from my_platform.learning.registry_place import RegistryPlace
from my_platform.operations.formats import check_format
from my_platform.operations.home import commit_lock
from my_platform.settings import Settings
from my_platform.storage.objects import STAGING, locked

MANIFEST = "manifest.json"
HOME = "home"
# Made again from what is kept, or of use to a running process only.
_LEFT_OUT = ("analytics", "checkpoints")
# Written once under their name and never changed.
_UNCHANGING = ("lake/", "quarantine/", "registry/bundles/", "mlflow/artifacts/")
_INDEX = "lake/index.sqlite"
# What says what is current, before all that it points at; landing last, so that no event is about a later file.
_ORDER = (
    *("home.json", "dagster/", "registry/promotions.jsonl"),
    *("registry/", "mlflow/", _INDEX, "lake/", "quarantine/"),
)
_SQLITE = b"SQLite format 3\0"
_BESIDE_SQLITE = ("-wal", "-shm", "-journal")
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Kept:
    """A file of a backup: its SHA-256, size in bytes and time of change."""

    sha256: str
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class BackedUp:
    """A backup that was made.

    Attributes:
        linked: how many files were linked to the backup before it.
        elsewhere: the places outside of the home, which are not in it.
    """

    place: Path
    files: int
    bytes: int
    linked: int
    elsewhere: Mapping[str, str]


def back_up(settings: Settings, target: Path) -> BackedUp:
    """Copy a home into a new folder below ``target``, while others may work on it.

    Raises:
        PlatformError: there is no home, or the copy cannot be written.
    """
    if check_format(settings.home) is None:
        raise HomeError(f"{settings.home} is no home, so there is nothing to back up; name it with --home")
    if target.resolve().is_relative_to(settings.home.resolve()):
        raise PlatformError(f"{target} lies in the home {settings.home} itself; choose a folder elsewhere")
    # Of ledgers that machines share a copy is kept, up to this moment.
    RegistryPlace.of(settings).pull()
    name = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
    partial = target / f".{name}.partial"
    try:
        before = latest_of(target)
        partial.mkdir(parents=True)
        done = _copy(settings, partial, before)
        os.replace(partial, target / name)
    except OSError as error:
        raise PlatformError(
            f"the backup in {target} cannot be written: {error.strerror} ({error.filename}). Make room or choose "
            "another folder; the backups that are there stay as they are"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return BackedUp(target / name, len(done.files), done.bytes, done.linked, elsewhere_of(settings))


def latest_of(target: Path) -> Path | None:
    """The last whole backup below a folder; None where there is none."""
    found = sorted(path.parent for path in target.glob(f"[0-9]*/{MANIFEST}"))
    return found[-1] if found else None


def manifest_of(backup: Path) -> dict[str, Kept]:
    """The files of a backup by their path in the home.

    Raises:
        PlatformError: it has none, or one that cannot be read.
    """
    try:
        told = json.loads((backup / MANIFEST).read_bytes())
        return {name: Kept(**kept) for name, kept in told["files"].items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise PlatformError(
            f"{backup / MANIFEST} cannot be read ({error}): {backup} is no whole backup; use another one"
        ) from error


def elsewhere_of(settings: Settings) -> dict[str, str]:
    """What of a home lies outside of its folder, and so in no backup of it: place by name.

    A link is named with where it leads to: what it stands for is not copied.
    """
    home = settings.home.resolve()
    places = {"landing": settings.landing, "lake": settings.lake}
    found = {
        name: url
        for name, url in places.items()
        if "://" in url or not Path(url).resolve().is_relative_to(home)
    }
    if RegistryPlace.of(settings).is_shared:
        found["registry"] = f"{settings.bucket_url}/registry, of which a copy is here"
    storage = storage_elsewhere(settings.dagster_home)
    if storage is not None:
        found["runs and events"] = f"{storage}, as dagster/dagster.yaml says"
    for link in _links(settings.home):
        name = link.relative_to(settings.home).as_posix()
        found[name] = str(link.resolve())
    return found


def storage_elsewhere(dagster_home: Path) -> str | None:
    """The database server that keeps a home's runs and events, where that is no file of the home."""
    try:
        config = yaml.safe_load((dagster_home / "dagster.yaml").read_text())
    except (OSError, yaml.YAMLError):
        return None
    storage = config.get("storage") if isinstance(config, dict) else None
    kinds = [kind for kind in storage if kind != "sqlite"] if isinstance(storage, dict) else []
    return ", ".join(kinds) or None


class _Copying:
    """A backup that is being made."""

    def __init__(self, home: Path, partial: Path, before: Path | None) -> None:
        self.home = home
        self.copy = partial / HOME
        self.before = before
        self.known = manifest_of(before) if before is not None else {}
        self.files: dict[str, Kept] = {}
        self.linked = 0

    @property
    def bytes(self) -> int:
        return sum(kept.size for kept in self.files.values())

    def take(self, name: str) -> None:
        """Copy a file; one that is gone by now, as something newer took its place, is left out."""
        source, target = self.home / name, self.copy / name
        with contextlib.suppress(FileNotFoundError):
            found = source.lstat()
            target.parent.mkdir(parents=True, exist_ok=True)
            known = self.known.get(name)
            if known is not None and self._same(name, known, found) and self._link(name, target):
                self.files[name] = known
                self.linked += 1
                return
            if name.endswith(".jsonl"):
                with locked(source.with_suffix(".lock")):
                    _copy_lines(source, target)
            elif name.endswith(".journal"):
                _copy_lines(source, target)
            elif not _is_unchanging(name) and _is_sqlite(source):
                _copy_database(source, target)
            else:
                shutil.copyfile(source, target)
            os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
            self.files[name] = Kept(sha256_of(target), target.stat().st_size, found.st_mtime_ns)

    def _same(self, name: str, known: Kept, found: os.stat_result) -> bool:
        """Whether the copy before is of this very file: one that was damaged and made again has another time."""
        if (found.st_size, found.st_mtime_ns) != (known.size, known.mtime_ns):
            return False
        return _is_unchanging(name) or name.startswith("landing/")

    def _link(self, name: str, target: Path) -> bool:
        """Link to the copy of the backup before; False where that has gone, or the file system has no links."""
        assert self.before is not None
        try:
            os.link(self.before / HOME / name, target)
        except OSError:
            return False
        return True


def _copy(settings: Settings, partial: Path, before: Path | None) -> _Copying:
    copying = _Copying(settings.home, partial, before)
    pointers = [name for name in _files(settings.home) if name.startswith(_ORDER[:3])]
    with locked(commit_lock(settings)):
        for name in sorted(pointers, key=_rank):
            copying.take(name)
    # Objects that came since are copied too: they are traces of what will be current, and do no harm.
    for name in sorted(_files(settings.home), key=_rank):
        if name not in copying.files and not name.startswith(_ORDER[:3]):
            copying.take(name)
    manifest = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "home": str(settings.home),
        "elsewhere": elsewhere_of(settings),
        "files": {name: vars(kept) for name, kept in sorted(copying.files.items())},
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return copying


def _files(home: Path) -> Iterator[str]:
    """The paths in a home of all that is to be kept."""
    for folder, names, files in os.walk(home):
        inside = Path(folder).relative_to(home)
        names[:] = [
            name for name in names if name != STAGING and not (inside == Path() and name in _LEFT_OUT)
        ]
        present = set(files)
        for name in files:
            path = Path(folder) / name
            beside = any(
                name.endswith(suffix) and name.removesuffix(suffix) in present for suffix in _BESIDE_SQLITE
            )
            if beside or name.endswith(".lock") or ".tmp-" in name or path.is_symlink() or not path.is_file():
                continue
            yield path.relative_to(home).as_posix()


def _links(home: Path) -> Iterator[Path]:
    """The links in a home, to files or to folders."""
    for folder, names, files in os.walk(home):
        for name in sorted((*names, *files)):
            path = Path(folder, name)
            if path.is_symlink():
                yield path


def _is_unchanging(name: str) -> bool:
    return name.startswith(_UNCHANGING) and name != _INDEX


def _rank(name: str) -> tuple[int, str]:
    return next((i for i, start in enumerate(_ORDER) if name.startswith(start)), len(_ORDER)), name


def _is_sqlite(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _copy_lines(source: Path, target: Path) -> None:
    """Copy a file that is only appended to, without a line that is being written."""
    data = source.read_bytes()
    target.write_bytes(data[: data.rfind(b"\n") + 1])


def _copy_database(source: Path, target: Path) -> None:
    """Copy a database as it is at one moment, while others write to it."""
    with (
        contextlib.closing(
            sqlite3.connect(f"{source.absolute().as_uri()}?mode=ro", uri=True, timeout=60)
        ) as database,
        contextlib.closing(sqlite3.connect(target)) as copy,
    ):
        database.backup(copy)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
