"""What was found out about the statements of a module, kept beside its bytecode.

Normalising a statement takes a millisecond or two, and a project has hundreds: as long as all of Dagster takes to
load. What comes out depends on nothing but the module's source and name, this platform's own reading of syntax, and
Python's version; all of them are in the digest under which it is kept. A file that is missing, torn or of another
digest is made anew, and where none can be written nothing is kept.
"""

import ast
import contextlib
import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Analysed:
    """A statement's normalised source, and the names it reads with the attributes that follow them.

    Attributes:
        outer: names of the module. A name can be one in one scope of the statement and a local one in another.
        imported: names that the statement imports, with the imports.
    """

    text: str
    outer: Sequence[tuple[str, ...]]
    imported: Sequence[tuple[ast.Import | ast.ImportFrom, tuple[str, ...]]]


# Read as this module is imported, like those that it describes.
_READING = b"".join(
    hashlib.sha256(Path(__file__).with_name(name).read_bytes()).digest()
    for name in ("analyses.py", "sources.py", "syntax.py")
)


class Analyses:
    """What is known of the statements of one module.

    Args:
        name, package: the module's, by which its relative imports are resolved.
        file: where its source lies.
        source: its bytes.
    """

    def __init__(self, name: str, package: str, file: str, source: bytes) -> None:
        self._digest = _digest(name, package, source)
        self._place = Path(importlib.util.cache_from_source(file)).with_suffix(".analysed.json")
        self._kept: dict[str, Any] | None = None
        self._new = False

    def get(self, statement: ast.stmt) -> Analysed | None:
        """What was found out about a statement; None if nothing was."""
        if self._kept is None:
            self._kept = self._read()
        found = self._kept.get(_position(statement))
        if found is None:
            return None
        text, outer, imported = found
        return Analysed(
            text,
            [tuple(chain) for chain in outer],
            [(_import(line), tuple(chain)) for line, chain in imported],
        )

    def put(self, statement: ast.stmt, found: Analysed) -> None:
        assert self._kept is not None
        imported = [[ast.unparse(node), chain] for node, chain in found.imported]
        self._kept[_position(statement)] = [found.text, found.outer, imported]
        self._new = True

    def keep(self) -> None:
        """Write what is new; a reader sees the whole file or the one before."""
        if not self._new or sys.dont_write_bytecode:
            return
        self._new = False
        temporary = self._place.with_suffix(f".{os.getpid()}.tmp")
        with contextlib.suppress(OSError):
            self._place.parent.mkdir(exist_ok=True)
            temporary.write_text(json.dumps({"digest": self._digest, "statements": self._kept}))
            temporary.replace(self._place)

    def _read(self) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._place.read_bytes())
            if isinstance(found, dict) and found.get("digest") == self._digest:
                return dict(found["statements"])
        return {}


def _digest(name: str, package: str, source: bytes) -> str:
    digest = hashlib.sha256(_READING)
    for part in (sys.version.encode(), name.encode(), package.encode(), source):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def _position(statement: ast.stmt) -> str:
    """Where a statement stands, which is one statement's place alone but for an expression that is one by itself."""
    return (
        f"{statement.lineno}:{statement.col_offset}-{statement.end_lineno}:{statement.end_col_offset}"
        f" {type(statement).__name__}"
    )


def _import(line: str) -> ast.Import | ast.ImportFrom:
    statement = ast.parse(line).body[0]
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    return statement
