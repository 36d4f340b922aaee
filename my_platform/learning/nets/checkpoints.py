"""Where an interrupted fit goes on from: one file a fit, replaced whole, in the safetensors format."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import PlatformError
from my_platform.learning.nets.tensors import read_tensors, write_tensors

# Fits that were given up leave theirs behind.
_MOST_KEPT = 8
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class State:
    """All that a fit needs to go on: arrays by name, and plain values."""

    arrays: Mapping[str, NDArray[np.generic]]
    values: Mapping[str, Any]


def source_digest() -> str:
    """The digest of the code of the nets: a checkpoint of other code is of no use."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


_CODE = source_digest()


def identity(*parts: Any) -> str:
    """The name of a fit: a digest of what it is made from, plain values all, and of the code."""
    return hashlib.sha256(json.dumps([_CODE, *parts], sort_keys=True).encode()).hexdigest()[:32]


def save_state(folder: Path, name: str, state: State) -> None:
    """Replace the checkpoint of a fit; whoever reads it meanwhile gets the one before."""
    folder.mkdir(parents=True, exist_ok=True)
    data = write_tensors(state.arrays, {"values": json.dumps(state.values), "digest": _digest(state)})
    staged = folder / f".{name}.{os.getpid()}"
    staged.write_bytes(data)
    os.replace(staged, folder / f"{name}{_SUFFIX}")
    kept = sorted(folder.glob(f"*{_SUFFIX}"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in kept[_MOST_KEPT:]:
        path.unlink(missing_ok=True)


def load_state(folder: Path, name: str) -> State | None:
    """The checkpoint of a fit; None where there is none, and where it is damaged."""
    path = folder / f"{name}{_SUFFIX}"
    if not path.exists():
        return None
    try:
        arrays, texts = read_tensors(path.read_bytes(), str(path))
        state = State(arrays, json.loads(texts["values"]))
    except (PlatformError, KeyError, ValueError):
        return None
    return state if texts.get("digest") == _digest(state) else None


def forget_state(folder: Path, name: str) -> None:
    (folder / f"{name}{_SUFFIX}").unlink(missing_ok=True)


def _digest(state: State) -> str:
    digest = hashlib.sha256(json.dumps(state.values, sort_keys=True).encode())
    for name in sorted(state.arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(state.arrays[name]).tobytes())
    return digest.hexdigest()
