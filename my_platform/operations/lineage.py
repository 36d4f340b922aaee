"""Which columns each column is made of, from the landed file on.

Dagster has a place for it in an asset's metadata, which its API gives out and Dagster+ draws. The open-source UI
(1.13.27) shows nothing of it, neither from a definition nor from a materialization. So it is also told where that
UI does show it: beside each column's description, and as a table that goes back to the landed columns.
"""

import dagster as dg

from my_platform.incremental.declare import Asset, ColumnLineage
from my_platform.operations.platform import Project

MADE_OF = "columns are made of"


def lineage_of(project: Project, asset: Asset) -> ColumnLineage:
    """What an asset declares; of one that passes on the columns of one of its inputs, each is made of itself."""
    if asset.lineage or not asset.columns:
        return asset.lineage
    types = {name: column.type for name, column in asset.columns.items()}
    same = [
        parent
        for parent in dict.fromkeys(read.asset for read in asset.reads.values())
        if parent in project.assets
        and types.items() <= {n: c.type for n, c in project.assets[parent].columns.items()}.items()
    ]
    return {name: ((same[0], name),) for name in asset.columns} if len(same) == 1 else {}


def lineage_metadata(project: Project, asset: Asset) -> dict[str, dg.MetadataValue]:
    """The lineage of an asset's columns as Dagster's metadata and as a table to read."""
    lineage = lineage_of(project, asset)
    if not lineage and asset.source is None:
        return {}
    rows = [
        f"| {column} | {_named(lineage.get(column, ()))} | {', '.join(_landed(project, asset, column))} |"
        for column in asset.columns
    ]
    table = "\n".join(["| column | made of | landed as |", "|---|---|---|", *rows])
    deps = {
        column: [
            dg.TableColumnDep(dg.AssetKey(name.split("/")), made_of)
            for name, made_of in lineage.get(column, ())
        ]
        for column in asset.columns
    }
    return {
        "dagster/column_lineage": dg.MetadataValue.column_lineage(dg.TableColumnLineage(deps)),
        MADE_OF: dg.MetadataValue.md(table),
    }


def described(project: Project, asset: Asset, column: str) -> str:
    """The description of a column, with what it is made of."""
    said = asset.columns[column].description
    made_of = _named(lineage_of(project, asset).get(column, ()))
    return f"{said} ← {made_of}".strip() if made_of else said


def _named(columns: tuple[tuple[str, str], ...]) -> str:
    """Columns by asset: ``validated/orders: CENTS, ORDERED_AT; …``."""
    by_asset: dict[str, list[str]] = {}
    for asset, column in columns:
        by_asset.setdefault(asset, []).append(column)
    return "; ".join(f"{asset}: {', '.join(names)}" for asset, names in by_asset.items())


def _landed(project: Project, asset: Asset, column: str) -> list[str]:
    """The landed columns at the start of a column's lineage."""
    found: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(asset.name, column)]
    while waiting:
        name, made_of = waiting.pop()
        known = project.assets.get(name)
        if known is None or (name, made_of) in seen:
            continue
        seen.add((name, made_of))
        if known.source is not None:
            found.add(f"{known.source}.{made_of}")
        waiting += lineage_of(project, known).get(made_of, ())
    return sorted(found)
