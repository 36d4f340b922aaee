"""What the README and the pages say is what happens: their examples and commands are run here."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

from assets_tests.operations.shop import Orders, assets
from my_platform.domains.fraud.features import FEATURES
from my_platform.learning.retraining.policy import policy_of
from my_platform.quality.contracts import Contract
from my_platform.quality.references import known_keys, unknown_keys
from my_platform.quality.tables import validated_table
from my_platform.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
PLATFORM = Path(sys.executable).with_name("my-platform")
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
# Run by other tests and by CI: they install, start servers or take long.
ELSEWHERE = (
    "make ",
    "my-platform ui",
    "my-platform serve",
    "my-platform demo",
    ".venv/bin/python -m pytest",
    ".venv/bin/python -m benchmarks",
)


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """The info string and text of each fenced block of a language."""
    found = re.findall(rf"^[ ]*```{language}([^\n]*)\n(.*?)^[ ]*```", page.read_text(), re.M | re.S)
    return [(info.strip(), text) for info, text in found]


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, **environment},
        check=False,
    )


def test_the_example_of_own_tables_works_as_written(tmp_path: Path) -> None:
    page = CHECKOUT / "docs" / "your-own-tables.md"
    home = tmp_path / "home"
    for language in ("csv", "python"):
        for info, text in blocks(page, language):
            target = info.removeprefix("file=")
            file = (home if target.startswith("landing/") else tmp_path) / target
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    ((_, script),) = blocks(page, "sh")
    path = f"{PLATFORM.parent}{os.pathsep}{os.environ['PATH']}"

    done = run(["bash", "-euc", script], tmp_path, PATH=path)

    assert done.returncode == 0, done.stderr
    assert re.search(r"validated/orders +2026-01-31 +1 +greater_than_or_equal_to\(0\)", done.stdout)
    assert re.search(r"shop_week +2 +2026-01-30 +2026-01-31", done.stdout)
    assert "nothing is owed" in done.stdout
    again = run([str(PLATFORM), "refresh"], tmp_path, MY_PLATFORM_DOMAINS="shop", MY_PLATFORM_HOME=str(home))
    assert "everything is up to date" in again.stdout


def written_as_the_page_has_it(folder: Path) -> list[str]:
    """The commands of the page on domains, with its files in the folder."""
    page = CHECKOUT / "docs" / "your-own-domain.md"
    for info, text in blocks(page, "python"):
        (folder / info.removeprefix("file=")).write_text(text)
    return [text for _, text in blocks(page, "sh")]


def run_script(script: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{PLATFORM.parent}{os.pathsep}{os.environ['PATH']}"
    return run(["bash", "-euc", script], folder, PATH=path)


def test_a_domain_written_from_samples_gives_a_report_and_a_champion(tmp_path: Path) -> None:
    script, _ = written_as_the_page_has_it(tmp_path)

    done = run_script(script, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "forecasts EUROS of each SALE_ID, by SHOP_ID, at SOLD_AT" in done.stdout
    assert "2 passed" in done.stdout
    assert re.search(r"promote +icecream_lightgbm@2026-04-15 +gate", done.stdout)
    assert len(list((tmp_path / "home" / "reports" / "icecream" / "icecream_lightgbm").glob("*.html"))) == 5
    written = sorted((tmp_path / "icecream").glob("[!t]*.py")) + sorted(
        (tmp_path / "icecream").glob("__*.py")
    )
    lines = sum(len(file.read_text().splitlines()) for file in set(written))
    said = re.search(r"(\d+) lines in three files", (CHECKOUT / "docs" / "your-own-domain.md").read_text())
    assert said is not None
    assert lines == int(said[1])


@pytest.mark.slow
def test_the_second_shipped_domain_runs_as_written(tmp_path: Path) -> None:
    _, script = written_as_the_page_has_it(tmp_path)

    done = run_script(script, tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"demand_lightgbm +\d", done.stdout)


def commands() -> list[str]:
    """Every my-platform command of the pages, but those of the examples above."""
    found = []
    for page in PAGES:
        if page.name in ("your-own-tables.md", "your-own-domain.md", "retraining.md"):
            continue
        for _, text in blocks(page, "sh"):
            for line in text.splitlines():
                command = line.split("#")[0].strip()
                if command and not any(other in command for other in ELSEWHERE):
                    found.append(command)
        found += re.findall(r"`(my-platform (?!ui|demo|serve)[a-z-]+(?: [^`]*)?)`", page.read_text())
    return list(dict.fromkeys(found))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small home that is up to date, with a bad row, and with a file that a page wants to quote."""
    folder = tmp_path_factory.mktemp("pages")
    landed = folder / "home" / "landing" / "transactions" / "2018-05-03.parquet"
    small = ["simulate", "--days", "61", "--start", "2018-04-01", "--customers", "120", "--terminals", "240"]
    for command in (small, ["refresh"]):
        done = run(
            [str(PLATFORM), "--home", str(folder / "home"), *command], folder, MY_PLATFORM_BOOSTING_ROUNDS="5"
        )
        assert done.returncode == 0, done.stderr
        if command is small:
            (folder / "corrected.parquet").write_bytes(landed.read_bytes())
            pl.DataFrame({name: [1.0, 2.0] for name in FEATURES}).write_parquet(folder / "rows.parquet")
            rows = pl.read_parquet(landed).with_row_index("row")
            amount = pl.when(pl.col("row") == 3).then(-1.0).otherwise("TX_AMOUNT")
            rows.with_columns(TX_AMOUNT=amount).drop("row").write_parquet(landed)
    return folder


@pytest.mark.parametrize("command", commands())
def test_each_command_of_the_pages_is_one(command: str, home: Path) -> None:
    words = shlex.split(command)
    assert words[0].endswith("my-platform"), f"{command}: a command that no test knows"
    arguments = [word for word in words[1:] if word not in ("…", "FOLDER")]
    if arguments[0] in ("simulate", "import-handbook"):
        arguments = [arguments[0], "--help"]
    done = run(
        [str(PLATFORM), "--home", str(home / "home"), *arguments], home, MY_PLATFORM_BOOSTING_ROUNDS="5"
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_policy_of_the_retraining_page_is_the_same_in_python_and_in_words() -> None:
    page, names = CHECKOUT / "docs" / "retraining.md", {}
    ((_, declared),) = blocks(page, "python")
    exec(declared, names)
    ((_, script),) = blocks(page, "sh")
    said = re.search(r"^export MY_PLATFORM_RETRAINING=(\S+)$", script, re.M)
    assert said is not None
    assert names["MONTHLY"] == policy_of(said[1])


def test_the_policy_of_the_retraining_page_keeps_what_there_is(home: Path, tmp_path: Path) -> None:
    ((_, script),) = blocks(CHECKOUT / "docs" / "retraining.md", "sh")
    shutil.copytree(home / "home", tmp_path / "home")

    path = f"{PLATFORM.parent}{os.pathsep}{os.environ['PATH']}"
    given = {"MY_PLATFORM_HOME": str(tmp_path / "home"), "MY_PLATFORM_BOOSTING_ROUNDS": "5"}
    done = run(["bash", "-euc", script], tmp_path, PATH=path, **given)

    assert done.returncode == 0, done.stderr
    dry, decided = done.stdout.split("nothing was decided: that was a dry run")
    assert re.search(r"2018-05-30 +challenger +the first model under this policy", dry)
    assert re.search(r"2018-05-02 +kept +was fitted before the policy was declared", dry)
    assert re.search(r"decided for 2018-04-18, .*, 2018-05-30", decided)
    assert "everything is up to date" in decided
    assert "the latest week that can be fitted, 2018-05-30, is decided" in decided


def test_the_example_of_an_analyst_works_as_written(home: Path) -> None:
    ((_, script),) = blocks(CHECKOUT / "docs" / "marts.md", "python")

    done = run([sys.executable, "-c", script.replace("HOME", str(home / "home"))], home)

    assert done.returncode == 0, done.stderr
    assert "amount_cents" in done.stdout
    assert "daily_fraud_by_segment" in done.stdout


def test_each_link_of_the_pages_leads_somewhere() -> None:
    missing = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert not missing


def test_the_declarations_of_the_quarantine_page_can_be_made(tmp_path: Path) -> None:
    raw, valid, *_ = assets(Settings(home=tmp_path))
    names = {
        **{"pl": pl, "Orders": Orders, "Contract": Contract, "raw_orders": raw, "valid_shops": valid},
        **{f.__name__: f for f in (known_keys, unknown_keys, validated_table)},
    }
    for _, text in blocks(CHECKOUT / "docs" / "quarantine.md", "python"):
        exec(text, names)
    assert names["ORDERS"].most_bad_share_by_rule["outside_day"] == 0
    assert "unknown SHOP_ID" in names["valid"].reads


def test_each_setting_is_in_the_operating_page() -> None:
    page = (CHECKOUT / "docs" / "operating.md").read_text()
    assert [name for name in Settings.model_fields if f"`MY_PLATFORM_{name.upper()}`" not in page] == []
