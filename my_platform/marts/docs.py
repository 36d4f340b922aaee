"""dbt's documentation of the marts, as one page that needs no server and no network."""

import tempfile
from pathlib import Path

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import load_marts
from my_platform.marts.prepare import PARSED, call_dbt, copy_project, ensure_manifest, lay_out_nothing
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
        for command in (["run"], ["docs", "generate", "--static"]):
            call = call_dbt(
                [
                    *command,
                    "--partial-parse-file-path",
                    str((target_dir / PARSED).absolute()),
                    "--log-level-file",
                    "none",
                ],
                project=project,
                target=made,
                logs=Path(work, "logs"),
            )
            if call.returncode != 0:
                raise MartError(
                    f"dbt cannot document {project_dir}:\n{call.stdout.strip()}\nCorrect the project"
                )
        page = folder / "index.html"
        replace_file(page, (made / "static_index.html").read_bytes())
    return page
