"""A domain written from sample files: code as a person writes it, and a clear answer where a sample leaves it open."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from my_platform.cli import main
from my_platform.commands.new_domain import new_domain
from my_platform.errors import PlatformError
from my_platform.features import offline
from my_platform.operations.platform import Project
from my_platform.settings import Settings
from my_platform.storage.calendar import read_calendar

START = datetime(2026, 3, 1)


def sales(days: int = 40) -> pl.DataFrame:
    """Two sales a day in each of three shops, but on the tenth day."""
    number = range(days * 6)
    rows = pl.DataFrame(
        {
            "SALE_ID": number,
            "SOLD_AT": [START + timedelta(days=n // 6, hours=9 + n % 6) for n in number],
            "SHOP": [f"shop {n % 3}" for n in number],
            "EUROS": [20.25 + n % 7 for n in number],
            "DISCOUNT": [None if n % 5 else -n for n in number],
            "ONLINE": [n % 2 == 0 for n in number],
            "A_RATHER_LONG_NAME_OF_A_COLUMN_THAT_SAYS_WHAT_THE_SKY_WAS_LIKE_WHEN_THE_SALE_WAS_MADE": [
                ("sunny", 'it\'s "grey"')[n % 2] for n in number
            ],
        }
    )
    return rows.filter(pl.col("SOLD_AT").dt.day() != 10)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a person works: with the samples in it, and on the path as the command has it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MY_PLATFORM_HOME", str(tmp_path / "home"))
    sales().write_parquet("sales.parquet")
    pl.DataFrame({"SHOP": ["shop 0", "shop 1", "shop 2"], "SIZE": [10.5, 12.0, 8.0]}).write_csv("shops.csv")
    yield tmp_path
    for name in [each for each in sys.modules if each.partition(".")[0] in ("till", "other")]:
        del sys.modules[name]


def write(name: str = "till", **options: str) -> None:
    new_domain(
        name, [Path("shops.csv")], first=Path("sales.parquet"), target="EUROS", entity="SHOP", **options
    )


def test_what_is_written_is_formatted_and_lints(folder: Path) -> None:
    write()
    for command in (("format", "--check"), ("check",)):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "till"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_loads_and_its_own_tests_pass(folder: Path) -> None:
    write()
    domain = importlib.import_module("till")
    settings = Settings(home=folder / "home")
    project = Project.of(domain.assets(settings), domain.contenders(settings))
    tests = importlib.import_module("till.test_till")

    (contender,) = domain.contenders(settings)
    policy = contender.policy
    assert (policy.inferiority, policy.slice_tolerance, policy.limits.precision_drop) == (0.05, 0.1, 0.3)
    assert {"validated/sales", "validated/shops", "sales_history", "till_evaluation"} <= set(project.assets)
    tests.test_the_domain_loads(folder)
    tests.test_a_row_sees_the_values_before_it_and_not_its_own()


def test_the_contracts_hold_of_the_samples_and_say_what_they_saw(folder: Path) -> None:
    write()
    contracts = importlib.import_module("till.contracts")
    contracts.SALES.model.validate(sales())
    text = (folder / "till" / "contracts.py").read_text()

    assert "# In the sample: missing in some rows; -235 to 0." in text
    assert "DISCOUNT: int = pa.Field(nullable=True, ge=-500, le=" in text
    assert 'SHOP: str = pa.Field(isin=["shop 0", "shop 1", "shop 2"])' in text
    assert "SALE_ID: int = pa.Field(unique=True)" in text


def test_the_sample_lands_by_day_and_no_row_is_lost(folder: Path) -> None:
    write()
    landing = folder / "home" / "landing"
    files = sorted((landing / "sales").glob("*.parquet"))
    days = {file.stem: pl.read_parquet(file) for file in files}
    calendar = read_calendar(landing)

    assert pl.concat(days.values()).equals(sales())
    assert days["2026-03-10"].is_empty()
    assert all((rows["SOLD_AT"].dt.date().cast(pl.String) == day).all() for day, rows in days.items())
    assert calendar is not None
    assert (str(calendar.first), str(calendar.last)) == (files[0].stem, files[-1].stem)
    assert pl.read_parquet(landing / "shops.parquet").height == 3


def test_what_is_there_is_not_overwritten(folder: Path) -> None:
    (folder / "till").mkdir()
    (folder / "till" / "mine.py").write_text("# mine")
    with pytest.raises(PlatformError, match="is not overwritten"):
        write()
    assert [file.name for file in (folder / "till").iterdir()] == ["mine.py"]
    assert not (folder / "home" / "landing" / "sales").exists()


def test_a_table_that_has_landed_is_not_landed_over(folder: Path) -> None:
    write()
    with pytest.raises(PlatformError, match="has landed before"):
        write("other")
    assert not (folder / "other").exists()


@pytest.mark.parametrize("name", ["polars", "my-shop", "Shop", "class", "a/b", ""])
def test_a_name_that_cannot_be_a_new_package_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(PlatformError, match=r"choose another name|cannot be the name"):
        write(name)


@pytest.mark.parametrize(
    ("change", "options", "says"),
    [
        (lambda rows: rows, {}, "EUROS, FEE all have a number in every row; say with --target"),
        (
            lambda rows: rows.with_columns(PAID_AT="SOLD_AT"),
            {"target": "EUROS"},
            "SOLD_AT, PAID_AT all have times",
        ),
        (
            lambda rows: rows.with_columns(TILL=pl.col("SHOP")),
            {"target": "EUROS"},
            "SHOP, TILL all have few values",
        ),
        (lambda rows: rows.drop("SALE_ID"), {"target": "EUROS"}, "which --key would name"),
        (lambda rows: rows.drop("SOLD_AT"), {"target": "EUROS"}, "needs to know when a row happens"),
        (lambda rows: rows, {"target": "EURO"}, "--target EURO: .*has no such column; it has SALE_ID"),
        (lambda rows: rows, {"target": "SHOP"}, "--target SHOP: expected a number in every row"),
        (lambda rows: rows.rename({"EUROS": "in euros"}), {}, "'in euros' cannot be a name"),
        *(
            (
                lambda rows, name=name: rows.with_columns(pl.col("EUROS").alias(name)),
                {},
                f"'{name}' cannot be",
            )
            for name in ("target_in_units", "last", "n_7d", "n_28d", "sum_7d", "sum_28d", "_id", "Config")
        ),
        (lambda rows: rows.clear(), {}, "no row to learn from"),
        (
            lambda rows: rows.with_columns(pl.col("SOLD_AT").dt.offset_by("1us")),
            {"target": "EUROS"},
            "parts of seconds",
        ),
    ],
)
def test_a_sample_that_leaves_something_open_is_asked_about(
    folder: Path, change: object, options: dict[str, str], says: str
) -> None:
    rows = sales().select("SALE_ID", "SOLD_AT", "SHOP", "EUROS", FEE=pl.col("EUROS") / 100)
    change(rows).write_parquet("sales.parquet")  # type: ignore[operator]
    with pytest.raises(PlatformError, match=says):
        new_domain("till", None, first=Path("sales.parquet"), **options)
    assert not (folder / "till").exists()


def test_a_column_that_is_called_units_stays_what_it_is(folder: Path) -> None:
    sales().with_columns(units=pl.col("SALE_ID") % 4).write_parquet("sales.parquet")
    write()
    features = importlib.import_module("till.features")
    made = offline.compute(features.history, sales().with_columns(units=pl.col("SALE_ID") % 4))

    assert made.get_column("OWN_units").to_list() == [key % 4 for key in made.get_column("SALE_ID").to_list()]


@pytest.mark.parametrize("table", ["contract", "config", "_sales"])
def test_a_table_whose_class_would_hide_another_is_refused_before_it_lands(folder: Path, table: str) -> None:
    sales().write_parquet(f"{table}.parquet")
    with pytest.raises(PlatformError, match=f"'{table}' cannot be a name"):
        new_domain("till", None, first=Path(f"{table}.parquet"), target="EUROS", entity="SHOP")
    assert not (folder / "till").exists()
    assert not (folder / "home" / "landing" / table).exists()


@pytest.mark.parametrize("file", ["missing.csv", "sales.txt", "broken.parquet"])
def test_a_file_that_is_no_sample_is_named(folder: Path, file: str) -> None:
    (folder / "sales.txt").write_text("a,b\n1,2\n")
    (folder / "broken.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(PlatformError, match=file):
        new_domain("till", None, first=Path(file))


def test_the_command_takes_files_one_after_the_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "my-platform",
        "new-domain",
        "till",
        "--from",
        "sales.parquet",
        "shops.csv",
        "--target",
        "EUROS",
        "--entity",
        "SHOP",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as left:
            main()
    said = capsys.readouterr().out

    assert left.value.code == 0
    assert "forecasts EUROS of each SALE_ID, by SHOP, at SOLD_AT; known after 1 day" in said
    assert "a file a day, 40 days by SOLD_AT" in said
