"""dbt's manifest and what is shown of it, made again only when a file of the dbt project has changed."""

import functools
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from my_platform.marts.catalogue import Shown, shown_of, translate
from my_platform.marts.code import VARS_IN_MANIFEST
from my_platform.marts.errors import MartError
from my_platform.marts.inputs import lay_out
from my_platform.marts.manifest import Mart, load_marts
from my_platform.storage.objects import replace_file

DATABASE = "work.duckdb"
"""Where the profile finds the run's private database: in the run's own copy of the project. The path is the
same in every run, because dbt parses the whole project again when a value in its profile has changed."""

PARSED = "partial_parse.msgpack"

_DIGEST_IN_MANIFEST = "MY_PLATFORM_PROJECT"
_LEFT_BEHIND = ("target", "logs")


def ensure_manifest(project_dir: Path, target_dir: Path) -> Path:
    """The manifest of a dbt project as its files are now; dbt parses only where they have changed.

    Args:
        project_dir: the folder of ``dbt_project.yml`` and ``profiles.yml``.
        target_dir: where the manifest, dbt's parse cache and its log are kept.

    Returns:
        Path of ``manifest.json``; its metadata holds the digest of the files and the project's vars.

    Raises:
        MartError: dbt cannot parse the project; the text is dbt's own.
    """
    manifest = target_dir / "manifest.json"
    if _digest_in(manifest) == project_digest(project_dir):
        return manifest
    target_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".parse-", dir=target_dir) as folder:
        project, made = Path(folder, "project"), Path(folder, "target")
        copy_project(project_dir, project)
        stamp = {_DIGEST_IN_MANIFEST: project_digest(project), VARS_IN_MANIFEST: json.dumps(_vars(project))}
        result = call_dbt(
            ["parse", "--no-partial-parse"],
            project=project,
            target=made,
            logs=target_dir / "logs",
            environment={f"DBT_ENV_CUSTOM_ENV_{name}": value for name, value in stamp.items()},
        )
        if result.returncode != 0:
            raise MartError(
                f"dbt cannot parse {project_dir}:\n{result.stdout.strip()}\n"
                f"Correct the project; dbt's log is {target_dir / 'logs' / 'dbt.log'}"
            )
        for name in (PARSED, "manifest.json"):
            os.replace(made / name, target_dir / name)
    return manifest


def current_manifest(project_dir: Path, target_dir: Path) -> Path:
    """The manifest of a dbt project, without running dbt.

    Raises:
        MartError: it was not made yet, or the project's files have changed since.
    """
    manifest = target_dir / "manifest.json"
    if _digest_in(manifest) != project_digest(project_dir):
        raise MartError(f"{project_dir} was not parsed as it is now; run `my-platform prepare`")
    return manifest


def ensure_catalogue(project_dir: Path, target_dir: Path) -> Path:
    """What Dagster shows of a dbt project's marts as its files are now; see ``catalogue``.

    Args: as for ``ensure_manifest``, which is called first.

    Returns:
        Path of ``catalogue.json``, beside the manifest.
    """
    manifest, path = ensure_manifest(project_dir, target_dir), target_dir / "catalogue.json"
    digest = project_digest(project_dir)
    if _read_catalogue(path).get("project") == digest:
        return path
    marts = load_marts(manifest)
    shown = translate(json.loads(manifest.read_bytes()), marts, _compiled(project_dir, target_dir, marts))
    replace_file(path, json.dumps({"project": digest, "marts": shown}).encode())
    return path


def current_catalogue(project_dir: Path, target_dir: Path) -> dict[str, Shown]:
    """What is shown of each mart, by name, without running dbt.

    Raises:
        MartError: it was not made yet, or the project's files have changed since.
    """
    stored = _read_catalogue(target_dir / "catalogue.json")
    if stored.get("project") != project_digest(project_dir):
        raise MartError(f"{project_dir} was not parsed as it is now; run `my-platform prepare`")
    return {name: shown_of(each) for name, each in stored["marts"].items()}


def _read_catalogue(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _compiled(project_dir: Path, target_dir: Path, marts: Sequence[Mart]) -> dict[str, str]:
    """The SQL of models by name, as dbt compiles it over inputs without rows; nothing where it cannot."""
    with tempfile.TemporaryDirectory(prefix=".compile-", dir=target_dir) as folder:
        project, made = Path(folder, "project"), Path(folder, "target")
        copy_project(project_dir, project)
        lay_out_nothing(project, marts)
        result = call_dbt(
            [
                *("compile", "--no-populate-cache", "--log-level-file", "none"),
                *("--partial-parse-file-path", str((target_dir / PARSED).absolute())),
            ],
            project=project,
            target=made,
            logs=Path(folder, "logs"),
        )
        if result.returncode != 0:
            return {}
        nodes = json.loads((made / "manifest.json").read_bytes())["nodes"].values()
    return {node["name"]: node["compiled_code"] for node in nodes if node.get("compiled_code")}


def lay_out_nothing(project: Path, marts: Sequence[Mart]) -> None:
    """Make the database that a copy of a project finds, with all its inputs and no row in them."""
    reads = {name: read for mart in marts for name, read in mart.reads.items() if not read.is_mart}
    lay_out(project / DATABASE, project.parent / "inputs", reads, {name: {} for name in reads}, [])


def project_digest(project_dir: Path) -> str:
    """Digest of the names and bytes of a dbt project's files, and of the versions of dbt."""
    digest = hashlib.sha256(_dbt_versions().encode())
    for name in _files(project_dir):
        content = (project_dir / name).read_bytes()
        digest.update(f"{len(name.encode())}:{name}:{len(content)}:".encode() + content)
    return digest.hexdigest()


def copy_project(project_dir: Path, destination: Path) -> None:
    """Copy the files that ``project_digest`` counts."""
    for name in _files(project_dir):
        target = destination / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(project_dir / name, target)


def call_dbt(
    arguments: Sequence[str],
    *,
    project: Path,
    target: Path,
    logs: Path,
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run dbt in a process of its own, which keeps nothing of the caller's ``DBT_*`` variables.

    A process, because dbt inside of another one changes its working directory, its logging and its flags,
    keeps the database open and admits one call at a time. Starting it costs 2 s of the 3.5 s of a run.
    """
    return subprocess.run(
        [
            *(sys.executable, "-P", "-c", "from dbt.cli.main import cli; cli()"),
            *("--quiet", "--no-use-colors", "--log-format", "text"),
            *arguments,
            *("--project-dir", str(project), "--profiles-dir", str(project)),
            *("--target-path", str(target), "--log-path", str(logs)),
        ],
        cwd=project,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("DBT_")},
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "MY_PLATFORM_MARTS_DATABASE": DATABASE,
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _digest_in(manifest: Path) -> str | None:
    try:
        stored = json.loads(manifest.read_bytes())["metadata"]["env"][_DIGEST_IN_MANIFEST]
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return str(stored)


def _files(project_dir: Path) -> list[str]:
    """Relative paths of the project's files, without hidden ones, databases and what dbt leaves behind."""
    if not (project_dir / "dbt_project.yml").is_file():
        raise MartError(f"{project_dir} has no dbt_project.yml; give the folder of a dbt project")
    found: list[str] = []
    for folder, folders, names in os.walk(project_dir):
        inner = Path(folder).relative_to(project_dir)
        folders[:] = [
            name
            for name in folders
            if not name.startswith((".", "__pycache__")) and str(inner / name) not in _LEFT_BEHIND
        ]
        found += [
            (inner / name).as_posix() for name in names if not name.startswith(".") and ".duckdb" not in name
        ]
    return sorted(found)


def _vars(project: Path) -> dict[str, Any]:
    import yaml

    try:
        content = yaml.safe_load((project / "dbt_project.yml").read_text()) or {}
        return dict(content.get("vars") or {})
    except (yaml.YAMLError, AttributeError, ValueError) as error:
        raise MartError(f"dbt_project.yml cannot be read: {error}") from error


@functools.cache
def _dbt_versions() -> str:
    names = ("dbt-core", "dbt-adapters", "dbt-duckdb", "dagster-dbt", "sqlglot")
    return " ".join(importlib.metadata.version(name) for name in names)
