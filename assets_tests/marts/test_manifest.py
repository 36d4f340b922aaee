"""What the platform reads from dbt's manifest, and which models it refuses."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from my_platform.marts.errors import MartError
from my_platform.marts.manifest import Column, Mart, load_marts
from my_platform.marts.prepare import ensure_manifest

SHIPPED_MARTS = ["daily_fraud_by_segment", "daily_fraud_by_terminal", "daily_volume_by_segment"]


@pytest.fixture(scope="module")
def marts(project: Any) -> dict[str, Mart]:
    return project.marts()


@pytest.fixture
def doctored(project: Any, tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], None]], Path]:
    """The manifest with something changed in it."""

    def change(edit: Callable[[dict[str, Any]], None]) -> Path:
        manifest = json.loads(ensure_manifest(project.folder, project.target).read_bytes())
        edit(manifest)
        path = tmp_path / "manifest.json"
        path.write_text(json.dumps(manifest))
        return path

    return change


def node(manifest: dict[str, Any], name: str) -> dict[str, Any]:
    return manifest["nodes"][f"model.my_platform.{name}"]


def test_a_model_that_names_its_asset_is_a_mart(marts: dict[str, Mart]) -> None:
    assert list(marts) == sorted([*SHIPPED_MARTS, "cards_in_window", "doubled_cards", "peeking"])
    assert marts["daily_fraud_by_terminal"].asset == "marts/daily_fraud_by_terminal"


@pytest.mark.parametrize("name", SHIPPED_MARTS)
def test_every_shipped_column_has_a_type_and_a_description(marts: dict[str, Mart], name: str) -> None:
    assert marts[name].description
    assert all(column.type and column.description for column in marts[name].columns.values())
    assert next(iter(marts[name].columns)) == "partition_day"
    assert marts[name].columns["amount_cents"].type == "bigint"


def test_a_mart_reads_its_own_day_unless_it_says_otherwise(marts: dict[str, Mart]) -> None:
    read = marts["daily_fraud_by_terminal"].reads["labelled_transactions"]
    assert (read.asset, read.first, read.last, read.gaps, read.partitioned) == (
        "labelled_transactions",
        0,
        0,
        "wait",
        True,
    )
    assert marts["cards_in_window"].reads["validated_transactions"].first == -2


def test_a_source_says_that_it_is_optional_and_not_cut_into_days(marts: dict[str, Mart]) -> None:
    read = marts["daily_volume_by_segment"].reads["validated_customers"]
    assert (read.partitioned, read.gaps, read.at_least) == (False, "pass", 0)


def test_a_mart_of_a_mart_reads_that_mart(marts: dict[str, Mart]) -> None:
    reads = marts["doubled_cards"].reads
    assert list(reads) == ["cards_in_window"]
    assert (reads["cards_in_window"].asset, reads["cards_in_window"].is_mart) == (
        "marts/cards_in_window",
        True,
    )
    assert reads["cards_in_window"].columns == {"partition_day": "date", "cards": "bigint"}


def test_a_step_counts_as_part_of_the_marts_behind_it(marts: dict[str, Mart]) -> None:
    assert list(marts["cards_in_window"].code["steps"]) == ["plain_transactions"]
    assert list(marts["cards_in_window"].reads) == ["validated_transactions"]
    assert marts["doubled_cards"].code["steps"] == {}


def test_a_macro_is_reached_through_another(marts: dict[str, Mart]) -> None:
    reached = marts["cards_in_window"].code["macros"]
    assert {"macro.my_platform.window_days", "macro.my_platform.day_span"} <= reached.keys()
    assert "macro.my_platform.day_span" not in marts["daily_fraud_by_terminal"].code["macros"]


def test_tests_come_with_their_severity(marts: dict[str, Mart]) -> None:
    assert [(test.column, test.severity) for test in marts["doubled_cards"].tests] == [("doubled", "warn")]


def test_code_is_plain_and_holds_no_path_and_no_description(marts: dict[str, Mart], project: Any) -> None:
    text = json.dumps([mart.code for mart in marts.values()])
    assert not re.search(r"\.sql|\.yml|models/|" + re.escape(str(project.folder)), text)
    assert "Cards seen on a day" not in text


def test_a_var_counts_by_its_value_for_the_marts_that_name_it(project: Any, marts: dict[str, Mart]) -> None:
    changed = project.marts({"segment_bounds": [1, 2, 3]})
    assert changed["daily_volume_by_segment"].code["vars"] == {"segment_bounds": [1, 2, 3]}
    assert {name for name in marts if marts[name].code != changed[name].code} == {
        "daily_fraud_by_segment",
        "daily_volume_by_segment",
    }


def test_a_macro_that_replaces_one_of_dbt_counts_everywhere(doctored: Any) -> None:
    def override(manifest: dict[str, Any]) -> None:
        macro = {**manifest["macros"]["macro.my_platform.cents"], "name": "duckdb__create_table_as"}
        manifest["macros"]["macro.my_platform.duckdb__create_table_as"] = macro

    for mart in load_marts(doctored(override)):
        assert "macro.my_platform.duckdb__create_table_as" in mart.code["macros"]


def test_a_column_has_a_type_and_a_description(marts: dict[str, Mart]) -> None:
    assert marts["cards_in_window"].columns["cards"] == Column("bigint", "")
    assert marts["daily_fraud_by_segment"].columns["fraud_rate"] == Column("double", "frauds / labelled.")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda m: node(m, "peeking").update(raw_code="select now() as t"),
            "reaches 'now\\('.* another each time",
        ),
        (lambda m: node(m, "peeking").update(raw_code="{{ env_var('HOME') }}"), "reaches 'env_var\\('"),
        (lambda m: node(m, "peeking")["config"].update(materialized="incremental"), "materialized: table"),
        (
            lambda m: node(m, "peeking")["columns"].pop("partition_day"),
            "no column partition_day of data_type date",
        ),
        (
            lambda m: node(m, "peeking")["columns"]["content"].update(data_type=None),
            "content has no data_type",
        ),
        (
            lambda m: node(m, "doubled_cards")["config"]["meta"]["my_platform"].update(reads={"cards": {}}),
            "says how it reads cards, which its SQL does not read; it reads cards_in_window",
        ),
        (
            lambda m: node(m, "cards_in_window")["config"]["meta"]["my_platform"].update(
                reads={"validated_transactions": {"days": 3}}
            ),
            "known are first <= last",
        ),
        (
            lambda m: node(m, "doubled_cards")["depends_on"]["nodes"].append("seed.my_platform.rates"),
            "may read sources and models only",
        ),
        (lambda m: m["metadata"].update(env={}), "make it with prepare.ensure_manifest"),
    ],
)
def test_what_cannot_be_a_mart_is_refused(doctored: Any, edit: Any, message: str) -> None:
    with pytest.raises(MartError, match=message):
        load_marts(doctored(edit))


def test_a_test_that_compares_unrelated_marts_is_refused(doctored: Any) -> None:
    def relate(manifest: dict[str, Any]) -> None:
        tests = [
            n
            for n in manifest["nodes"].values()
            if n["resource_type"] == "test" and n["column_name"] == "doubled"
        ]
        tests[0]["depends_on"]["nodes"].append("model.my_platform.peeking")

    with pytest.raises(MartError, match="compares doubled_cards, peeking, of which none reads the others"):
        load_marts(doctored(relate))


def test_definitions_are_read_without_importing_dbt(project: Any) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from my_platform.marts.manifest import load_marts\n"
        "from my_platform.marts.prepare import ensure_manifest\n"
        "load_marts(ensure_manifest(Path(sys.argv[1]), Path(sys.argv[2])))\n"
        "sys.exit(any(name.split('.')[0] in ('dbt', 'dagster_dbt', 'yaml') for name in sys.modules))"
    )
    arguments = [sys.executable, "-c", script, str(project.folder), str(project.target)]
    assert subprocess.run(arguments, check=False).returncode == 0
