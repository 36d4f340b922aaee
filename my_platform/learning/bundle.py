"""Bundles: a champion with all that belongs to it, under one name.

A bundle is the model's files, the code versions of the features and of all else that it was made by, the data
versions it was made from, the verdict of the gate and the operating threshold. Its name is the SHA-256 of what
its `bundle.json` says, and that names the SHA-256 of each file: whoever holds the name can tell that nothing
of it was changed, and training and serving cannot part.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from my_platform.errors import DamagedBundle, DamagedObject, PlatformError
from my_platform.storage.objects import ObjectStore, replace_file

_ABOUT = "bundle.json"


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read and found whole."""

    digest: str
    about: Mapping[str, Any]
    files: Mapping[str, bytes]

    def other_code(self, code_versions: Mapping[str, str]) -> list[str]:
        """The assets whose code is not the one that the bundle was made by; serving with it would part them."""
        made_by: Mapping[str, str] = self.about["code"]
        return sorted(name for name, version in made_by.items() if code_versions.get(name) != version)


def write_bundle(folder: Path, about: Mapping[str, Any], files: Mapping[str, bytes]) -> str:
    """Store a bundle below a folder and return its name; one that is there already and whole is left alone.

    Args:
        about: plain JSON values that hold no clock; the files' digests are added.
    """
    whole = {**about, "files": {name: _digest(data) for name, data in sorted(files.items())}}
    text = json.dumps(whole, sort_keys=True, indent=1).encode()
    digest = _digest(text)
    try:
        read_bundle(folder, digest)
    except DamagedBundle:
        for name, data in files.items():
            replace_file(folder / digest / name, data)
        # Last: a bundle is there when this file is.
        replace_file(folder / digest / _ABOUT, text)
    return digest


def read_bundle(folder: Path, digest: str) -> Bundle:
    """The bundle of that name, every byte of it checked.

    Raises:
        DamagedBundle: it is not there, or a file is not what it was.
    """
    text = _read(folder, digest, _ABOUT)
    if _digest(text) != digest:
        raise DamagedBundle(folder / digest / _ABOUT, "its bytes are not those that the bundle is named by")
    about = json.loads(text)
    files = {}
    for name, expected in about["files"].items():
        files[name] = _read(folder, digest, name)
        if _digest(files[name]) != expected:
            raise DamagedBundle(folder / digest / name, "its bytes are not those that were promoted")
    return Bundle(digest, about, files)


def bundle_called(folder: Path, start: str) -> Bundle:
    """The bundle whose name begins with some of its digits, every byte of it checked.

    Raises:
        DamagedBundle: there is none, there are several, or it is not whole.
    """
    found = sorted(path.name for path in folder.glob(f"{start}*"))
    if len(found) != 1:
        raise DamagedBundle(folder / start, f"{len(found)} bundles have this name, where one is expected")
    return read_bundle(folder, found[0])


def send_bundle(store: ObjectStore, folder: Path, digest: str) -> None:
    """Have a bundle of this machine's folder in the store; one that is there is left alone.

    Raises:
        PlatformError: it is not whole here, or the store has something else under its name.
    """
    if store.exists(_object(digest, _ABOUT)):
        return
    try:
        bundle = read_bundle(folder, digest)
    except DamagedBundle as error:
        raise PlatformError(
            f"{error.path} cannot be sent to {store.root}, where all machines share what the ledger names: {error.reason}; "
            "put it back from a backup"
        ) from error
    # Last: a bundle is there when this file is.
    files = {**bundle.files, _ABOUT: (folder / digest / _ABOUT).read_bytes()}
    for name, data in files.items():
        path = _object(digest, name)
        if not store.create(path, data) and store.read(path) != data:
            raise PlatformError(
                f"{store.root}/{path} is not what {folder / digest / name} is: remove the object, and try again"
            )


def take_bundle(store: ObjectStore, folder: Path, digest: str) -> None:
    """Have a bundle of the store in this machine's folder, whole; one that is there is left alone.

    Raises:
        PlatformError: a file of it is missing in the store, or is not what was promoted.
    """
    try:
        read_bundle(folder, digest)
    except DamagedBundle:
        text = _fetch(store, digest, _ABOUT, digest)
        files = {
            name: _fetch(store, digest, name, expected)
            for name, expected in json.loads(text)["files"].items()
        }
        for name, data in files.items():
            replace_file(folder / digest / name, data)
        # Last: a bundle is there when this file is.
        replace_file(folder / digest / _ABOUT, text)


def _read(folder: Path, digest: str, name: str) -> bytes:
    try:
        return (folder / digest / name).read_bytes()
    except FileNotFoundError:
        raise DamagedBundle(folder / digest / name, "the file is not there") from None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _fetch(store: ObjectStore, digest: str, name: str, expected: str) -> bytes:
    """The bytes of a file, which are those that its digest names."""
    path = _object(digest, name)
    try:
        data = store.read(path)
    except DamagedObject:
        raise _damaged(store, path, "the object is not there") from None
    inside = ".." not in PurePosixPath(name).parts and not PurePosixPath(name).is_absolute()
    if _digest(data) != expected or not inside:
        raise _damaged(store, path, "it is not what was promoted")
    return data


def _damaged(store: ObjectStore, path: str, found: str) -> PlatformError:
    return PlatformError(
        f"{store.root}/{path}: {found}, and the promotion ledger names its bundle. Put the object back as it was; machines "
        "that took the promotion over before have the file below registry/ of their home"
    )


def _object(digest: str, name: str) -> str:
    return f"bundles/{digest}/{name}"
