"""The database that analysts open: kept at the current values of the assets that are meant for them."""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from my_platform.incremental.declare import Asset
from my_platform.operations.outcome import Heads
from my_platform.operations.platform import Workspace
from my_platform.storage.lake import ABSENT
from my_platform.storage.objects import locked, replace_file

if TYPE_CHECKING:
    from my_platform.marts.manifest import Column


def keep_current(workspace: Workspace, heads: Heads, database: Path) -> int:
    """Bring the database to what is current now; how many partitions were written, none where nothing moved.

    What it holds is told by a digest in a file beside it, so that nothing is opened where all is as it was.

    Raises:
        PlatformError: a stored value cannot be read, or the database cannot be written; it is as it was.
    """
    assets = [asset for asset in workspace.project.assets.values() if asset.table_for_analysts]
    if not assets or _told(database) == _digest(assets, _current(workspace, heads, assets)):
        return 0
    database.parent.mkdir(parents=True, exist_ok=True)
    with locked(database.with_suffix(".lock")), tempfile.TemporaryDirectory() as copies:
        # Read under the lock, so that whoever writes last has read last.
        current = _current(workspace, heads, assets)
        for left in database.parent.glob(f".*-{database.name}*"):
            left.unlink()
        written = _publish(workspace, assets, current, database, Path(copies))
        replace_file(database.with_suffix(".digest"), _digest(assets, current).encode())
    return written


def _publish(
    workspace: Workspace,
    assets: list[Asset],
    current: Mapping[str, Mapping[str, str]],
    database: Path,
    copies: Path,
) -> int:
    from my_platform.marts.publish import Published, publish_database
    from my_platform.marts.runner import duckdb_limits

    def table(asset: Asset) -> Published:
        versions = current[asset.name]
        return Published(
            asset.table_for_analysts,
            versions,
            lambda partition: workspace.lake.file(asset.name, partition, versions[partition], copies),
            asset.description,
            _columns(asset),
        )

    tables = [table(a) for a in assets if a.columns or current[a.name]]
    return publish_database(database, tables, duckdb_limits(workspace.memory, copies / "spill"))


def _current(workspace: Workspace, heads: Heads, assets: list[Asset]) -> dict[str, dict[str, str]]:
    """Data version by partition of what is current and stored."""
    names = [asset.name for asset in assets]
    stored = {(t.asset, t.partition, t.data_version) for t in workspace.lake.index.traces(names)}
    return {
        name: {key: v for key, v in sorted(found.items()) if v != ABSENT and (name, key, v) in stored}
        for name, found in heads.read(names).items()
    }


def _digest(assets: list[Asset], current: Mapping[str, Mapping[str, str]]) -> str:
    told = [
        [asset.table_for_analysts, asset.description, current[asset.name]]
        + [[name, str(column.type), column.description] for name, column in asset.columns.items()]
        for asset in assets
    ]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def _told(database: Path) -> str | None:
    file = database.with_suffix(".digest")
    return file.read_text() if database.exists() and file.exists() else None


def _columns(asset: Asset) -> dict[str, "Column"]:
    """Columns with DuckDB's names of their types."""
    if not asset.columns:
        return {}
    import duckdb
    import polars as pl

    from my_platform.marts.manifest import Column

    empty = pl.DataFrame(schema={name: column.type for name, column in asset.columns.items()})
    with duckdb.connect() as connection:
        types = connection.from_arrow(empty.to_arrow()).types
    return {
        name: Column(str(kind), column.description)
        for (name, column), kind in zip(asset.columns.items(), types, strict=True)
    }
