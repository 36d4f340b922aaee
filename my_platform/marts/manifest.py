"""The marts that a dbt project declares, read from dbt's manifest without importing dbt.

Where a model says what it is, in its properties file::

    config:
      meta:
        my_platform:
          asset: marts/daily_orders_by_shop
          reads:                      # only where a read differs from its source's own default
            orders: {first: -6, last: 0, gaps: pass, at_least: 1}

and a source says the same of itself, with ``partitioned: false`` for a table that is not cut into days. A
model that names no asset is no mart; it may be a step (ephemeral, view or table) on the way to one, and
then counts as part of it.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from my_platform.marts.code import CodeIndex
from my_platform.marts.errors import MartError

DAY_COLUMN = "partition_day"


class Column(NamedTuple):
    """A column: its type in DuckDB's words, and what it means."""

    type: str
    description: str


@dataclass(frozen=True)
class MartRead:
    """What a partition of a mart reads of one input.

    Attributes:
        asset: the asset of the platform that the input is.
        relation: schema and name by which the SQL knows it.
        columns: type by name; ``partition_day`` is the partition's day and lies in no file.
        partitioned: whether the input is cut into days. One that is not is read whole.
        first, last: the days read, as offsets from the mart's own day, both included.
        gaps: ``wait`` for days that are missing, or ``pass`` over them.
        at_least: days (or the one file) that must be there, whatever ``gaps`` says.
        is_mart: whether the input is another mart of this project.
    """

    asset: str
    relation: tuple[str, str]
    columns: Mapping[str, str]
    partitioned: bool = True
    first: int = 0
    last: int = 0
    gaps: Literal["wait", "pass"] = "wait"
    at_least: int = 1
    is_mart: bool = False


@dataclass(frozen=True)
class MartTest:
    """A dbt test of a mart; ``column`` is None where it looks at whole rows."""

    id: str
    name: str
    column: str | None
    severity: Literal["error", "warn"]


@dataclass(frozen=True)
class Mart:
    """A daily table that dbt makes.

    Attributes:
        name: the dbt model.
        asset: the asset of the platform that the mart is.
        relation: schema and name of the table that dbt makes.
        columns: in the order of the table.
        reads: by the name of the source table or of the other mart.
        raw_sql: the model as it is written.
        code: plain values to be hashed: all that decides the table's rows besides the inputs, and its tests.
            Layout, comments, descriptions and paths are not in it.
        tests: the dbt tests that every value has to pass.
        steps: models on the way to this one that are no marts themselves and that dbt has to build.
    """

    name: str
    asset: str
    relation: tuple[str, str]
    description: str
    columns: Mapping[str, Column]
    reads: Mapping[str, MartRead]
    raw_sql: str
    code: Mapping[str, Any] = field(repr=False)
    tests: tuple[MartTest, ...]
    steps: tuple[str, ...] = ()


def load_marts(manifest_path: Path, vars: Mapping[str, Any] | None = None) -> tuple[Mart, ...]:
    """The marts of a dbt project, by name.

    Args:
        manifest_path: what ``prepare.ensure_manifest`` returned.
        vars: values that replace those of ``dbt_project.yml``; the run has to be given the same.

    Raises:
        MartError: a model cannot be a mart as it is written; the text names it and the way out.
    """
    project = _Project(json.loads(manifest_path.read_bytes()), vars or {})
    return tuple(project.mart(model) for model in project.marts())


class _Project:
    """A dbt manifest, and the walks over it."""

    def __init__(self, manifest: dict[str, Any], vars: Mapping[str, Any]) -> None:
        nodes = manifest["nodes"]
        self.models = {key: node for key, node in nodes.items() if node["resource_type"] == "model"}
        self.tests = {key: node for key, node in nodes.items() if node["resource_type"] == "test"}
        self.sources = manifest["sources"]
        self.code = CodeIndex(manifest, vars)

    def marts(self) -> list[str]:
        return sorted(key for key, node in self.models.items() if "asset" in meta_of(node))

    def mart(self, model: str) -> Mart:
        node = self.models[model]
        name = node["name"]
        if node["language"] != "sql" or node["config"]["materialized"] != "table":
            raise MartError(
                f"mart {name} is {node['config']['materialized']} in {node['language']}; the platform keeps "
                f"the history of a mart itself: make it a SQL model with materialized: table"
            )
        columns = _columns(node)
        if columns.get(DAY_COLUMN, Column("", "")).type.lower() != "date":
            raise MartError(
                f"mart {name} has no column {DAY_COLUMN} of data_type date; declare it in its columns"
            )
        steps = sorted(self._steps(model))
        reads = self._reads(model, steps)
        tests = self._tests_of(model, steps)
        return Mart(
            name=name,
            asset=meta_of(node)["asset"],
            relation=_relation(node),
            description=node["description"].strip(),
            columns=columns,
            reads=reads,
            raw_sql=node["raw_code"],
            code={
                "columns": [[column, kind] for column, (kind, _) in columns.items()],
                "inputs": {name: sorted(read.columns.items()) for name, read in reads.items()},
                **self.code.of(
                    node, [self.models[step] for step in steps], [self.tests[test] for test in tests]
                ),
            },
            tests=tuple(_test(key, self.tests[key]) for key in tests),
            steps=tuple(
                self.models[step]["name"]
                for step in steps
                if self.models[step]["config"]["materialized"] != "ephemeral"
            ),
        )

    def _steps(self, model: str) -> set[str]:
        """The models between a mart and its inputs that are no marts themselves."""
        found: set[str] = set()
        waiting = [model]
        while waiting:
            for parent in self.models[waiting.pop()]["depends_on"]["nodes"]:
                if (
                    parent in self.models
                    and "asset" not in meta_of(self.models[parent])
                    and parent not in found
                ):
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _reads(self, model: str, steps: Sequence[str]) -> dict[str, MartRead]:
        mart = self.models[model]["name"]
        own = dict(meta_of(self.models[model]).get("reads", {}))
        reads: dict[str, MartRead] = {}
        for key in sorted({p for node in (model, *steps) for p in self.models[node]["depends_on"]["nodes"]}):
            if key in steps:
                continue
            node = self.sources.get(key) or self.models.get(key)
            if node is None:
                raise MartError(f"mart {mart} reads {key}; a mart may read sources and models only")
            if node["name"] in reads:
                raise MartError(f"mart {mart} reads two tables named {node['name']}; rename one of them")
            reads[node["name"]] = _read(mart, node, own.pop(node["name"], {}))
        if own:
            raise MartError(
                f"mart {mart}: its meta says how it reads {', '.join(own)}, which its SQL does not read; "
                f"it reads {', '.join(reads) or 'nothing'}"
            )
        return reads

    def _ancestors(self, model: str) -> Iterator[str]:
        for parent in self.models[model]["depends_on"]["nodes"]:
            if parent in self.models:
                yield parent
                yield from self._ancestors(parent)

    def _tests_of(self, model: str, steps: Sequence[str]) -> list[str]:
        """The tests that dbt can run with this mart and what it reads, and that look at the mart itself."""
        own = {model, *steps}
        reachable = own | set(self._ancestors(model))
        found: list[str] = []
        for key, test in sorted(self.tests.items()):
            tested = {parent for parent in test["depends_on"]["nodes"] if parent in self.models}
            if tested & own and tested <= reachable:
                found.append(key)
            elif model in tested and not any(tested <= {m, *self._ancestors(m)} for m in tested):
                compared = ", ".join(sorted(self.models[each]["name"] for each in tested))
                raise MartError(
                    f"test {test['name']} compares {compared}, of which none reads the others, so that no "
                    f"mart's day can be judged by it; write a mart that reads them"
                )
        return found


def meta_of(node: Mapping[str, Any]) -> dict[str, Any]:
    """What a model or source says of itself to the platform; see above."""
    meta = node["config"].get("meta") or node.get("meta") or {}
    return cast("dict[str, Any]", meta.get("my_platform", {}))


def _columns(node: Mapping[str, Any]) -> dict[str, Column]:
    for column in node["columns"].values():
        if not column["data_type"]:
            raise MartError(f"{node['name']}: column {column['name']} has no data_type; declare it")
    return {c["name"]: Column(c["data_type"], c["description"].strip()) for c in node["columns"].values()}


def _read(mart: str, node: Mapping[str, Any], own: Mapping[str, Any]) -> MartRead:
    is_mart = node["resource_type"] == "model"
    meta = meta_of(node)
    if "asset" not in meta:
        raise MartError(
            f"mart {mart} reads {node['name']}, which names no asset; "
            f"give it meta: {{my_platform: {{asset: …}}}}"
        )
    said = own if is_mart else {**{k: v for k, v in meta.items() if k != "asset"}, **own}
    unknown = said.keys() - {"first", "last", "gaps", "at_least", "partitioned"}
    if (
        unknown
        or said.get("gaps", "wait") not in ("wait", "pass")
        or said.get("first", 0) > said.get("last", 0)
    ):
        raise MartError(
            f"mart {mart} reads {node['name']} as {dict(said)}; known are first <= last (offsets in days), "
            f"gaps (wait or pass), at_least and partitioned"
        )
    return MartRead(
        asset=meta["asset"],
        relation=_relation(node),
        columns={name: column.type for name, column in _columns(node).items()},
        is_mart=is_mart,
        **said,
    )


def _relation(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["schema"], node.get("identifier") or node["alias"]


def _test(key: str, node: Mapping[str, Any]) -> MartTest:
    severity = node["config"]["severity"].lower()
    return MartTest(key, node["name"], node.get("column_name"), "warn" if severity == "warn" else "error")
