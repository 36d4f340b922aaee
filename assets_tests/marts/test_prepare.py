"""When dbt parses, and what an edit of the project changes."""

import re
from pathlib import Path
from typing import Any

import pytest

from my_platform.marts import prepare
from my_platform.marts.errors import MartError
from my_platform.marts.manifest import load_marts
from my_platform.marts.prepare import ensure_manifest, project_digest


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


@pytest.fixture
def no_dbt(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*arguments: Any, **options: Any) -> None:
        raise AssertionError("dbt was called")

    monkeypatch.setattr(prepare, "call_dbt", called)


@pytest.mark.usefixtures("no_dbt")
def test_an_unchanged_project_is_not_parsed_again(project: Any) -> None:
    manifest = project.target / "manifest.json"
    assert ensure_manifest(project.folder, project.target) == manifest


@pytest.mark.usefixtures("no_dbt")
def test_a_copy_elsewhere_is_the_same_project(project: Any, tmp_path: Path) -> None:
    copied = project.copied_to(tmp_path)
    assert ensure_manifest(copied.folder, project.target) == project.target / "manifest.json"


@pytest.mark.usefixtures("no_dbt")
def test_what_dbt_leaves_behind_is_no_part_of_the_project(project: Any, tmp_path: Path) -> None:
    copied = project.copied_to(tmp_path)
    for name in ("target/compiled.sql", "logs/dbt.log", ".user.yml", "work.duckdb.wal"):
        (copied.folder / name).parent.mkdir(exist_ok=True)
        (copied.folder / name).write_text("left")
    assert project_digest(copied.folder) == project_digest(project.folder)


@pytest.mark.usefixtures("no_dbt")
@pytest.mark.parametrize("cached", [b"", b"{", b'{"metadata": {"env": {}}}'])
def test_a_broken_cache_is_made_again(project: Any, tmp_path: Path, cached: bytes) -> None:
    (tmp_path / "manifest.json").write_bytes(cached)
    with pytest.raises(AssertionError, match="dbt was called"):
        ensure_manifest(project.folder, tmp_path)


def test_a_folder_without_a_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(MartError, match=r"has no dbt_project\.yml"):
        ensure_manifest(tmp_path, tmp_path / "target")


def test_comments_and_layout_change_no_code(project: Any, tmp_path: Path) -> None:
    copied = project.copied_to(tmp_path)
    for file in [*copied.folder.glob("models/**/*.sql"), *copied.folder.glob("macros/*.sql")]:
        text = re.sub(
            r"\n(?=select|from|group|\{% macro)", "\n\n  -- why 'not'\n /* so */ ", file.read_text()
        )
        file.write_text("{# about\n this #}\n" + text.replace("{{ ", "{{  "))
    edit(
        copied.folder / "models/marts/schema.yml", "Transactions of the day.", "All transactions of the day."
    )
    before, after = project.marts(), copied.marts()
    assert {name: mart.code for name, mart in before.items()} == {
        name: mart.code for name, mart in after.items()
    }
    assert before["daily_volume_by_segment"].raw_sql != after["daily_volume_by_segment"].raw_sql


def test_each_edit_changes_its_own_users_only(project: Any, tmp_path: Path) -> None:
    copied = project.copied_to(tmp_path)
    edit(copied.folder / "models/marts/daily_fraud_by_terminal.sql", "group by", "where cents > 0 group by")
    edit(copied.folder / "macros/window_days.sql", "}2{", "}3{")
    edit(copied.folder / "models/marts/more.yml", "most: 0", "most: 1")
    edit(copied.folder / "dbt_project.yml", "[25, 50, 75]", "[25, 50, 80]")
    before, after = project.marts(), copied.marts()
    changed = {
        name: {part for part in mart.code if mart.code[part] != after[name].code[part]}
        for name, mart in before.items()
    }
    assert changed == {
        "daily_fraud_by_terminal": {"sql"},
        "cards_in_window": {"macros"},
        "doubled_cards": {"tests"},
        "daily_fraud_by_segment": {"vars"},
        "daily_volume_by_segment": {"vars"},
        "peeking": set(),
    }


def test_a_project_that_dbt_cannot_parse_keeps_the_last_manifest(project: Any, tmp_path: Path) -> None:
    copied = project.copied_to(tmp_path)
    copied.target.mkdir()
    (copied.target / "manifest.json").write_bytes((project.target / "manifest.json").read_bytes())
    (copied.folder / "models/marts/broken.sql").write_text("select * from {{ ref('no_such_model') }}")
    with pytest.raises(MartError, match=r"(?s)dbt cannot parse .*models/marts/broken\.sql.*no_such_model"):
        ensure_manifest(copied.folder, copied.target)
    assert len(load_marts(copied.target / "manifest.json")) == 6
    assert not list(copied.target.glob(".parse-*"))
