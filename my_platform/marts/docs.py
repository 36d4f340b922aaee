"""dbt's documentation of the marts, as one page that needs no server and no network."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import duckdb

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import Mart, load_marts
from my_platform.marts.parquet_views import identifier, select_nothing
from my_platform.marts.prepare import (
    DATABASE,
    PARSED,
    call_dbt,
    copy_project,
    ensure_manifest,
    lay_out_nothing,
)
from my_platform.storage.objects import replace_file


def write_docs(project_dir: Path, target_dir: Path, folder: Path) -> Path:
    """Have dbt document a project: models with their SQL, columns, tests and lineage.

    dbt reads the types of the tables in its catalogue from a database, which is made for it without a row.

    Args:
        project_dir, target_dir: as for ``ensure_manifest``.
        folder: gets ``index.html``.

    Raises:
        MartError: dbt cannot document the project; the text is dbt's own.
    """
    marts = load_marts(ensure_manifest(project_dir, target_dir))
    with tempfile.TemporaryDirectory(prefix="my_platform_docs_") as work:
        project, made = Path(work, "project"), Path(work, "target")
        copy_project(project_dir, project)
        lay_out_nothing(project, marts)
        _make_empty(project, marts)
        call = call_dbt(
            [
                *("docs", "generate", "--static", "--log-level-file", "none"),
                *("--partial-parse-file-path", str((target_dir / PARSED).absolute())),
            ],
            project=project,
            target=made,
            logs=Path(work, "logs"),
        )
        if call.returncode != 0:
            raise MartError(f"dbt cannot document {project_dir}:\n{call.stdout.strip()}\nCorrect the project")
        page = folder / "index.html"
        replace_file(page, (made / "static_index.html").read_bytes())
    return page


def _make_empty(project: Path, marts: Sequence[Mart]) -> None:
    """Make the tables of the marts as they are declared."""
    with duckdb.connect(str(project / DATABASE)) as connection:
        for mart in marts:
            schema, table = map(identifier, mart.relation)
            nothing = select_nothing({name: column.type for name, column in mart.columns.items()})
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            connection.execute(f"CREATE TABLE {schema}.{table} AS {nothing}")
