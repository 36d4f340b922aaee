"""Smaller and faster variants: declared where they are asked for, judged against the models they are made of."""

import json
import re
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from assets_tests.domains.fraud.test_tabm import TINY
from assets_tests.homes import day, folder_in_memory, land, small
from my_platform.domains.fraud import assets, parameters
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.tabm_tuned import as_good_for_less
from my_platform.incremental.declare import Publication
from my_platform.learning.export.scoring import load_onnx
from my_platform.operations.session import Session, opened
from my_platform.storage.lake import json_in

WEEK = day(14)
MODELS = ["fraud_lightgbm", "fraud_tabm", "fraud_lightgbm_onnx", "fraud_tabm_onnx"]
MADE = [*MODELS, "fraud_smaller", "fraud_smaller_evaluation"]
OF_TREES = ["lightgbm", "lightgbm_distilled", "lightgbm_pruned"]
SMALLER = {**parameters.SMALLER, "rounds": 5, "trees": 4, "members": 2}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with folder_in_memory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(parameters.TABM_RECIPES, "budget", TINY)
        patch.setattr(parameters, "SMALLER", SMALLER)
        land(folder / "home" / "landing", 28, customers=400, terminals=600)
        settings = small(folder / "home", nets="budget", variants="on", device="cpu", training_window_days=7)
        with opened(settings) as found:
            found.refresh(select='+key:"test_set" or +key:"training_set_replay"')
            assert refresh(found)["failed"] == {}
            yield found


def refresh(session: Session) -> dict[str, Any]:
    """Fit the models of one week, and make all that is made of them."""
    week = date.fromisoformat(WEEK)
    select = " or ".join(f'key:"{name}"' for name in MADE)
    return session.refresh(select=select, first=week, through=week).as_json()


def read(session: Session, asset: str) -> pl.DataFrame:
    return session.workspace.lake.read(asset, WEEK, session.versions()[asset][WEEK])


def files(session: Session, asset: str) -> dict[str, bytes]:
    return dict(read(session, asset).select("name", "content").rows())


def page(session: Session) -> Path:
    return session.settings.reports / "fraud" / "smaller" / f"{WEEK}.html"


def test_without_being_asked_for_there_are_none(session: Session) -> None:
    off = session.settings.model_copy(update={"variants": "off"})
    assert not [asset.name for asset in assets(off) if "smaller" in asset.name]


def test_without_nets_there_are_those_of_the_trees_alone(session: Session) -> None:
    trees = session.settings.model_copy(update={"nets": "off"})
    with opened(trees) as found:
        refresh(found)
        about = json.loads(files(found, "fraud_smaller")["about.json"])
    assert sorted(about["models"]) == OF_TREES
    assert refresh(session)["computed"] == {}


def test_every_variant_is_smaller_and_scores_the_test_set(session: Session) -> None:
    found = files(session, "fraud_smaller")
    models: dict[str, Any] = json.loads(found["about.json"])["models"]
    tested = read(session, "test_set").select(FEATURES)
    assert set(found) == {"about.json", *models} - {"blend"}
    for name, model in models.items():
        if model["teacher"]:
            assert model["bytes"] < models[model["teacher"]]["bytes"]
            scores = load_onnx(found[name], FEATURES)(tested)
            assert ((scores >= 0) & (scores <= 1)).all()


def test_the_models_among_them_are_those_that_serve(session: Session) -> None:
    found = files(session, "fraud_smaller")
    assert found["lightgbm"] == files(session, "fraud_lightgbm_onnx")["model.onnx"]
    assert found["tabm"] == files(session, "fraud_tabm_onnx")["model.onnx"]


def test_each_is_told_with_its_change_and_its_interval(session: Session) -> None:
    figures = json.loads(files(session, "fraud_smaller_evaluation")["metrics.json"])["models"]
    assert {name for name, found in figures.items() if "gain" not in found} == {"lightgbm", "tabm", "blend"}
    for found in figures.values():
        if "gain" in found:
            teacher = figures[found["teacher"]]
            change = found["average_precision"] - teacher["average_precision"]
            assert found["gain"]["value"] == pytest.approx(change)
            assert found["gain"]["low"] <= found["gain"]["value"] <= found["gain"]["high"]


def test_the_page_tells_times_that_the_stored_report_does_not(session: Session) -> None:
    stored = files(session, "fraud_smaller_evaluation")["report.html"].decode()
    shown = page(session).read_text()
    assert stored.count("data-time") == 2 * 9
    assert "data-time" not in shown
    assert not re.search(r"<(script|link|img|iframe)\b|https?://", shown)
    assert len(shown.encode()) < 2_000_000


def test_told_again_the_page_keeps_its_times(session: Session) -> None:
    before = page(session).read_text()
    page(session).unlink()
    version = session.versions()["fraud_smaller_evaluation"][WEEK]
    asset = session.workspace.project.assets["fraud_smaller_evaluation"]
    assert asset.publish is not None
    lake = session.workspace.lake
    record = lake.record(asset.name, WEEK, version)
    assert record is not None
    asset.publish(Publication(asset.name, WEEK, read(session, asset.name), record, lake.record))
    assert page(session).read_text() == before


def test_a_net_that_goes_on_from_last_weeks_tells_both_losses(session: Session) -> None:
    week = date.fromisoformat(day(21))
    waiting = session.refresh(select='key:"fraud_tabm_tuned"', first=week, through=week)
    assert "fraud_tabm_tuned" not in waiting.outcome.computed

    select = 'key:"fraud_tabm" or key:"fraud_tabm_tuned"'
    done = session.refresh(select=select, first=week, through=week)

    assert done.outcome.computed["fraud_tabm_tuned"] == [day(21)]
    version = session.versions()["fraud_tabm_tuned"][day(21)]
    table = session.workspace.lake.read("fraud_tabm_tuned", day(21), version)
    about = json_in(table, "about.json")
    assert list(about["started_from"]) == [WEEK]
    as_good = about["validation_loss"]["tuned"] <= about["validation_loss"]["fresh"] * 1.01
    assert 0 < about["submodel_rows"]["tuned"] < about["submodel_rows"]["fresh"]
    assert about["kept"] == as_good
    kept = {"net.json", "weights.safetensors"} if about["kept"] else set()
    assert set(table["name"]) == {"about.json", *kept}


@pytest.mark.parametrize(
    ("loss", "steps", "members", "kept"),
    [
        (0.0505, 29, 16, True),
        (0.0506, 29, 16, False),
        (0.0400, 100, 16, False),
        (0.0400, 130, 12, True),
        (0.0400, 134, 12, False),
    ],
)
def test_a_net_that_goes_on_is_kept_only_where_it_is_as_good_for_less(
    loss: float, steps: int, members: int, kept: bool
) -> None:
    def about(loss: float, steps: int, members: int) -> dict[str, Any]:
        return {
            "history": [{"stopping_loss": 1.0}, {"stopping_loss": loss}],
            "best_epoch": 1,
            "steps": steps,
            "training": {"batch_rows": 512},
            "architecture": {"members": members},
        }

    assert as_good_for_less(about(loss, steps, members), about(0.05, 100, 16), 0.01) is kept
