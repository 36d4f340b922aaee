"""The format of a home: a stamp that says how what lies there is laid out, and the steps from one format to the next.

A home that an older version made is brought to the present format when it is opened. A step may be cut off
anywhere and is done again then; small files are copied aside before the first one. A home of a newer version is
refused, for what it holds would be read wrongly.
"""

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Mapping
from pathlib import Path

from my_platform.errors import HomeError
from my_platform.operations.instance_config import instance_config
from my_platform.storage.objects import locked, replace_file

FORMAT = 2
_STAMP = "home.json"
_CONFIG = "dagster/dagster.yaml"
# Version 0.1.0 left no stamp. Whatever it made a home of has this file.
_FIRST_FORMAT = 1
_SMALL_FILES = (_STAMP, _CONFIG, "registry/promotions.jsonl", "registry/thresholds.jsonl")
# The configuration that 0.1.0 wrote: who never edited it gets what came since, such as other limits.
_CONFIG_OF_0_1_0 = "c5d8fc388341506feeb991bbfb9caa86532155033e2a9b1da4b968374e4a23ca"


def format_of(home: Path) -> int | None:
    """The format of a home; None for a folder that no version has made a home of yet.

    Raises:
        HomeError: the stamp cannot be read.
    """
    try:
        text = (home / _STAMP).read_bytes()
    except FileNotFoundError:
        return _FIRST_FORMAT if (home / _CONFIG).exists() else None
    try:
        found = json.loads(text)["format"]
        if type(found) is not int or found < 1:
            raise ValueError
    except (ValueError, LookupError, TypeError):
        raise HomeError(
            f'{home / _STAMP} is damaged: expected a JSON object such as {{"format": {FORMAT}}}, found {text[:80]!r}; '
            "put it back as it was, from a backup if there is one"
        ) from None
    return found


def check_format(home: Path) -> int | None:
    """The same for a home that this version can read.

    Raises:
        HomeError: a newer version made it, or the stamp cannot be read.
    """
    found = format_of(home)
    if found is not None and found > FORMAT:
        raise HomeError(
            f"the home {home} has format {found}, and this version of the platform reads formats up to {FORMAT}. A "
            "newer version has made or migrated it: use that one, or restore a backup from before into another home"
        )
    return found


def bring_to_present(home: Path, steps: Mapping[int, Callable[[Path], None]] | None = None) -> list[int]:
    """Stamp a new home, or migrate one of an older version; the formats that it had before each step.

    Raises:
        HomeError: a newer version made it, or the stamp cannot be read.
    """
    if check_format(home) == FORMAT:
        return []
    done = []
    with locked(home / "format.lock"):
        found = check_format(home)
        if found is None:
            _stamp(home, FORMAT)
            return []
        if found < FORMAT:
            _copy_aside(home, home / f"before-format-{FORMAT}")
        while found < FORMAT:
            (steps or _STEPS)[found](home)
            done.append(found)
            found += 1
            _stamp(home, found)
    return done


def _stamp(home: Path, number: int) -> None:
    made_by = importlib.metadata.version("my-platform")
    replace_file(home / _STAMP, json.dumps({"format": number, "version": made_by}).encode() + b"\n")


def _copy_aside(home: Path, folder: Path) -> None:
    """Copy the small files that no step can make again; a copy from before a crash stays as it is."""
    for name in _SMALL_FILES:
        if (home / name).exists() and not (folder / name).exists():
            replace_file(folder / name, (home / name).read_bytes())


def _renew_instance_config(home: Path) -> None:
    """From 1 to 2: homes had a configuration of Dagster that was never renewed, and no stamp."""
    config = home / _CONFIG
    if hashlib.sha256(config.read_bytes()).hexdigest() == _CONFIG_OF_0_1_0:
        replace_file(config, instance_config().encode())


_STEPS: Mapping[int, Callable[[Path], None]] = {1: _renew_instance_config}
