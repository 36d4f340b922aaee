"""Every fault of the scorecard is detected where it should be and contained, and clean deliveries raise nothing."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from assets_tests.faults import scorecard
from assets_tests.faults.registry import CONTROLS, FAULTS, Fault
from assets_tests.faults.scene import prepare
from assets_tests.faults.verdicts import Check, Refusal
from assets_tests.homes import Versions, folder_in_memory

# What the scorecard has to hold at least, in the words of its entries.
ASKED_FOR = """
    column dropped, column added, column renamed, column retyped, two columns of one type swapped, nulls flooded,
    -1 as a sentinel for an amount, amounts x 1000, time zone shifted by hours, duplicate rows,
    same file under another name, late file, missing day, empty file, truncated Parquet,
    a flipped byte in a landed file, a flipped byte in a stored value, volume -60 %, label among the features,
    future feature, train and test overlap, columns reordered at scoring, NaN label, single-class week,
    infinite feature, unknown terminal, negative amount, customer id of the wrong type, Parquet bomb of 300 M rows,
    file name with ../, file name with a newline, endless file name, symbolic link in landing, pipe in landing,
    half-written file, two files for one day, late labels
"""


def test_the_scorecard_holds_what_it_has_to() -> None:
    there = ", ".join(FAULTS)
    assert [name for name in re.split(r",\s+", ASKED_FOR.strip()) if name not in there] == []
    assert "a day without an hour, on a machine in Berlin" in CONTROLS


def test_the_page_tells_every_fault_and_control() -> None:
    page = scorecard.PAGE.read_text()
    assert [name for name in (*FAULTS, *CONTROLS) if f"| {name} |" not in page] == []


@pytest.fixture(scope="module")
def healthy() -> Iterator[tuple[Path, Versions]]:
    with folder_in_memory() as folder:
        yield folder / "healthy", prepare(folder / "healthy")


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_detected_and_contained(name: str, healthy: tuple[Path, Versions]) -> None:
    expected = FAULTS[name].expected
    if isinstance(expected, Check) and scorecard.check_names().isdisjoint(expected.names):
        pytest.skip(f"there is no {expected.where}")
    verdict = scorecard.judge(FAULTS[name], *healthy)
    assert verdict.missing == (), verdict


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_a_clean_control_raises_nothing(name: str, healthy: tuple[Path, Versions]) -> None:
    assert scorecard.alarms(CONTROLS[name], *healthy) == []


@pytest.mark.slow
def test_a_hundred_clean_days_raise_nothing() -> None:
    assert scorecard.alarms_of_clean_days(100) == []


@pytest.mark.slow
def test_a_fault_that_nobody_tells_is_missed(healthy: tuple[Path, Versions]) -> None:
    harmless = Fault("harmless", Refusal("raw/transactions"), CONTROLS["rows in another order"].inject)
    verdict = scorecard.judge(harmless, *healthy)
    assert (verdict.good, verdict.detected) == (False, "nowhere")
    elsewhere = Fault("elsewhere", Refusal("validated/transactions"), FAULTS["column dropped"].inject)
    assert not scorecard.judge(elsewhere, *healthy).good
    unnamed = Fault(
        "unnamed", Refusal("raw/transactions", ("column CHANNEL",)), FAULTS["column dropped"].inject
    )
    assert scorecard.judge(unnamed, *healthy).missing == ("says 'column CHANNEL'",)
