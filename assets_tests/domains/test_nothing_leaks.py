"""What a domain is about stands in its folder: the platform around it knows none by name, nor by its words."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from my_platform.domains import demand, fraud
from my_platform.settings import Settings

PACKAGE = Path(fraud.__file__).parents[2]
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "domains" not in path.relative_to(PACKAGE).parts)
# With what else the package holds, such as the page of the service.
FILES = [
    *MODULES,
    *(
        path
        for path in PACKAGE.rglob("*")
        if path.suffix in {".html", ".json", ".sql", ".toml", ".yaml", ".yml"}
        and not {"domains", "__pycache__"} & set(path.relative_to(PACKAGE).parts)
    ),
]
# A card is one of a model there, and a box on a page everywhere.
OF_MODELS = {
    "learning/model_card.py",
    "learning/publishing.py",
    "learning/registry.py",
    "operations/models.py",
    "operations/promotion.py",
    "scaffold/parts.py",
}
BOX = r'class="card|\.card\b|--card\b'
# Names that a domain may share with the platform or with any other domain.
COMMON = {
    "X",
    "Y",
    "KIND",
    "training_set",
    "training_set_replay",
    "test_set",
    "predictions",
    "evaluation",
} | {"training_serving_skew"}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def names_of(domain: object, home: Path) -> set[str]:
    """The assets of a domain, its landed tables, and the columns of those and of its features."""
    settings = Settings(home=home)
    assets = domain.assets(settings)  # type: ignore[attr-defined]
    logged = {each.table for each in domain.logged(settings)} if hasattr(domain, "logged") else set()
    landed = {asset.source for asset in assets if asset.source} - logged
    tables = [asset for asset in assets if asset.group == "features" or asset.source in landed]
    columns = {column for asset in tables for column in asset.columns if column.upper() == column}
    return ({asset.name for asset in assets} | landed | columns) - COMMON


def said_in(path: Path) -> Iterator[str]:
    """The names and plain strings of a module, but for what only explains it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def test_no_module_outside_imports_a_domain() -> None:
    importing = [
        relative(path)
        for path in MODULES
        if re.search(
            r"(from|import) my_platform\.domains|from my_platform import .*domains", path.read_text()
        )
    ]
    assert not importing


def test_only_the_setting_says_which_domain_there_is_by_default() -> None:
    naming = [relative(path) for path in MODULES if "domains.fraud" in path.read_text()]
    assert naming == ["settings.py"]


@pytest.mark.parametrize("domain", [fraud, demand])
def test_no_module_outside_names_what_a_domain_is_made_of(domain: object, tmp_path: Path) -> None:
    own = names_of(domain, tmp_path)
    assert len(own) > 20
    said = {relative(path): sorted(own & set(said_in(path))) for path in MODULES}
    assert {path: names for path, names in said.items() if names} == {}


def test_only_the_setting_and_what_reads_former_names_speak_of_fraud() -> None:
    speaking = [relative(path) for path in FILES if re.search("fraud", path.read_text(), re.I)]
    assert speaking == ["learning/stored.py", "settings.py"]


def test_no_file_outside_speaks_of_bank_cards() -> None:
    card = re.compile(r"(?<![a-z])cards?(?![a-z])", re.I)
    speaking = {relative(path) for path in FILES if card.search(re.sub(BOX, "", path.read_text()))}
    assert speaking - {"learning/stored.py"} == OF_MODELS


def test_a_home_of_another_domain_loads_nothing_of_fraud() -> None:
    script = (
        "import sys\nfrom my_platform.cli import app\n"
        "try:\n    app(['simulate', '--help'])\nexcept SystemExit:\n    pass\n"
        "from my_platform.operations.home import load_project\nfrom my_platform.settings import load_settings\n"
        "assert 'demand_lightgbm' in load_project(load_settings()).assets\n"
        "print([name for name in sys.modules if 'fraud' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={"PYTHONPATH": str(PACKAGE.parent), "MY_PLATFORM_DOMAINS": "my_platform.domains.demand"},
    )
    assert done.stdout.strip().splitlines()[-1] == "[]"
