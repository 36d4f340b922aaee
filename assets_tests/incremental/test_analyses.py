"""What is kept about a module's statements: found again, and never taken for another source's."""

import ast
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from my_platform.incremental import analyses, syntax
from my_platform.incremental.analyses import Analysed, Analyses
from my_platform.incremental.sources import Module

SOURCE = b'''
RATE = 3


def total(rows):
    """Adds up."""
    from .helpers import cents as of

    return of(rows) * RATE
'''


@pytest.fixture(autouse=True)
def written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analyses, "sys", SimpleNamespace(version=sys.version, dont_write_bytecode=False))


def module(file: Path, source: bytes = SOURCE, name: str = "shop.assets") -> Module:
    return Module(
        name, "shop", None, ast.parse(source), Analyses(name, "shop", str(file), source), {"RATE": []}
    )


def told(found: Analysed) -> tuple[object, ...]:
    return (
        found.text,
        [tuple(chain) for chain in found.outer],
        [(ast.dump(node), tuple(chain)) for node, chain in found.imported],
    )


def unasked(*_: object) -> Analysed:
    raise AssertionError("a statement was looked at again")


def test_the_next_process_finds_what_was_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = module(tmp_path / "assets.py")
    found = [told(syntax.analyse(first, statement)) for statement in first.tree.body]
    first.kept.keep()
    monkeypatch.setattr(syntax, "_analysed", unasked)
    second = module(tmp_path / "assets.py")

    again = [told(syntax.analyse(second, statement)) for statement in second.tree.body]

    assert again == found
    assert [file.suffix for file in (tmp_path / "__pycache__").iterdir()] == [".json"]


@pytest.mark.parametrize("change", ["source", "name", "this platform"])
def test_nothing_is_taken_from_another_source(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = module(tmp_path / "assets.py")
    syntax.analyse(first, first.tree.body[1])
    first.kept.keep()
    if change == "this platform":
        monkeypatch.setattr(analyses, "_READING", b"another")
    source = SOURCE.replace(b"RATE = 3", b"RATE = 4") if change == "source" else SOURCE
    second = module(tmp_path / "assets.py", source, "shop.other" if change == "name" else "shop.assets")

    assert second.kept.get(second.tree.body[1]) is None


@pytest.mark.parametrize("torn", [b"", b"{", b"[]", b'{"digest": 1}', b"\xff"])
def test_a_torn_file_is_made_anew(torn: bytes, tmp_path: Path) -> None:
    first = module(tmp_path / "assets.py")
    found = told(syntax.analyse(first, first.tree.body[1]))
    first.kept.keep()
    (file,) = (tmp_path / "__pycache__").iterdir()
    whole = file.read_bytes()
    file.write_bytes(torn)
    second = module(tmp_path / "assets.py")

    assert told(syntax.analyse(second, second.tree.body[1])) == found
    second.kept.keep()
    assert file.read_bytes() == whole


def test_where_nothing_can_be_written_nothing_is_kept(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").write_text("a file stands where the folder would")
    first = module(tmp_path / "assets.py")
    found = told(syntax.analyse(first, first.tree.body[1]))
    first.kept.keep()

    second = module(tmp_path / "assets.py")
    assert told(syntax.analyse(second, second.tree.body[1])) == found
