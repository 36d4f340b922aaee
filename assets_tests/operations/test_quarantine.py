"""Quarantine in a home: rows are browsed and let in, days fail as a whole, and readers know what they read."""

import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from assets_tests.operations.shop import ORDERS
from assets_tests.operations.till import RAW, VALID, Till, day
from my_platform.errors import PlatformError
from my_platform.operations.quarantine import KEPT_OUT, REFUSED, Chosen, Word, bad_rows, decided, release
from my_platform.operations.retention import collect
from my_platform.storage.landing import Landing
from my_platform.storage.places import LandingFolder

LENIENT = replace(ORDERS, most_bad_share=0.5)


@pytest.fixture
def till(folder: Path) -> Till:
    """Ten good days; on the fourth, two of four orders have a negative amount."""
    made = Till(folder, LENIENT)
    for number in range(10):
        made.land(number, 100, 200, 300, 400)
    made.land(3, 100, -7, 300, -9)
    assert made.refresh().problems == []
    return made


def readers(*numbers: int) -> dict[str, list[str]]:
    return {"shop_week": [day(n) for n in numbers]}


# Browsing --------------------------------------------------------------------------------------------------


def test_bad_rows_tell_file_row_rule_column_value_and_contract(till: Till) -> None:
    (first, _) = till.bad(3).as_json()
    assert {name: first[name] for name in ("row_number", "rule", "column", "value", "state")} == {
        "row_number": 1,
        "rule": "greater_than_or_equal_to(0)",
        "column": "CENTS",
        "value": "-7",
        "state": KEPT_OUT,
    }
    assert first["file"] == str(till.file(3))
    shown = till.heads.metadata(VALID, day(3))
    assert first["contract_version"] == shown["contract_version"]
    assert [row["value"] for row in shown["quarantine"]] == ["-7", "-9"]


def test_a_file_that_was_replaced_by_a_broken_one_is_not_named_as_the_origin(till: Till) -> None:
    till.file(3).write_text("a,b\n")
    stricter = till.with_contract(replace(LENIENT, at_least_rows=2))
    assert list(stricter.refresh().outcome.failed) == [RAW]
    assert [row["file"] for row in stricter.bad(3).as_json()] == ["", ""]


def test_what_is_not_there_is_said(till: Till) -> None:
    assert list(bad_rows(till.workspace, till.heads, till.heads.now, VALID, day(4))) == []
    with pytest.raises(PlatformError, match="nothing is no asset; there are raw/orders"):
        list(bad_rows(till.workspace, till.heads, till.heads.now, "nothing"))


# Letting in ------------------------------------------------------------------------------------------------


def test_a_home_without_decisions_has_no_place_for_them(till: Till) -> None:
    assert not (till.folder / "landing" / "decisions").exists()
    assert "inputs" in till.heads.metadata(VALID, day(3))
    assert list(till.heads.metadata(VALID, day(3))["inputs"]) == ["landed"]


def test_a_released_row_heals_its_partition_and_its_readers_and_nothing_else(till: Till) -> None:
    till.release(3, 1)
    assert till.computed() == {VALID: [day(3)], **readers(*range(3, 10))}
    assert till.rows(VALID, 3)["CENTS"].to_list() == [100, -7, 300]
    assert till.heads.metadata(VALID, day(3))["released_rows"] == 1
    assert till.computed() == {}


def test_a_release_that_is_taken_back_leads_back_without_computing(till: Till) -> None:
    before = till.versions()
    till.release(3, 1, 3)
    till.refresh()
    till.undo(3)
    report = till.refresh()
    assert report.outcome.computed == {}
    assert report.outcome.reused == {VALID: [day(3)], **readers(*range(3, 10))}
    assert till.versions() == before


def test_the_same_row_is_found_in_another_file_of_the_day(till: Till) -> None:
    till.release(3, 1)
    till.refresh()
    till.file(3).write_text(till.file(3).read_text().replace("400", "401") + f"399,{day(3)} 20:00:00,1,5\n")
    till.refresh()
    assert till.rows(VALID, 3)["CENTS"].to_list() == [100, -7, 300, 5]
    till.land(3, 100, -8, 300, 400)
    till.refresh()
    assert till.rows(VALID, 3)["CENTS"].to_list() == [100, 300, 400]


def test_decisions_of_two_people_at_once_both_count(till: Till) -> None:
    seen_by_both = till.bad(3)
    for row, name in ((1, "ada"), (3, "bob")):
        release(till.workspace, seen_by_both, Chosen(rows=(row,)), Word.given("seen the receipt", name))
    till.refresh()
    assert till.rows(VALID, 3)["CENTS"].to_list() == [100, -7, 300, -9]
    assert [(d["by"], d["rows"], d["stands"]) for d in decided(till.workspace, None, None)] == [
        ("ada", [1], True),
        ("bob", [3], True),
    ]


def test_the_same_release_for_another_reason_costs_nothing(till: Till) -> None:
    bad = till.bad(3)
    for reason in ("seen the receipt", "seen it again"):
        release(till.workspace, bad, Chosen(rows=(1,)), Word.given(reason, "ada"))
        computed = till.computed()
    assert computed == {}


def test_landing_alone_gives_the_same_home_decisions_included(till: Till, folder: Path) -> None:
    till.release(3, 3)
    till.refresh()
    elsewhere = folder / "elsewhere"
    shutil.copytree(folder / "landing", elsewhere / "landing")
    other = Till(elsewhere, LENIENT)
    other.refresh()
    assert other.versions() == till.versions()


def test_a_row_that_readers_must_not_see_is_not_let_in(till: Till) -> None:
    till.land(5, 100, 200, 300, 400)
    text = till.file(5).read_text()
    till.file(5).write_text(text.replace(f"501,{day(5)}", f"501,{day(6)}"))
    till.refresh()
    with pytest.raises(
        PlatformError, match=rf"row 1 of {VALID} {day(5)} cannot be let in: outside_day in ORDERED_AT"
    ):
        till.release(5, 1)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (Chosen(), "say which rows: --rows 3,17, --rule RULE or --all"),
        (Chosen(rows=(1,), all=True), "say which rows"),
        (Chosen(rows=(1, 2, 77)), r"row 2, 77 of .* is not in quarantine; there are the rows 1, 3"),
        (
            Chosen(rule="outside_day"),
            r"no row of .* broke outside_day; the rules that were broken are greater_than",
        ),
    ],
)
def test_a_choice_that_names_no_row_is_refused(till: Till, chosen: Chosen, message: str) -> None:
    with pytest.raises(PlatformError, match=message):
        release(till.workspace, till.bad(3), chosen, Word.given("why", "ada"))


def test_a_decision_needs_a_reason_and_something_to_decide(till: Till) -> None:
    with pytest.raises(PlatformError, match="a decision needs its reason"):
        Word.given("  ", "ada")
    with pytest.raises(PlatformError, match=r"no row of .* is released"):
        till.undo(3)


def test_a_decision_that_was_tampered_with_is_refused_by_name(till: Till) -> None:
    before = till.versions()
    till.release(3, 1)
    (path,) = (till.folder / "landing").glob("decisions/**/*.json")
    path.write_text(path.read_text().replace("seen", "sign"))
    report = till.refresh()
    (reason,) = report.problems
    assert f"{VALID} {day(3)}: {path} is not a decision as `my-platform release` wrote it" in reason
    assert till.versions() == before


# Contracts -------------------------------------------------------------------------------------------------


def test_a_changed_rule_has_no_file_read_again(till: Till, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = till.workspace.landing.hashed
    stricter = till.with_contract(replace(LENIENT, at_least_rows=2))
    read: list[str] = []
    whole = LandingFolder.read
    monkeypatch.setattr(LandingFolder, "read", lambda self, path: read.append(path) or whole(self, path))
    monkeypatch.setattr("my_platform.storage.landing._UNSETTLED_NS", 0)
    report = stricter.refresh()
    assert report.outcome.computed == {VALID: [day(n) for n in range(10)]}
    assert (read, hashed) == ([], hashed)


def test_a_changed_policy_for_columns_reads_files_again_and_changes_nothing_below(till: Till) -> None:
    lenient = till.with_contract(replace(LENIENT, extra_columns="ignore"))
    before = till.versions()
    assert lenient.computed() == {RAW: [day(n) for n in range(10)]}
    assert lenient.versions() == before


# Days that fail as a whole ---------------------------------------------------------------------------------


@pytest.fixture
def broken(till: Till) -> Till:
    """The sixth day lands again, and three of its four orders have a negative amount."""
    till.land(5, 100, -2, -3, -4)
    report = till.refresh()
    assert list(report.outcome.failed) == [VALID]
    assert "3 of 4 rows break the contract, more than 50%" in report.outcome.failed[VALID][day(5)]
    return till


def test_the_rows_of_a_refused_day_can_be_looked_at(broken: Till) -> None:
    bad = broken.bad(5)
    assert bad.state == REFUSED
    assert [row["value"] for row in bad.as_json()] == ["-2", "-3", "-4"]
    ((asset, partition, shown),) = broken.heads.refused
    assert (asset, partition) == (VALID, day(5))
    assert "3 of 4 rows break the contract" in shown["refused"]


def test_the_last_good_version_stays_and_readers_are_marked(broken: Till) -> None:
    assert broken.rows(VALID, 5)["CENTS"].to_list() == [100, 200, 300, 400]
    broken.land(6, 100, 200, 300, 401)
    broken.refresh()
    assert broken.rows("shop_week", 6)["CENTS"].sum() > 0
    (older,) = broken.heads.metadata("shop_week", day(6))["older_inputs"]
    reason = f"{VALID} {day(5)}: {broken.file(5)}: 3 of 4 rows break the contract"
    assert older.startswith(f"{VALID} {day(5)}: {reason}")
    assert "older_inputs" not in broken.heads.metadata("shop_week", day(4))


def test_enough_released_rows_let_a_refused_day_in(broken: Till) -> None:
    broken.release(5, 2)
    assert broken.computed() == {VALID: [day(5)], **readers(*range(5, 10))}
    assert broken.rows(VALID, 5)["CENTS"].to_list() == [100, -3]
    assert broken.bad(5).state == KEPT_OUT
    assert "older_inputs" not in broken.heads.metadata("shop_week", day(6))


def test_a_refused_day_under_changed_code_is_marked_as_older(broken: Till) -> None:
    changed = broken.with_contract(replace(LENIENT, at_least_rows=2))
    assert list(changed.refresh().outcome.failed) == [VALID]
    (older,) = changed.heads.metadata(VALID, day(5))["older_inputs"]
    assert "3 of 4 rows break the contract" in older


def test_rows_of_a_refused_day_go_when_it_is_refused_no_more(broken: Till) -> None:
    kept = list((broken.folder / "quarantine").glob(f"**/{day(5)}/*.parquet"))
    assert len(kept) == 1
    collect(broken.workspace, broken.heads.now, keep_days=0, dry_run=False)
    assert kept[0].exists()
    broken.land(5, 100, 200)
    broken.refresh()
    broken.workspace.lake.index.forget_refusals()
    collect(broken.workspace, broken.heads.now, keep_days=0, dry_run=False)
    assert not kept[0].exists()
    assert broken.bad(3).rows.height == 2


# Lateness and doubles --------------------------------------------------------------------------------------


def test_the_file_of_another_day_is_named_as_such(till: Till) -> None:
    shutil.copy(till.file(4), till.file(7))
    (reason,) = till.refresh().problems
    assert f"{VALID} {day(7)}: {till.file(7)}: 4 of 4 rows break the contract" in reason
    assert f"{RAW} {day(7)} has the same content as {RAW} {day(4)}" in reason


def test_a_missing_day_is_named_by_its_readers_and_heals_when_it_lands_late(folder: Path) -> None:
    till = Till(folder)
    for number in (0, 1, 3):
        till.land(number, 100)
    assert till.computed() == {
        RAW: [day(n) for n in (0, 1, 3)],
        VALID: [day(n) for n in (0, 1, 3)],
        **readers(*range(4)),
    }
    assert till.heads.metadata("shop_week", day(3))["gaps"] == [f"{VALID} {day(2)}"]
    till.land(2, 200)
    assert till.computed() == {RAW: [day(2)], VALID: [day(2)], **readers(2, 3)}
    assert "gaps" not in till.heads.metadata("shop_week", day(3))


def test_a_half_written_file_is_waited_for_once_and_then_told(folder: Path) -> None:
    till = Till(folder, quiet_s=0.2)
    till.land(0, 100)
    till.refresh()
    whole = till.land(1, 100, 200).read_text()
    till.file(1).write_text(whole[:-1])
    report = till.refresh()
    assert report.problems == []
    assert till.rows(VALID, 1).height == 2


def test_a_file_that_goes_on_growing_has_not_landed(folder: Path) -> None:
    till = Till(folder, quiet_s=0.2)

    class Growing(LandingFolder):
        def read(self, path: str) -> bytes:
            data = super().read(path)
            if path.endswith(f"{day(1)}.csv"):
                with open(till.file(1), "a") as file:
                    file.write("x")
            return data

    till.land(0, 100)
    till.land(1, 100)
    till.workspace.landing = Landing(Growing(folder / "landing"), till.workspace.lake.index, quiet_s=0.2)
    report = till.refresh()
    assert report.outcome.computed[RAW] == [day(0)]
    assert report.as_json()["unfinished"] == [str(till.file(1))]


def test_files_that_no_table_reads_are_told_and_hinder_nothing(folder: Path) -> None:
    till = Till(folder)
    till.land(0, 100)
    for name in ("day\n2.csv", "2026-02-30.csv", "README.md"):
        shutil.copy(till.file(0), till.file(0).with_name(name))
    report = till.refresh()
    assert report.outcome.computed[VALID] == [day(0)]
    assert list(report.as_json()["misnamed"]) == ["orders/2026-02-30.csv"]
    (reason,) = report.problems
    assert r"orders/day\n2.csv is read by no table" in reason


def test_every_bad_row_is_in_one_place(till: Till) -> None:
    for number in range(10):
        landed = pl.read_csv(till.file(number)).height
        bad = [
            b.rows.height for b in bad_rows(till.workspace, till.heads, till.heads.now, VALID, day(number))
        ]
        assert landed == till.rows(VALID, number).height + sum(bad)
