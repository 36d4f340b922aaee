"""What Dagster shows of the marts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from my_platform.marts import prepare
from my_platform.marts.catalogue import Shown
from my_platform.marts.errors import MartError
from my_platform.marts.prepare import current_catalogue, ensure_catalogue

SHIPPED = Path(__file__).parents[2] / "dbt"


@pytest.fixture(scope="module")
def shown(project: Any) -> dict[str, Shown]:
    ensure_catalogue(project.folder, project.target)
    return current_catalogue(project.folder, project.target)


def test_a_mart_is_described_with_its_sql(shown: dict[str, Shown]) -> None:
    mart = shown["daily_volume_by_segment"]
    assert mart.about["description"].startswith("Transactions of a day, by customer segment")
    assert "count(distinct customer_id)" in mart.about["description"]
    assert mart.about["kinds"] == ("dbt", "duckdb")
    assert mart.metadata["dagster/table_name"] == "marts.daily_volume_by_segment"
    assert mart.metadata["dagster_dbt/unique_id"] == "model.my_platform.daily_volume_by_segment"


def test_each_test_is_a_check_with_its_severity(project: Any, shown: dict[str, Shown]) -> None:
    for name, mart in project.marts().items():
        assert [check.name for check in shown[name].checks] == [test.name for test in mart.tests]
    (warning,) = shown["doubled_cards"].checks
    assert (warning.severity, warning.description) == ("warn", "doubled: within(most 0)")
    (error,) = shown["cards_in_window"].checks
    assert error.severity == "error"
    assert error.metadata["column"] == "cards"


def test_a_column_is_followed_to_the_columns_that_it_is_made_of(shown: dict[str, Shown]) -> None:
    labelled, customers = "labelled_transactions", "validated/customers"
    assert shown["daily_fraud_by_segment"].lineage == {
        "partition_day": (),
        "segment": ((customers, "MEAN_AMOUNT"),),
        "labelled": (),
        "frauds": ((labelled, "IS_FRAUD"),),
        "fraud_rate": ((labelled, "IS_FRAUD"),),
        "amount_cents": ((labelled, "TX_AMOUNT"),),
        "fraud_amount_cents": ((labelled, "IS_FRAUD"), (labelled, "TX_AMOUNT")),
    }


def test_a_column_is_followed_through_steps_and_to_other_marts(shown: dict[str, Shown]) -> None:
    assert shown["cards_in_window"].lineage["cards"] == (("validated/transactions", "CUSTOMER_ID"),)
    assert shown["doubled_cards"].lineage == {
        "partition_day": (("marts/cards_in_window", "partition_day"),),
        "doubled": (("marts/cards_in_window", "cards"),),
    }


def test_a_project_that_dbt_cannot_compile_is_shown_without_lineage(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("manifest.json", prepare.PARSED):
        (tmp_path / name).write_bytes((project.target / name).read_bytes())
    failed = subprocess.CompletedProcess[str]([], 1, "no", "")
    monkeypatch.setattr(prepare, "call_dbt", lambda *arguments, **options: failed)

    ensure_catalogue(project.folder, tmp_path)

    found = current_catalogue(project.folder, tmp_path)["daily_volume_by_segment"]
    assert (found.lineage, len(found.checks)) == ({}, 10)


def test_it_is_read_without_dbt_or_dagster(project: Any, shown: dict[str, Shown]) -> None:
    script = (
        "import sys; from pathlib import Path; from my_platform.marts.prepare import current_catalogue\n"
        "current_catalogue(*map(Path, sys.argv[1:]))\n"
        "print(sorted({'dagster', 'dagster_dbt', 'dbt', 'sqlglot'} & set(sys.modules)))"
    )
    folders = [str(project.folder), str(project.target)]
    done = subprocess.run(
        [sys.executable, "-c", script, *folders], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_it_is_made_again_when_the_project_was_edited(project: Any, tmp_path: Path) -> None:
    (tmp_path / "catalogue.json").write_text(json.dumps({"project": "another", "marts": {}}))
    with pytest.raises(MartError, match="run `my-platform prepare`"):
        current_catalogue(project.folder, tmp_path)
