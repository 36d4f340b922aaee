"""Kinds of frauds, where they are known: slices of the evaluation, and nothing that a model could see."""

from pathlib import Path

import polars as pl

from assets_tests.homes import days, land, session
from my_platform.domains.fraud.evaluation import SCENARIOS, UNKNOWN_SCENARIO
from my_platform.storage.lake import file_in, json_in

LAST = 34
TESTED = days(14, LAST - 13, 7)
SIZE = {"customers": 150, "terminals": 300}


def test_kinds_that_land_later_are_slices_of_the_evaluation_and_make_nothing_else_stale(
    tmp_path: Path,
) -> None:
    landing = tmp_path / "landing"
    land(landing, LAST + 1, **SIZE)
    with session(tmp_path) as opened:
        assert opened.refresh().problems == []
    land(landing, LAST + 1, **SIZE, scenarios=True)
    known = pl.read_parquet(sorted((landing / SCENARIOS).glob("*.parquet")))

    with session(tmp_path) as opened:
        done = opened.refresh().as_json()
        lake, versions = opened.workspace.lake, opened.versions()

        of_days = {
            f"{step}/{SCENARIOS}": days(7, LAST) for step in ("raw", "validated", "profiles", "checks")
        }
        assert (done["failed"], done["computed"]) == (
            {},
            {**of_days, "test_set": TESTED, "evaluation": TESTED},
        )
        for week in TESTED:
            tested = lake.read("test_set", week, versions["test_set"][week])
            kinds = dict(tested.select("TRANSACTION_ID", "FRAUD_SCENARIO").rows())
            truth = dict(known.select("TRANSACTION_ID", "SCENARIO").rows())
            labels = dict(tested.select("TRANSACTION_ID", "IS_FRAUD").rows())
            assert kinds == {key: truth[key] if labels[key] else None for key in kinds}
            report = lake.read("evaluation", week, versions["evaluation"][week])
            slices = {
                part["value"]: part
                for part in json_in(report, "metrics.json")["slices"]
                if part["slice"] == "FRAUD_SCENARIO"
            }
            genuine = tested.filter(~pl.col("IS_FRAUD")).height
            counted = tested.filter("IS_FRAUD").group_by("FRAUD_SCENARIO").len()
            assert {value: (part["rows"] - genuine, part["positives"]) for value, part in slices.items()} == {
                str(kind): (number, number) for kind, number in counted.iter_rows()
            }
            assert all(part["average_precision"] and part["calibration"] is None for part in slices.values())
            page = file_in(report, "report.html").decode()
            assert all(f"fraud scenario: {kind}" in page for kind in slices)


def test_a_fraud_whose_kind_is_not_known_is_in_a_slice_of_its_own(tmp_path: Path) -> None:
    landing = tmp_path / "landing"
    land(landing, LAST + 1, **SIZE, scenarios=True)
    for path in sorted((landing / SCENARIOS).glob("*.parquet"))[1::2]:
        path.unlink()
    with session(tmp_path) as opened:
        opened.refresh(select='+key:"test_set"')
        week = TESTED[0]
        tested = opened.workspace.lake.read("test_set", week, opened.versions()["test_set"][week])
    frauds, genuine = tested.filter("IS_FRAUD"), tested.filter(~pl.col("IS_FRAUD"))
    assert frauds["FRAUD_SCENARIO"].null_count() == 0
    assert set(frauds["FRAUD_SCENARIO"]) > {UNKNOWN_SCENARIO}
    assert genuine["FRAUD_SCENARIO"].null_count() == genuine.height
