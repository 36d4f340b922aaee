"""Training sets that do not fit into memory: the same rows, answers and refusals as with plenty of it."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets_tests.homes import day, folder_in_memory, land, session
from my_platform.domains.fraud import protocol
from my_platform.incremental.memory import Memory
from my_platform.operations.refresh import Report
from my_platform.operations.session import Session

FEATURE = "CUSTOMER_ID_NB_TX_7DAY_WINDOW"
WEEKS = [day(14), day(21), day(28)]
ROOM = 1_500_000
TRAINING = "group:training"
ASSETS = ("training_set", "training_set_replay")


@pytest.fixture(scope="module")
def features() -> Iterator[Path]:
    """28 days whose features are there, and no training set."""
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", 28, customers=60, terminals=120)
        with session(folder / "home", training_window_days=14) as opened:
            assert opened.refresh(select="+group:features").problems == []
        yield folder / "home"


def trained(home: Path, limit: int | None, asked: Any) -> Any:
    """What is asked of a home whose training sets were made with so much room for rows."""
    with session(home, training_window_days=14) as opened:
        opened.workspace.memory = Memory(limit, home / "spill")
        return asked(opened, opened.refresh(select=TRAINING))


def said(opened: Session, report: Report) -> dict[str, Any]:
    """Problems, data versions, checks as they are stored, and metadata, by week."""
    versions = opened.versions()
    current = {(asset, week): versions.get(asset, {}).get(week) for asset in ASSETS for week in WEEKS}
    return {
        "problems": report.problems,
        "versions": current,
        "checks": {
            of: (opened.workspace.lake.record(*of, version) or {})["checks"]
            for of, version in current.items()
            if version is not None
        },
        "metadata": {
            week: {name: value.value for name, value in metadata(opened, week).items()}
            for week in WEEKS
            if current["training_set", week] is not None
        },
    }


def metadata(opened: Session, week: str) -> Any:
    records = opened.instance.fetch_materializations(dg.AssetKey("training_set"), limit=100).records
    event = next(r.asset_materialization for r in records if r.partition_key == week)
    assert event is not None
    return event.metadata


def both(features: Path, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same training sets with plenty of memory, and with little."""
    for name in ("plenty", "little"):
        shutil.copytree(features, folder / name)
    return trained(folder / "plenty", None, said), trained(folder / "little", ROOM, said)


def test_a_training_set_in_parts_is_the_one_in_memory_and_so_is_its_replay(
    features: Path, folder: Path
) -> None:
    plenty, little = both(features, folder)
    assert plenty["problems"] == little["problems"] == []
    assert None not in plenty["versions"].values()
    assert little["versions"] == plenty["versions"]
    assert little["checks"] == plenty["checks"]
    assert len(plenty["checks"]["training_set", WEEKS[0]]) == 6
    for week in WEEKS:
        of_plenty, of_little = plenty["metadata"][week], little["metadata"][week]
        assert "computed" not in of_plenty
        assert of_little["computed"].startswith("in ")
        assert of_little["computed"].endswith(" parts by TRANSACTION_ID")
        for name in ("days", "frauds", "first_day"):
            assert of_little[name] == of_plenty[name]


@pytest.mark.parametrize(
    ("planted", "check"),
    [
        (pl.col("IS_FRAUD").cast(pl.Int64).alias(FEATURE), "no_label_among_features"),
        (pl.col("REPORTED_AT") + pl.duration(days=7), "only_the_past"),
    ],
    ids=["label among the features", "labels of the future"],
)
def test_a_leak_is_refused_in_parts_as_in_memory(
    features: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, planted: pl.Expr, check: str
) -> None:
    rows = protocol.training_rows
    monkeypatch.setattr(protocol, "training_rows", lambda *given: rows(*given).with_columns(planted))
    plenty, little = both(features, folder)
    assert little["problems"] == plenty["problems"]
    assert sum(check in problem for problem in little["problems"]) == len(WEEKS)
    assert set(little["versions"].values()) == {None}
