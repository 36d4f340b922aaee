"""Checks of a home as a folder: what is in it, who may write there, room, clock, and what was left half-written."""

import os
import re
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from my_platform.operations.doctor.findings import Told, ok, problem, warning
from my_platform.operations.formats import FORMAT, check_format
from my_platform.operations.home import FOLDERS
from my_platform.settings import Settings
from my_platform.storage.objects import STAGING, has_ended

_LEAST_FREE_BYTES = 1 << 30
_LITTLE_FREE_SHARE = 0.05
_MOST_DRIFT_S = 5.0
_MOST_SHOWN = 3
_STAGED = re.compile(r"^\..+\.tmp-(?P<writer>.+)-[0-9a-f]{8}$")


def layout(settings: Settings) -> Iterator[Told]:
    """Whether the home is there with its folders."""
    home = settings.home
    if not home.exists():
        yield problem(
            f"there is no folder {home}", "run `my-platform prepare`, or name another one with --home"
        )
        return
    if not home.is_dir():
        yield problem(f"{home} is no folder", "name another home with --home or MY_PLATFORM_HOME")
        return
    missing = [name for name in FOLDERS if not (home / name).is_dir()]
    if missing:
        yield problem(f"{home} lacks {', '.join(missing)}", "run `my-platform prepare`, which makes them")
    else:
        yield ok(f"{home} has all its folders")


def home_format(settings: Settings) -> Iterator[Told]:
    """Whether this version reads the home."""
    found = check_format(settings.home)
    if found is None:
        yield problem(f"{settings.home} is no home yet", "run `my-platform prepare`")
    elif found < FORMAT:
        yield warning(
            f"the home has format {found}, made by an older version",
            f"make a backup (`my-platform backup FOLDER`), then run `my-platform prepare`: it migrates to {FORMAT}",
        )
    else:
        yield ok(f"format {found}")


def permissions(settings: Settings) -> Iterator[Told]:
    """Whether this process may read and write what it has to, and whether secrets are for its user alone."""
    writable = [settings.home, *(settings.home / name for name in FOLDERS)]
    files = [
        *settings.dagster_home.glob("**/*.db"),
        *settings.registry.glob("*.jsonl"),
        settings.home / "home.json",
    ]
    denied = [
        path for path in (*writable, *files) if path.exists() and not os.access(path, os.R_OK | os.W_OK)
    ]
    if denied:
        yield problem(
            f"{_some(denied)} cannot be read and written by the user of this process ({_user()})",
            f"run `chown -R {_user()} {settings.home}` as root",
        )
    else:
        yield ok(f"the user {_user()} may read and write the home")
    tokens = settings.serve_tokens
    if tokens is not None and tokens.exists() and tokens.stat().st_mode & 0o077:
        yield warning(f"other users may read the tokens in {tokens}", f"run `chmod 600 {tokens}`")


def disk(settings: Settings) -> Iterator[Told]:
    """How much room is left where the platform writes."""
    places = {settings.home, *(Path(url) for url in (settings.lake, settings.landing) if "://" not in url)}
    seen = set()
    for place in sorted(places):
        if not place.exists() or (device := place.stat().st_dev) in seen:
            continue
        seen.add(device)
        room = shutil.disk_usage(place)
        told = f"{room.free / 1e9:,.1f} GB of {room.total / 1e9:,.1f} GB are free at {place}"
        nodes = os.statvfs(place)
        if nodes.f_files and nodes.f_favail * 100 < nodes.f_files:
            told = f"{nodes.f_favail:,} of {nodes.f_files:,} inodes are free at {place}"
            yield problem(told, "remove small files there, or run `my-platform gc`")
        elif room.free < _LEAST_FREE_BYTES:
            yield problem(told, "run `my-platform gc --keep-days 7`, or make room")
        elif room.free < _LITTLE_FREE_SHARE * room.total:
            yield warning(told, "run `my-platform gc --dry-run` to see what can go")
        else:
            yield ok(told)


def unfinished(settings: Settings) -> Iterator[Told]:
    """What killed processes left half-written."""
    left = [
        file
        for root in (settings.home / "lake", settings.home / "quarantine", Path(settings.lake))
        if (root / STAGING).is_dir()
        for writer in (root / STAGING).iterdir()
        if has_ended(writer.name, writer)
        for file in writer.iterdir()
    ]
    for folder in ("registry", "dagster", "reports", "serving", "landing"):
        for path in (settings.home / folder).glob("**/.*.tmp-*"):
            match = _STAGED.match(path.name)
            if match and has_ended(match["writer"], path):
                left.append(path)
    left = sorted(set(left))
    if left:
        yield warning(
            f"{len(left)} half-written files of processes that have ended, such as {left[0]}",
            "they count for nothing; `my-platform refresh` removes those of the lake, the others can be deleted",
        )
    else:
        yield ok("no half-written file was left behind")


def clock(settings: Settings) -> Iterator[Told]:
    """Whether this machine's clock runs behind what was written, here or on another machine."""
    newest = max(
        (path.stat().st_mtime for path in (settings.dagster_home / "history").glob("runs*/*.db")), default=0.0
    )
    now = time.time()
    if newest > now + _MOST_DRIFT_S:
        yield problem(
            f"Dagster's events were written {newest - now:,.0f} s in the future of this clock ({_utc(now)})",
            "set the clock (NTP) of this machine, or of the one that wrote them",
        )
    elif now < datetime(2026, 1, 1, tzinfo=UTC).timestamp():
        yield problem(f"the clock says {_utc(now)}", "set the clock (NTP) of this machine")
    else:
        yield ok(f"the clock says {_utc(now)}, which is after all that was written")


def _some(paths: list[Path]) -> str:
    told = ", ".join(map(str, paths[:_MOST_SHOWN]))
    return told + (f" and {len(paths) - _MOST_SHOWN} more" if len(paths) > _MOST_SHOWN else "")


def _user() -> str:
    import getpass

    return getpass.getuser()


def _utc(at_s: float) -> str:
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="seconds")
