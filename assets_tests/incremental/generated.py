"""Graphs of small assets whose code is written to a file, so that it can be edited as a person edits it.

Each kind of function exists twice: as source text that the platform imports and versions, and in plain
Python for the clean build.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import polars as pl

from assets_tests.incremental.clean_build import Inputs, Rejected, Step, Table, Window
from my_platform.errors import PlatformError, Refused
from my_platform.incremental.code import forget_sources
from my_platform.incremental.declare import Asset, Batch, Column, Grain, Produced, Read, table

MODULE = "laws_generated_assets"
Kind = Literal["fold", "top", "size", "days", "gate"]
KINDS: tuple[Kind, ...] = ("fold", "top", "size", "days", "gate")
X = {"x": Column(pl.Int64())}


@dataclass(frozen=True)
class Source:
    """A landed asset."""

    name: str
    grain: str = "day"


@dataclass(frozen=True)
class Derived:
    """An asset that reads others; one window for each."""

    name: str
    kind: Kind
    windows: tuple[Window, ...]
    grain: str = "day"

    @property
    def reads(self) -> dict[str, Window]:
        return {f"r{n}": window for n, window in enumerate(self.windows)}


Graph = tuple[Source | Derived, ...]


@dataclass(frozen=True)
class Code:
    """The state of the source code.

    Attributes:
        mixed, kept: a number in the helper that ``fold`` uses, and in the one that ``top`` uses.
        own: a number in an asset's own function.
        added: a parameter of an asset.
        comment: a number in comments, docstrings and blank lines.
    """

    mixed: int = 0
    kept: int = 0
    comment: int = 0
    own: Mapping[str, int] = field(default_factory=dict)
    added: Mapping[str, int] = field(default_factory=dict)

    def edited(self, asset: str, own: int) -> "Code":
        return replace(self, own={**self.own, asset: own})

    def tuned(self, asset: str, added: int) -> "Code":
        return replace(self, added={**self.added, asset: added})


def assets_of(graph: Graph, code: Code, folder: Path) -> list[Asset]:
    """The assets as the platform takes them, from a module that is written and imported."""
    module = _imported(_source_text(graph, code), folder)
    made = []
    for node in graph:
        parameters = {"added": code.added.get(node.name, 0)}
        if isinstance(node, Source):
            made.append(_source_asset(node, code.own.get(node.name, 0), parameters))
            continue
        reads = {
            name: Read(w.asset, w.first, w.last, "wait" if w.waits else "pass", w.at_least)
            for name, w in node.reads.items()
        }
        made.append(
            table(node.name, grain=Grain(node.grain), reads=reads, parameters=parameters, columns=X)(
                getattr(module, node.name)
            )
        )
    return made


def steps_of(graph: Graph, code: Code) -> list[Step]:
    """The same for the clean build."""
    return [
        Step(
            node.name,
            node.grain,
            _identity(node, code),
            _maker(node, code),
            {} if isinstance(node, Source) else node.reads,
            isinstance(node, Source),
        )
        for node in graph
    ]


def _identity(node: Source | Derived, code: Code) -> object:
    own, added = code.own.get(node.name, 0), code.added.get(node.name, 0)
    if isinstance(node, Source):
        return (own, added)
    helper = {"fold": ("mixed", code.mixed), "top": ("kept", code.kept)}.get(node.kind)
    return (node, own, added, helper)


def _maker(node: Source | Derived, code: Code) -> Callable[[str, Inputs], Table]:
    own, added = code.own.get(node.name, 0), code.added.get(node.name, 0)
    kind = "landed" if isinstance(node, Source) else node.kind

    def make(partition: str, inputs: Inputs) -> Table:
        if kind == "landed":
            ((_, ((_, text),)),) = inputs
            assert isinstance(text, str)
            return tuple(number + own + added for number in _numbers(text))
        values = [x for _, tables in inputs for _, rows in tables for x in rows]  # type: ignore[attr-defined]
        if kind == "fold":
            total = 7
            for value in values:
                total = (total * 31 + value + code.mixed) % 97
            return ((total + own + added) // 3,)
        if kind == "top":
            return tuple(x + own + added for x in sorted(set(values), reverse=True)[: 2 + code.kept])
        if kind == "size":
            return (len(values) + own + added,)
        if kind == "days":
            days = [int(key[-2:] or 0) for _, tables in inputs for key, _ in tables]
            return (int(partition[-2:] or 0) + added, *[day + own for day in days[:2]], *days[-2:])
        if any(value % 5 == (4 + own) % 5 for value in values):
            raise Rejected
        return tuple(value + added for value in values[:3])

    return make


def _source_text(graph: Graph, code: Code) -> str:
    parts = [_HEAD.format(comment=code.comment, mixed=code.mixed, kept=2 + code.kept)]
    for node in graph:
        if isinstance(node, Derived):
            parts.append(
                f"def {node.name}({', '.join(node.reads)}, partition, parameters, inputs):\n"
                + ("    # Edited.\n" * (code.comment % 2))
                + f'    """Version {code.comment} of the text."""\n'
                + _BODIES[node.kind].format(reads=", ".join(node.reads), own=code.own.get(node.name, 0))
            )
    return "\n\n".join(parts)


_HEAD = '''"""Assets, revision {comment}."""
import polars as pl

from my_platform.errors import Refused


def values_of(*frames):
    return [x for frame in frames for x in frame.collect()["x"].to_list()]


def table_of(values):
    return pl.DataFrame({{"x": values}}, schema={{"x": pl.Int64}})


def mix(values):
    total = 7
    for value in values:  # comment {comment}
        total = (total * 31 + value + {mixed}) % 97
    return total


def keep(values):
    return sorted(set(values), reverse=True)[:{kept}]
'''

_BODIES = {
    "fold": '    return table_of([(mix(values_of({reads})) + {own} + parameters["added"]) // 3])\n',
    "top": '    return table_of([x + {own} + parameters["added"] for x in keep(values_of({reads}))])\n',
    "size": '    return table_of([len(values_of({reads})) + {own} + parameters["added"]])\n',
    "days": """    days = [int(key[-2:] or 0) for read in inputs for key in inputs[read]]
    first = int(partition[-2:] or 0) + parameters["added"]
    return table_of([first, *[day + {own} for day in days[:2]], *days[-2:]])
""",
    "gate": """    values = values_of({reads})
    if any(value % 5 == (4 + {own}) % 5 for value in values):
        raise Refused("there is a value that is not wanted")
    return table_of([value + parameters["added"] for value in values[:3]])
""",
}


def _imported(text: str, folder: Path) -> ModuleType:
    path = folder / f"{MODULE}.py"
    path.write_text(text)
    spec = spec_from_file_location(MODULE, path)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[MODULE] = module
    exec(compile(text, str(path), "exec"), module.__dict__)
    forget_sources()
    return module


def _source_asset(node: Source, own: int, parameters: Mapping[str, Any]) -> Asset:
    def compute(batch: Batch) -> Iterator[tuple[str, Produced | Exception]]:
        for key in batch.keys:
            try:
                yield key, Produced(parsed(batch.landed(key), own + parameters["added"]))
            except PlatformError as error:
                yield key, error

    return Asset(
        name=node.name,
        grain=Grain(node.grain),
        reads={"landed": Read(f"landing:{node.name}")},
        compute=compute,
        code=(parsed,),
        parameters={**parameters, "own": own},
        source=node.name,
        columns=X,
    )


def parsed(files: list[tuple[str, bytes]], added: int) -> pl.DataFrame:
    """The numbers of a landed file, one a line below the header."""
    if len(files) > 1:
        raise Refused(f"{len(files)} files for one partition")
    try:
        numbers = _numbers(files[0][1].decode())
    except Rejected as error:
        raise Refused(f"{files[0][0]} is broken") from error
    return pl.DataFrame({"x": [number + added for number in numbers]}, schema={"x": pl.Int64})


def text_of(numbers: tuple[int, ...]) -> str:
    """The text of a landed file."""
    return "".join(f"{line}\n" for line in ("x", *numbers))


def _numbers(text: str) -> list[int]:
    try:
        return [int(line) for line in text.splitlines()[1:]]
    except ValueError:
        raise Rejected from None
