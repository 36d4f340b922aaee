"""What Dagster shows of the marts: descriptions, tests as checks, and which column is made of which.

dagster-dbt reads it from dbt's manifest, and sqlglot from the SQL that dbt compiled. Loading the two takes
longer than everything else that loads with the definitions, so ``prepare.ensure_catalogue`` has it read once,
when the dbt project was edited, and keeps it as JSON.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from my_platform.incremental.checks import Check
from my_platform.incremental.declare import ColumnLineage
from my_platform.marts.manifest import DAY_COLUMN, Mart, MartRead, MartTest, meta_of


@dataclass(frozen=True)
class Shown:
    """What is shown of a mart.

    Attributes:
        about: group, owners, tags and kinds, where dbt says them; the description, with the SQL.
        metadata: plain values by name, such as ``dagster/table_name``.
        checks: one for each dbt test.
        lineage: empty where the SQL could not be followed.
    """

    about: Mapping[str, Any]
    metadata: Mapping[str, str]
    checks: tuple[Check, ...]
    lineage: ColumnLineage


def translate(
    manifest: Mapping[str, Any], marts: Iterable[Mart], compiled: Mapping[str, str]
) -> dict[str, Any]:
    """What is shown of each mart, as plain values by its name.

    Args:
        manifest: dbt's.
        compiled: the SQL of models by their name, as the database gets it.
    """
    import dagster as dg
    from dagster_dbt import DagsterDbtTranslator

    class OurKeys(DagsterDbtTranslator):
        """dagster-dbt's reading of a manifest, under the platform's names of assets."""

        def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
            asset = meta_of(dbt_resource_props).get("asset")
            return dg.AssetKey(asset.split("/")) if asset else super().get_asset_key(dbt_resource_props)

    translator = OurKeys()
    models = {n["name"]: key for key, n in manifest["nodes"].items() if n["resource_type"] == "model"}
    # An ephemeral step stands in the compiled SQL of its readers.
    steps = {
        node["relation_name"]: compiled[name]
        for name, key in models.items()
        for node in [manifest["nodes"][key]]
        if name in compiled and "asset" not in meta_of(node) and node["relation_name"]
    }
    shown = {}
    for mart in marts:
        spec = translator.get_asset_spec(manifest, models[mart.name], None)
        about = {
            "description": spec.description,
            "group": spec.group_name,
            "owners": list(spec.owners),
            "tags": {key: value for key, value in spec.tags.items() if not key.startswith("dagster/")},
            "kinds": sorted(spec.kinds),
        }
        checks = []
        for test in mart.tests:
            node = manifest["nodes"][test.id]
            check = translator.get_asset_check_spec(spec, manifest, test.id, None)
            checks.append(
                {
                    "name": check.name if check else test.name,
                    "description": (check and check.description)
                    or node["description"]
                    or _in_words(test, node),
                    "severity": test.severity,
                    "metadata": {"dbt_test": test.id, **({"column": test.column} if test.column else {})},
                }
            )
        shown[mart.name] = {
            "about": {name: value for name, value in about.items() if value},
            "metadata": {
                **{name: value for name, value in spec.metadata.items() if isinstance(value, str)},
                # The database in front of it is that of a single run.
                "dagster/table_name": ".".join(mart.relation),
            },
            "checks": checks,
            "lineage": _lineage(mart, compiled[mart.name], steps) if mart.name in compiled else {},
        }
    return shown


def shown_of(stored: Mapping[str, Any]) -> Shown:
    """What ``translate`` gave for a mart."""
    return Shown(
        about={
            name: tuple(value) if isinstance(value, list) else value
            for name, value in stored["about"].items()
        },
        metadata=stored["metadata"],
        checks=tuple(Check(**check) for check in stored["checks"]),
        lineage={
            column: tuple((asset, name) for asset, name in made_of)
            for column, made_of in stored["lineage"].items()
        },
    )


def _in_words(test: MartTest, node: Mapping[str, Any]) -> str:
    generic = node.get("test_metadata")
    if generic is None:
        return f"No row comes out of {node['original_file_path']}."
    said = [f"{k} {v}" for k, v in generic["kwargs"].items() if k not in ("model", "column_name")]
    rule = f"{generic['name']}({', '.join(said)})" if said else generic["name"]
    return f"{test.column}: {rule}" if test.column else rule


def _lineage(mart: Mart, sql: str, steps: Mapping[str, str]) -> dict[str, list[list[str]]]:
    """Which columns of its inputs each column of a mart shows or is computed of."""
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
    from sqlglot.lineage import lineage

    reads = {read.relation: read for read in mart.reads.values()}
    schema: dict[str, Any] = {}
    for (folder, table), read in reads.items():
        schema.setdefault(folder, {})[table] = dict(read.columns)
    found = {}
    for column in mart.columns:
        try:
            nodes = list(lineage(column, sql, schema=schema, sources=dict(steps), dialect="duckdb").walk())
        except SqlglotError:
            return {}
        made_of = {
            (reads[table.db, table.name].asset, name)
            for node in nodes
            if not node.downstream
            for table in node.expression.find_all(exp.Table)
            if (table.db, table.name) in reads
            for name in _named(reads[table.db, table.name], exp.to_column(node.name).name)
        }
        found[column] = [list(each) for each in sorted(made_of)]
    return found


def _named(read: MartRead, name: str) -> list[str]:
    """The column of an input that SQL, which knows no capitals, calls so; a day lies in no file."""
    return [
        column
        for column in read.columns
        if column.lower() == name.lower() and (column != DAY_COLUMN or read.is_mart)
    ]
