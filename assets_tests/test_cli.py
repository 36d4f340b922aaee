"""The command line as people use it: what it prints, its exit codes, and what it says to their mistakes."""

import gc
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests import conservation, homes
from my_platform.cli import main

FIRST, DAYS = "2024-01-03", 45
WEEKS = ["2024-01-17", "2024-01-24", "2024-01-31"]
SMALL = ("--customers", "200", "--terminals", "400", "--start", FIRST)
TRANSACTIONS = "key:raw/transactions or key:validated/transactions"
HEAVY = (
    "torch",
    "mlflow",
    "lightgbm",
    "optuna",
    "dbt",
    "dagster_dbt",
    "sklearn",
    "ray",
    "onnxruntime",
    "shap",
)


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it wrote."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(**variables: object) -> dict[str, str]:
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("MY_PLATFORM_", "DAGSTER_"))
    }
    own = {f"MY_PLATFORM_{name}": str(value) for name, value in variables.items()}
    return {**clean, "MY_PLATFORM_THREADS": "1", "MY_PLATFORM_BOOSTING_ROUNDS": "10", **own}


def call(*words: object, cwd: Path | None = None, **variables: object) -> Said:
    for option, home in itertools.pairwise(words):
        if option == "--home":
            conservation.watch(Path(str(home)))
    done = subprocess.run(
        [str(homes.COMMAND), *map(str, words)],
        cwd=cwd, env=environment(**variables), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def call_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """The command in this process, for the many mistakes: starting a process for each takes seconds."""
    thresholds = gc.get_threshold()

    def run(*words: object, **variables: object) -> Said:
        for name in [name for name in os.environ if name.startswith(("MY_PLATFORM_", "DAGSTER_"))]:
            monkeypatch.delenv(name)
        for name, value in {"DAGSTER_HOME": "", "MY_PLATFORM_HOME": "", **environment(**variables)}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["my-platform", *map(str, words)])
        monkeypatch.setattr(sys, "path", [*sys.path])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    yield run
    gc.set_threshold(*thresholds)


def refused(said: Said, *parts: str, code: int = 2) -> None:
    """A mistake ends with that exit code and a message that names what is wrong, and nothing else."""
    assert said.code == code, said
    assert "Traceback" not in said.error + said.out
    for part in parts:
        assert part in said.error, said.error
    if code == 2:
        assert said.out == ""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with homes.folder_in_memory() as found:
        yield found


@pytest.fixture(scope="module")
def landed(folder: Path) -> tuple[Path, Said]:
    home = folder / "a home"
    return home, call("--home", home, "simulate", "--days", DAYS, *SMALL, "--json")


@pytest.fixture(scope="module")
def refreshed(landed: tuple[Path, Said]) -> tuple[Path, Said]:
    home, said = landed
    assert said.code == 0, said.error
    return home, call("refresh", "--json", "--home", home)


@pytest.fixture(scope="module")
def home(refreshed: tuple[Path, Said]) -> Path:
    """A home that is up to date; tests leave it so."""
    home, said = refreshed
    assert said.code == 0, said.error
    return home


@pytest.fixture
def copy(home: Path, tmp_path: Path) -> Path:
    """A home of one's own, with the same content."""
    return shutil.copytree(home, home.parent / tmp_path.name / "copied home")


def versions(home: Path) -> Any:
    return call("--home", home, "versions", "--json").json


# What it prints --------------------------------------------------------------------------------------------


def test_simulate_says_what_it_landed(landed: tuple[Path, Said]) -> None:
    home, said = landed
    rows = sum(pl.read_parquet(path).height for path in (home / "landing" / "transactions").iterdir())
    files = len(list((home / "landing").glob("**/*.parquet")))
    found = said.json
    assert found == {
        "rows": rows,
        "frauds": found["frauds"],
        "days": DAYS,
        "files": files,
        "landing": f"{home}/landing",
    }
    assert 0 < found["frauds"] < rows


def test_a_first_refresh_computes_all_partitions_in_a_run(refreshed: tuple[Path, Said]) -> None:
    found = refreshed[1].json
    assert refreshed[1].code == 0
    assert set(found) == {"computed", "reused", "withdrawn", "failed", "runs", "seconds"}
    assert (found["reused"], found["withdrawn"], found["failed"], found["runs"]) == ({}, {}, {}, 1)
    assert found["seconds"] > 0
    days = found["computed"]["validated/transactions"]
    assert (days[0], days[-1], len(days)) == (FIRST, "2024-02-16", DAYS)
    assert found["computed"]["evaluation"] == WEEKS
    assert found["computed"]["raw/customers"] == [""]


def test_an_idle_refresh_computes_nothing_and_launches_no_run(home: Path) -> None:
    said = call("--home", home, "refresh", "--json")
    found = said.json
    assert (found["computed"], found["reused"], found["withdrawn"], found["failed"], found["runs"]) == (
        {},
        {},
        {},
        {},
        0,
    )


def test_versions_are_those_that_were_computed(home: Path, refreshed: tuple[Path, Said]) -> None:
    found = versions(home)
    assert {asset: list(keys) for asset, keys in found.items() if keys} == refreshed[1].json["computed"]
    assert all(len(version) == 32 for keys in found.values() for version in keys.values())


def test_evaluation_has_metrics_and_spans(home: Path) -> None:
    found = call("--home", home, "evaluation", "--json").json
    assert found["week"] == WEEKS[-1]
    assert all(
        isinstance(found["metrics"][m], float) for m in ("auc_roc", "average_precision", "precision_at_100")
    )
    for part in ("train", "test"):
        assert {"from", "to", "rows", "frauds"} <= set(found[part])
    assert {"train_rows", "train_frauds", "test_rows", "test_frauds"} <= set(found["benchmark"])
    assert f"week {WEEKS[0]}" in call("--home", home, "evaluation", "--week", WEEKS[0]).out


def test_plan_why_quarantine_and_gc_answer_with_one_object(home: Path, call_here: Any) -> None:
    plan = call_here("--home", home, "plan", "--json").json
    assert (plan["certain"], plan["possible"], plan["refused"]) == ({}, {}, {})
    assert call_here("--home", home, "quarantine", "--json").json == {}
    why = call_here("--home", home, "why", "validated/transactions", FIRST, "--json").json
    assert isinstance(why, dict)
    assert f"{home}/landing/transactions/{FIRST}.parquet" in json.dumps(why)
    assert call_here("--home", home, "gc", "--dry-run", "--json").json["dry_run"] is True


@pytest.mark.parametrize(
    "words", [("--home", "{}", "versions", "--json"), ("versions", "--json", "--home={}")]
)
def test_the_home_may_stand_before_or_after_the_command(home: Path, words: tuple[str, ...]) -> None:
    assert FIRST in call(*[word.format(home) for word in words]).json["validated/transactions"]


def test_the_home_may_be_relative_or_come_from_the_environment(home: Path) -> None:
    relative = call("--home", home.name, "versions", "--json", cwd=home.parent)
    assert relative.json == call("versions", "--json", HOME=home).json


# What lands wrong ------------------------------------------------------------------------------------------


def test_broken_files_are_named_by_day_and_repaired_without_computing(copy: Path) -> None:
    before = versions(copy)
    landing = copy / "landing" / "transactions"
    broken = ["2024-01-10", "2024-01-20", "2024-01-30", "2024-02-02", "2024-02-10"]
    files = [landing / f"{day}.parquet" for day in broken]
    whole = [file.read_bytes() for file in files]
    files[0].write_bytes(b"")
    files[1].write_text("not a table")
    pl.read_parquet(files[2]).rename({"TX_AMOUNT": "AMOUNT"}).write_parquet(files[2])
    (landing / f"{broken[3]}.csv").write_text("a,b\n1,2\n")
    files[4].write_bytes(whole[4][:-100])

    said = call("--home", copy, "refresh", "--json")
    refused(said, code=1)
    reasons = said.json["failed"]["raw/transactions"]
    assert list(reasons) == broken
    for day, words in zip(
        broken,
        (
            "is empty (0 bytes)",
            "cannot be read as a Parquet file",
            "column TX_AMOUNT is missing",
            "leave one of them",
            "cannot be",
        ),
        strict=True,
    ):
        assert f"{landing}/{day}." in reasons[day]
        assert words in reasons[day]
    assert said.json["computed"] == {}
    assert versions(copy) == before

    again = call("--home", copy, "refresh")
    refused(again, *(f"{landing}/{day}." for day in broken), code=1)
    assert "0 runs" in again.out

    (landing / f"{broken[3]}.csv").unlink()
    for file, data in zip(files, whole, strict=True):
        file.write_bytes(data)
    repaired = call("--home", copy, "refresh", "--json")
    assert repaired.code == 0
    assert (repaired.json["computed"], repaired.json["failed"]) == ({}, {})
    assert versions(copy) == before


def test_bad_rows_are_quarantined_with_their_reason_and_healed_by_a_corrected_file(
    copy: Path, call_here: Any
) -> None:
    before, file = versions(copy), copy / "landing" / "transactions" / "2024-02-16.parquet"
    whole = file.read_bytes()
    rows = pl.read_parquet(file)
    rows.with_columns(
        TX_AMOUNT=pl.when(pl.int_range(pl.len()) == 3).then(-1.0).otherwise("TX_AMOUNT")
    ).write_parquet(file)
    said = call("--home", copy, "refresh", "--select", TRANSACTIONS, "--from", "2024-02-01", "--json")
    assert said.code == 0, said.error
    assert said.json["computed"] == {
        name: ["2024-02-16"] for name in ("raw/transactions", "validated/transactions")
    }
    found = call("--home", copy, "quarantine", "validated/transactions", "2024-02-16", "--json").json
    (row,) = found["validated/transactions"]["2024-02-16"]
    assert (row["row_number"], row["TRANSACTION_ID"], row["TX_AMOUNT"]) == (
        3,
        rows["TRANSACTION_ID"][3],
        -1.0,
    )
    assert row["reason"] == "greater_than_or_equal_to(0) in TX_AMOUNT: -1.0"
    assert row["reason"] in call_here("--home", copy, "quarantine").out
    file.write_bytes(whole)
    assert call("--home", copy, "refresh", "--json").json["computed"] == {}
    assert versions(copy) == before


def test_assets_are_selected_by_their_names(copy: Path) -> None:
    said = call("--home", copy, "refresh", "--select", "terminal_risk, validated/transactions", "--json")
    assert (said.code, said.json["computed"], said.error) == (0, {}, "")


def test_a_damaged_value_is_named_and_computed_again(copy: Path) -> None:
    before = versions(copy)
    (file,) = (copy / "lake" / "validated" / "transactions" / "2024-02-01").glob("*.parquet")
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    said = call("--home", copy, "refresh", "--verify", "--json")
    assert said.code == 0, said.error
    assert said.json["computed"] == {"validated/transactions": ["2024-02-01"]}
    assert versions(copy) == before


# Mistakes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (("refresh", "--from", "2024-02-31"), ("--from 2024-02-31", "there is no such day")),
        (("refresh", "--through", "20240201"), ("--through 20240201", "YYYY-MM-DD")),
        (("refresh", "--from", "2024-02-10", "--through", "2024-02-01"), ("2024-02-10 is after --through 2024-02-01",)),
        (("refresh", "--select", "nothing"), ("--select nothing", "validated/transactions")),
        (("evaluation", "--week", "2024-01-32"), ("--week 2024-01-32",)),
        (("evaluation", "--week", "2024-01-18"), ("2024-01-18 has not been evaluated", "2024-01-17 to 2024-01-31")),
        (("why", "validated/nothing", FIRST), ("validated/nothing is no asset", "validated/transactions")),
        (("why", "validated/transactions"), ("validated/transactions has a partition for each day; say which",)),
        (("why", "evaluation", "2024-01-18"), ("start on Wednesdays; 2024-01-18",)),
        (("quarantine", "validated/transactions", "2024-02-30"), ("`2024-02-30` is not a day",)),
        (("quote", "nowhere.parquet", "--table", "transactions", "--day", FIRST), ("nowhere.parquet",)),
        (("simulate", "--days", "3", "--start", "2024-02-30"), ("--start 2024-02-30",)),
        (("simulate",), ("--days", "--append-days")),
        (("simulate", "--days", "0"), ("--days",)),
        (("simulate", "--days", "3", "--start", FIRST, "--seed", "1"), ("holds the simulation", "another home")),
        (("import-handbook", "nowhere"), ("holds a simulation", "another home")),
        (("refresh", "--nonsense"), ("--nonsense",)),
        (("nonsense",), ("nonsense",)),
    ],
)  # fmt: skip
def test_a_wrong_call_is_answered_with_what_is_wrong(
    home: Path, call_here: Any, words: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused(call_here("--home", home, *words), *parts)


def test_a_home_without_its_folder_is_told() -> None:
    refused(call("refresh", "--home"), "--home needs the folder")


@pytest.mark.parametrize(
    ("variables", "parts"),
    [
        ({"THREADS": "x"}, ("MY_PLATFORM_THREADS='x'", "integer")),
        ({"FOO": "1"}, ("MY_PLATFORM_FOO is no setting", "MY_PLATFORM_THREADS")),
        ({"DOMAINS": "nothing.there"}, ("MY_PLATFORM_DOMAINS", "nothing.there")),
        ({"DOMAINS": "json"}, ("the domain json has no function `assets(settings)`",)),
        ({"LAKE_URL": "ftp://lake"}, ("MY_PLATFORM_LAKE_URL='ftp://lake'", "s3://")),
    ],
)
def test_a_wrong_setting_is_named(
    home: Path, call_here: Any, variables: dict[str, str], parts: tuple[str, ...]
) -> None:
    refused(call_here("--home", home, "refresh", **variables), *parts)


def test_nothing_landed_is_told_with_what_to_do(tmp_path: Path, call_here: Any) -> None:
    home = tmp_path / "new home"
    for _ in range(2):
        refused(
            call_here("--home", home, "refresh"),
            f"nothing has landed in {home}/landing",
            "my-platform simulate",
        )
    assert call_here("--home", home, "plan", "--json").json["certain"] == {}
    refused(call_here("--home", home, "evaluation"), "no week has been evaluated")
    refused(call_here("--home", home, "import-handbook", tmp_path / "nowhere"), "nowhere is no folder")


def test_files_that_are_no_tables_are_not_landed_data(tmp_path: Path, call_here: Any) -> None:
    (tmp_path / "landing" / "transactions").mkdir(parents=True)
    (tmp_path / "landing" / "transactions" / "2024-02-30.parquet").write_bytes(b"x")
    said = call_here("--home", tmp_path, "refresh", "--json")
    assert (said.code, said.json["computed"], said.json["runs"]) == (0, {}, 0)


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path, call_here: Any) -> None:
    (tmp_path / "file").write_text("")
    refused(
        call_here("--home", tmp_path / "file", "refresh"),
        f"the home {tmp_path}/file cannot be used",
        "--home",
    )
    refused(call_here("--home", "/proc/no/home", "refresh"), "the home /proc/no/home cannot be used")
    refused(call_here("--home", tmp_path / "file" / "below", "simulate", "--days", 3), "cannot be used")
    (tmp_path / "home" / "lake").mkdir(parents=True)
    (tmp_path / "home" / "lake" / "index.sqlite").mkdir()
    refused(call_here("--home", tmp_path / "home", "versions"), "home/lake/index.sqlite cannot be used")


# Together --------------------------------------------------------------------------------------------------


def test_two_refreshes_at_once_compute_each_partition_once(folder: Path) -> None:
    home = folder / "shared home"
    assert call("--home", home, "simulate", "--days", 10, *SMALL).code == 0
    running = [
        subprocess.Popen(
            [str(homes.COMMAND), "--home", str(home), "refresh", "--json"],
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    ended = [(*process.communicate(timeout=240), process.returncode) for process in running]
    assert [code for _, _, code in ended] == [0, 0], ended
    computed: list[tuple[str, str]] = []
    for out, _, _ in ended:
        computed += [(asset, key) for asset, keys in json.loads(out)["computed"].items() for key in keys]
    current = [(asset, key) for asset, keys in versions(home).items() for key in keys]
    assert sorted(computed) == sorted(current)
    assert call("--home", home, "refresh", "--json").json["runs"] == 0


def test_loading_the_definitions_imports_nothing_heavy(home: Path) -> None:
    code = (
        "import sys, my_platform.definitions as definitions\n"
        "definitions.defs().resolve_asset_graph()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(HOME=home),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_dagsters_own_checks_find_nothing_to_say(folder: Path) -> None:
    checkout = homes.copied_checkout(folder / "checkout")
    for name in ("workspace.yaml", "pyproject.toml"):
        shutil.copy(homes.CHECKOUT / name, checkout / name)
    (checkout / ".venv").symlink_to(Path(sys.prefix))
    for command in (["dg", "check", "defs"], ["dagster", "asset", "list", "-m", "my_platform.definitions"]):
        done = subprocess.run(
            [str(homes.COMMAND.with_name(command[0])), *command[1:]],
            cwd=checkout, env=environment(HOME=folder / "checked"), capture_output=True, text=True,
            timeout=240, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Warning" not in done.stdout + done.stderr


def test_importing_the_definitions_touches_no_home(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", "import my_platform.definitions, my_platform.cli"],
        env=environment(HOME=tmp_path / "home"), timeout=120, check=True,
    )  # fmt: skip
    assert not (tmp_path / "home").exists()
