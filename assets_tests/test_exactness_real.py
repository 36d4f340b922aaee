"""Exactly what is owed, counted on the whole fraud platform: simulated days, and the Handbook's 136 real ones.

What is owed is told here without the platform: from the windows below and the data versions before and after.
A partition is owed if an input that it reads directly has another data version than before, or other code.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests.homes import (
    FIRST,
    Versions,
    call,
    copied_checkout,
    folder_in_memory,
    handbook_folder,
    land,
    session,
)
from my_platform.domains.fraud.handbook import import_handbook
from my_platform.domains.fraud.landing_files import reports_path, transactions_path
from my_platform.domains.fraud.parameters import TRAINING_WINDOW_DAYS
from my_platform.domains.fraud.simulator import land_late_labels
from my_platform.storage.lake import json_in

ROUNDS = 5
MONTH = (-30, 0)
TWO_MONTHS = (-60, 0)
WHOLE = None
TRAINED = (-7 - TRAINING_WINDOW_DAYS, -8)
# First and last day that is read of an input, counted from the reader's day, or from the first of its week.
READS: dict[str, dict[str, tuple[int, int] | None]] = {
    "raw/customers": {},
    "raw/terminals": {},
    "raw/transactions": {},
    "raw/fraud_reports": {},
    "validated/customers": {"raw/customers": WHOLE},
    "validated/terminals": {"raw/terminals": WHOLE},
    "known_customers": {"validated/customers": WHOLE},
    "known_terminals": {"validated/terminals": WHOLE},
    "unknown_customers": {"raw/transactions": (0, 0), "known_customers": WHOLE},
    "unknown_terminals": {"raw/transactions": (0, 0), "known_terminals": WHOLE},
    "validated/transactions": {
        "raw/transactions": (0, 0),
        "unknown_customers": (0, 0),
        "unknown_terminals": (0, 0),
    },
    "validated/fraud_reports": {"raw/fraud_reports": (0, 0)},
    "profiles/customers": {"validated/customers": WHOLE},
    "profiles/terminals": {"validated/terminals": WHOLE},
    "profiles/transactions": {"validated/transactions": (0, 0)},
    "profiles/fraud_reports": {"validated/fraud_reports": (0, 0)},
    "checks/customers": {"profiles/customers": WHOLE, "validated/customers": WHOLE},
    "checks/terminals": {"profiles/terminals": WHOLE, "validated/terminals": WHOLE},
    "checks/transactions": {"profiles/transactions": (-28, 0), "validated/transactions": (-6, 0)},
    "checks/fraud_reports": {"profiles/fraud_reports": (-28, 0), "validated/fraud_reports": (-6, 0)},
    "labelled_transactions": {
        "validated/fraud_reports": (0, 0),
        "validated/transactions": MONTH,
        "customer_spending": MONTH,
    },
    "customer_spending": {"validated/transactions": MONTH},
    "usual_spending": {"customer_spending": TWO_MONTHS},
    "terminal_risk": {"validated/transactions": (0, 0), "labelled_transactions": MONTH},
    "marts/daily_fraud_by_segment": {"labelled_transactions": (0, 0), "validated/customers": WHOLE},
    "marts/daily_fraud_by_terminal": {"labelled_transactions": (0, 0)},
    "marts/daily_volume_by_segment": {"validated/transactions": (0, 0), "validated/customers": WHOLE},
    "training_set": {
        "customer_spending": TRAINED,
        "usual_spending": TRAINED,
        "terminal_risk": TRAINED,
        "validated/fraud_reports": (TRAINED[0], -1),
    },
    "training_set_replay": {
        "training_set": (0, 0),
        **dict.fromkeys(
            ("validated/transactions", "labelled_transactions", "validated/fraud_reports"),
            (TRAINED[0] + MONTH[0], TRAINED[1]),
        ),
        "customer_spending": (TRAINED[0] + TWO_MONTHS[0], TRAINED[1]),
    },
    "fraud_lightgbm": {"training_set": (0, 0), "training_set_replay": (0, 0)},
    "fraud_lightgbm_onnx": {"fraud_lightgbm": (0, 0), "training_set": (0, 0)},
    "predictions": {
        "fraud_lightgbm": (0, 0),
        "training_set": (0, 0),
        "validated/transactions": (0, 6),
        "customer_spending": (0, 6),
        "usual_spending": (0, 6),
        "terminal_risk": (0, 6),
    },
    "test_set": {
        "validated/transactions": (-14, 6),
        "customer_spending": (0, 6),
        "usual_spending": (0, 6),
        "terminal_risk": (0, 6),
        "validated/fraud_reports": (-14, 13),
    },
    "evaluation": {
        "predictions": (-28, 0),
        "test_set": (-28, 0),
        "fraud_lightgbm": (0, 0),
        "validated/transactions": (-14, -8),
        "validated/fraud_reports": (-14, -1),
    },
}
# Where the published figures are from, and what the platform's own model is held to on it.
BENCHMARK_WEEK = "2018-08-08"

HANDBOOK = pytest.param("handbook", marks=[pytest.mark.slow, pytest.mark.real_data])
only_handbook = pytest.mark.parametrize("place", [HANDBOOK], indirect=True)


@dataclass
class Place:
    """A home that is up to date.

    Attributes:
        corrected: the day whose transactions a test corrects.
        reported: the day whose reports a test moves to the next one.
        full_build: the answer of the first refresh.
    """

    home: Path
    corrected: date
    reported: date
    full_build: dict[str, Any]

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    def refresh(self, **asked: Any) -> dict[str, Any]:
        with session(self.home, boosting_rounds=ROUNDS) as opened:
            return opened.refresh(**asked).as_json()

    def versions(self) -> Versions:
        with session(self.home, boosting_rounds=ROUNDS) as opened:
            return opened.versions()


@pytest.fixture(
    scope="module",
    params=["simulated", HANDBOOK],
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with folder_in_memory() as folder:
        home = folder / "home"
        if request.param == "simulated":
            land(home / "landing", 45, customers=100, terminals=200)
            corrected, reported = FIRST + timedelta(days=23), FIRST + timedelta(days=26)
        else:
            import_handbook(handbook_folder(), home / "landing")
            corrected, reported = date(2018, 6, 14), date(2018, 7, 5)
        place = Place(home, corrected, reported, {})
        place.full_build = place.refresh()
        yield place


def window(asset: str, key: str) -> Iterable[tuple[str, str]]:
    """The input partitions that a partition reads, whether they are there or not."""
    for parent, offsets in READS[asset].items():
        if offsets is WHOLE:
            yield parent, ""
            continue
        start = date.fromisoformat(key)
        for number in range(offsets[0], offsets[1] + 1):
            yield parent, (start + timedelta(days=number)).isoformat()


def readers(before: Versions, after: Versions) -> dict[str, list[str]]:
    """The partitions that read something which has another version than before."""
    found: dict[str, list[str]] = {}
    for asset in READS:
        for key in after[asset]:
            if any(before[p].get(k) != after[p].get(k) for p, k in window(asset, key)):
                found.setdefault(asset, []).append(key)
    return found


def changed(before: Versions, after: Versions) -> dict[str, list[str]]:
    """The partitions that have another version than before."""
    keys = {asset: sorted({*before[asset], *after[asset]}) for asset in READS}
    found = {a: [k for k in keys[a] if before[a].get(k) != after[a].get(k)] for a in READS}
    return {asset: ks for asset, ks in found.items() if ks}


def land_again(path: Path, data: bytes) -> None:
    """Put a file in place of another, as a source system does that delivers it again."""
    staged = path.with_name(f".{path.name}")
    staged.write_bytes(data)
    staged.replace(path)


def test_the_first_refresh_computes_every_partition_once(place: Place) -> None:
    computed, versions = place.full_build["computed"], place.versions()
    assert computed == {asset: list(keys) for asset, keys in versions.items() if keys}
    assert place.full_build["failed"] == place.full_build["reused"] == {}
    assert place.full_build["runs"] == 1
    # What a service logs is not there, nor are the profiles of the handbook's cards and terminals.
    profiled = (place.landing / "customers.parquet").exists()
    expected = {name for name in READS if profiled or not name.endswith(("customers", "terminals"))}
    assert {name for name, keys in versions.items() if keys} == expected


def test_a_second_refresh_computes_nothing_and_launches_no_run(place: Place) -> None:
    again = place.refresh()
    assert (again["computed"], again["reused"], again["runs"]) == ({}, {}, 0)


def test_an_identical_file_that_lands_again_causes_no_work(place: Place) -> None:
    path = transactions_path(place.landing, place.corrected)
    before = path.stat()
    land_again(path, path.read_bytes())
    assert (path.stat().st_ino, path.stat().st_mtime_ns) != (before.st_ino, before.st_mtime_ns)
    again = place.refresh()
    assert (again["computed"], again["reused"], again["runs"]) == ({}, {}, 0)


def test_a_corrected_amount_recomputes_its_readers_and_stops_where_nothing_changes(place: Place) -> None:
    path = transactions_path(place.landing, place.corrected)
    landed, before = path.read_bytes(), place.versions()
    table = pl.read_parquet(path)
    amounts = table["TX_AMOUNT"].to_list()
    amounts[table.height // 2] += 0.01
    table.with_columns(TX_AMOUNT=pl.Series(amounts)).write_parquet(path)

    done, after = place.refresh(), place.versions()

    day = place.corrected.isoformat()
    assert done["computed"] == {"raw/transactions": [day], **sorted_by_asset(readers(before, after))}
    # Those days come out changed on which a payment of that card within 30 days is reported, and no others.
    card, paid = table.select("CUSTOMER_ID", "TX_DATETIME").row(table.height // 2)
    reported = (
        pl.scan_parquet(path.parent / "*.parquet")
        .filter(
            pl.col("CUSTOMER_ID") == card,
            pl.col("TX_DATETIME").is_between(paid, paid + timedelta(days=30), "left"),
        )
        .select((pl.col("TX_DATETIME").dt.date() + timedelta(days=7)).cast(pl.String).unique())
        .collect()
        .to_series()
    )
    moved = set(changed(before, after)["labelled_transactions"])
    assert moved == set(reported) & set(after["labelled_transactions"])
    assert moved < set(done["computed"]["labelled_transactions"])

    land_again(path, landed)
    back = place.refresh()
    assert back["computed"] == {}
    assert back["reused"] == sorted_by_asset(changed(before, after))
    assert place.versions() == before


def test_a_label_that_comes_later_leaves_the_models_from_before_it_alone(place: Place) -> None:
    later = place.reported + timedelta(days=1)
    paths = [reports_path(place.landing, place.reported), reports_path(place.landing, later)]
    landed, before = [path.read_bytes() for path in paths], place.versions()
    land_late_labels(place.landing, place.reported, 0.05)

    done, after = place.refresh(), place.versions()

    days = [place.reported.isoformat(), later.isoformat()]
    assert done["computed"] == sorted_by_asset({"raw/fraud_reports": days, **readers(before, after)})
    assert done["computed"]["labelled_transactions"] == days
    assert min(done["computed"]["training_set"]) > place.reported.isoformat()

    for path, data in zip(paths, landed, strict=True):
        land_again(path, data)
    back = place.refresh()
    assert back["computed"] == {}
    assert place.versions() == before


def test_a_comment_in_a_feature_function_causes_no_work(place: Place, tmp_path: Path) -> None:
    code = copied_checkout(tmp_path)
    edit(code, "def ratio(", "# A share.\ndef ratio(")
    edit(code, '"""numerator ÷ denominator', '"""The share numerator ÷ denominator')
    edit(code, 'AMOUNT_CENTS = {"tx_cents":', 'AMOUNT_CENTS = {\n    "tx_cents":')
    again = call(place.home, "refresh", code=code, boosting_rounds=ROUNDS)
    assert (again["computed"], again["reused"], again["runs"]) == ({}, {}, 0)


def test_a_changed_constant_recomputes_the_feature_set_that_uses_it_and_its_readers(
    place: Place, tmp_path: Path
) -> None:
    before = place.versions()
    code = copied_checkout(tmp_path)
    edit(code, "LAST_NIGHT_HOUR = 6", "LAST_NIGHT_HOUR = 5")

    done = call(place.home, "refresh", code=code, boosting_rounds=ROUNDS)
    after = place.versions()

    by_code = {name: list(after[name]) for name in ("customer_spending", "training_set_replay")}
    owed = {**readers(before, after), **by_code}
    assert done["computed"] == sorted_by_asset(owed)
    weekly = {
        "training_set",
        "fraud_lightgbm",
        "fraud_lightgbm_onnx",
        "predictions",
        "test_set",
        "evaluation",
    }
    daily = {"customer_spending", "usual_spending", "labelled_transactions"}
    assert set(owed) == {*daily, "training_set_replay", *weekly}
    back = place.refresh()
    assert back["computed"] == {}
    assert place.versions() == before


def edit(code: Path, old: str, new: str) -> None:
    path = code / "my_platform" / "domains" / "fraud" / "features.py"
    text, times = re.subn(re.escape(old), lambda _: new, path.read_text())
    assert times == 1, f"{old} stands {times} times in {path}"
    path.write_text(text)


def sorted_by_asset(found: dict[str, list[str]]) -> dict[str, list[str]]:
    return {asset: sorted(keys) for asset, keys in sorted(found.items())}


@only_handbook
def test_the_handbooks_rows_and_frauds_are_counted_as_published(place: Place) -> None:
    found = call(place.home, "evaluation", "--week", BENCHMARK_WEEK, boosting_rounds=ROUNDS)
    assert found["benchmark"] == {
        "train_rows": 67_240,
        "train_frauds": 598,
        "test_rows": 58_264,
        "test_frauds": 385,
    }


@only_handbook
def test_the_default_model_is_as_good_as_claimed_and_not_better_than_it_can_be(place: Place) -> None:
    before = place.versions()
    week = date.fromisoformat(BENCHMARK_WEEK)
    weekly = ("training_set", "training_set_replay", "fraud_lightgbm", "predictions", "evaluation")
    with session(place.home, boosting_rounds=None, threads=2) as opened:
        select = " or ".join(f'key:"{name}"' for name in weekly)
        done = opened.refresh(select=select, first=week, through=week).as_json()
        metrics = opened.evaluation(BENCHMARK_WEEK)["metrics"]
    assert done["computed"] == {asset: [BENCHMARK_WEEK] for asset in sorted(weekly[2:])}
    # The lower bounds are a little below docs/results.md, the upper ones .01 and .015 above what one could know who
    # knows the generator and the past (docs/benchmarks.md, "What can be told at all"): beyond would be a leak.
    # It is the best bundle of all, which is asked for .765 at three digits.
    assert 0.765 <= round(metrics["average_precision"], 3) <= 0.789
    assert metrics["auc_roc"] >= 0.883
    assert 0.298 <= metrics["precision_at_100"] <= 0.318

    back = place.refresh()
    assert back["computed"] == {}
    assert place.versions() == before


@only_handbook
def test_the_net_and_the_blend_are_as_good_as_claimed_and_not_better_than_they_can_be(place: Place) -> None:
    before = place.versions()
    week = date.fromisoformat(BENCHMARK_WEEK)
    of_trees = ("fraud_lightgbm", "fraud_lightgbm_onnx", "predictions")
    of_nets = ("fraud_tabm", "fraud_tabm_onnx", "tabm_predictions", "tabm_evaluation")
    of_both = ("fraud_blend", "blend_predictions", "blend_evaluation")
    with session(place.home, boosting_rounds=None, threads=2, nets="budget") as opened:
        select = " or ".join(f'key:"{name}"' for name in (*of_trees, *of_nets, *of_both))
        assert opened.refresh(select=select, first=week, through=week).problems == []
        versions = opened.versions()
        net, both = (
            json_in(
                opened.workspace.lake.read(name, BENCHMARK_WEEK, versions[name][BENCHMARK_WEEK]),
                "metrics.json",
            )["metrics"]
            for name in (of_nets[-1], of_both[-1])
        )
    assert 0.74 <= net["average_precision"] <= 0.789
    assert net["auc_roc"] >= 0.87
    assert 0.755 <= both["average_precision"] <= 0.789

    place.refresh()
    assert place.versions() == before
