"""The net beside LightGBM: declared where it is asked for, of the same shape, and judged on the same rows."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

from assets_tests.homes import day, folder_in_memory, land, small
from my_platform.cli import app
from my_platform.domains.fraud import assets, contenders, parameters
from my_platform.domains.fraud.features import FEATURES
from my_platform.domains.fraud.tabm import load_net
from my_platform.learning.export.blend import blend_onnx
from my_platform.learning.net_fitting import fit_tabm_on
from my_platform.learning.nets import fit
from my_platform.learning.nets.net import Net
from my_platform.learning.nets.training import Fit
from my_platform.learning.shards import LabelledRows
from my_platform.operations.promotion import promote
from my_platform.operations.refresh import Report
from my_platform.operations.session import Session, opened
from my_platform.storage.lake import file_in

NETS = ["fraud_tabm", "fraud_tabm_onnx", "tabm_predictions", "tabm_evaluation"]
BLEND = ["fraud_blend", "blend_predictions", "blend_evaluation"]
WEEK = day(14)
TINY = {
    "architecture": {"members": 4, "embedding": 2, "width": 16, "blocks": 1, "dropout": 0.0},
    "training": {"epochs": 5, "batch_rows": 64, "parts": 1, "keep": 4},
    "seed": 1,
}


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    with folder_in_memory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setitem(parameters.TABM_RECIPES, "budget", TINY)
        land(folder / "home" / "landing", 28, customers=400, terminals=600)
        with opened(small(folder / "home", nets="budget", device="cpu", training_window_days=7)) as found:
            found.refresh()
            yield found


def test_without_being_asked_for_there_is_none(session: Session) -> None:
    off = session.settings.model_copy(update={"nets": "off"})
    assert not {asset.name for asset in assets(off)} & {*NETS, *BLEND}
    assert [contender.model for contender in contenders(off)] == ["fraud_lightgbm"]


def test_where_cuda_is_asked_for_the_net_holds_its_devices_and_runs_alone_on_them(tmp_path: Path) -> None:
    net, on_processor = (
        next(asset for asset in assets(small(tmp_path, nets="budget", **given)) if asset.name == "fraud_tabm")
        for given in ({"device": "cuda", "cuda_devices": 2}, {"device": "cpu", "cuda_devices": 2})
    )
    assert (net.pool, net.gpus) == ("gpu", 2)
    assert (on_processor.pool, on_processor.gpus) == ("training", 0)
    assert net.parameters == on_processor.parameters


def test_its_weeks_are_those_of_the_other_model_and_are_fresh(session: Session) -> None:
    versions = session.versions()
    assert {name: list(versions[name]) for name in NETS} == {
        "fraud_tabm": list(versions["fraud_lightgbm"]),
        "fraud_tabm_onnx": list(versions["fraud_lightgbm"]),
        "tabm_predictions": list(versions["predictions"]),
        "tabm_evaluation": list(versions["evaluation"]),
    }
    assert {name: list(versions[name]) for name in BLEND} == {
        "fraud_blend": list(versions["fraud_lightgbm"]),
        "blend_predictions": list(versions["predictions"]),
        "blend_evaluation": list(versions["evaluation"]),
    }
    assert session.refresh().as_json()["runs"] == 0


def test_both_models_are_judged_on_the_same_rows(session: Session) -> None:
    scored = [_read(session, name) for name in ("predictions", "tabm_predictions")]
    assert scored[0].height > 0
    assert scored[0].drop("score").equals(scored[1].drop("score"))


def test_its_files_alone_give_its_scores_again(session: Session) -> None:
    files = dict(_read(session, "fraud_tabm").select("name", "content").rows())
    assert set(files) == {"about.json", "net.json", "weights.safetensors"}
    tested = _read(session, "test_set")
    scores = tested.select("TRANSACTION_ID").with_columns(
        found=pl.Series(load_net(files)(tested.select(FEATURES)))
    )
    both = scores.join(_read(session, "tabm_predictions"), on="TRANSACTION_ID")
    assert both.height == tested.height
    assert both.select((pl.col("found") - pl.col("score")).abs().max()).item() <= 1e-6


def test_another_recipe_makes_the_net_and_what_reads_it_stale_and_nothing_else(session: Session) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parameters.TABM_RECIPES, "budget", {**TINY, "seed": 2})
        with opened(session.settings) as other:
            assert set(other.refresh().as_json()["computed"]) == {*NETS, *BLEND}
    assert set(session.refresh().as_json()["reused"]) == {*NETS, *BLEND}


@contextmanager
def of_recipe(session: Session, recipe: dict[str, Any]) -> Iterator[Session]:
    """The home as it is under another recipe of the net."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(parameters.TABM_RECIPES, "budget", recipe)
        with opened(session.settings) as other:
            yield other


def fit_one_week(session: Session) -> Report:
    week = date.fromisoformat(WEEK)
    return session.refresh(select="fraud_tabm", first=week, through=week)


def test_a_training_set_of_more_rows_than_the_recipe_keeps_in_memory_is_read_in_shards(
    session: Session,
) -> None:
    plans: list[str] = []
    whole = LabelledRows.shards

    def shards(rows: LabelledRows, *given: Any) -> Any:
        plans.append(rows.rows.explain())
        return whole(rows, *given)

    resident = json.loads(file_in(_read(session, "fraud_tabm"), "net.json"))["about"]
    recipe = {**TINY, "training": {**TINY["training"], "rows_in_memory": 1_000}}
    with of_recipe(session, recipe) as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit, "ROWS_OF_A_SHARD", 1_000)
        patch.setattr(LabelledRows, "shards", shards)
        assert fit_one_week(other).outcome.computed == {"fraud_tabm": [WEEK]}
        streamed = json.loads(file_in(_read(other, "fraud_tabm"), "net.json"))["about"]
    assert "shards" not in resident
    assert streamed["shards"] > 1
    assert len(plans) == 1
    assert "Parquet SCAN" in plans[0]
    losses = [min(line["stopping_loss"] for line in about["history"]) for about in (resident, streamed)]
    assert losses[1] == pytest.approx(losses[0], rel=0.25)
    assert fit_one_week(session).outcome.reused == {"fraud_tabm": [WEEK]}


def test_a_fit_that_diverges_registers_nothing_and_the_last_good_net_stays(session: Session) -> None:
    registry = session.models.registry
    before = [registered.number for registered in registry.versions("fraud")], _read(session, "fraud_tabm")
    recipe = {**TINY, "training": {**TINY["training"], "learning_rate": 1e30}}
    with of_recipe(session, recipe) as other:
        done = fit_one_week(other)
        assert "the fit diverged: the loss was" in done.problems[-1]
        assert done.outcome.computed == {}
        assert [found.number for found in other.models.registry.versions("fraud")] == before[0]
        assert _read(other, "fraud_tabm").equals(before[1])
    assert len(list(session.settings.checkpoints.glob("*"))) == 0


def test_a_run_that_is_killed_while_a_net_is_fitted_goes_on_at_its_checkpoint(session: Session) -> None:
    recipe = {**TINY, "seed": 3}
    program = f"""
        import os, signal
        from pathlib import Path
        from assets_tests.domains.fraud.test_tabm import fit_one_week, opened, parameters, small
        from my_platform.learning.nets.training import Fit, Interruptible
        Interruptible.__init__.__defaults__ = (0.0,)
        whole = Fit._end_epoch
        def end_epoch(fit, epoch):
            epoch == 2 and os.kill(os.getpid(), signal.SIGKILL)
            whole(fit, epoch)
        Fit._end_epoch = end_epoch
        parameters.TABM_RECIPES = {{"budget": {recipe!r}}}
        home = Path({str(session.settings.home)!r})
        with opened(small(home, nets="budget", device="cpu", training_window_days=7)) as found:
            fit_one_week(found)
    """
    killed = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env={**os.environ}, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(session.settings.checkpoints.glob("*.safetensors"))) == 1
    epochs: list[int] = []
    whole = Fit._end_epoch

    def end_epoch(under_way: Fit, epoch: int) -> None:
        epochs.append(epoch)
        whole(under_way, epoch)

    with of_recipe(session, recipe) as other, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fit, "_end_epoch", end_epoch)
        assert fit_one_week(other).outcome.computed == {"fraud_tabm": [WEEK]}
        rows = _read(other, "training_set").lazy()
        found = dict(_read(other, "fraud_tabm").select("name", "content").rows())
    assert epochs[0] == 2
    undisturbed = fit_tabm_on(
        LabelledRows(rows, "again", FEATURES, "IS_FRAUD", "TX_DATETIME"), recipe, "cpu"
    ).files()
    assert {name: found[name] for name in undisturbed} == undisturbed
    assert fit_one_week(session).outcome.reused == {"fraud_tabm": [WEEK]}


def _read(session: Session, asset: str) -> pl.DataFrame:
    version = session.versions()[asset][WEEK]
    return session.workspace.lake.read(asset, WEEK, version)


def test_the_blend_has_the_mean_of_both_log_odds(session: Session) -> None:
    trees, net, blend = (
        _read(session, name)["score"].to_numpy()
        for name in ("predictions", "tabm_predictions", "blend_predictions")
    )

    odds = [
        np.log(np.clip(scores, 1e-12, 1 - 1e-12) / (1 - np.clip(scores, 1e-12, 1 - 1e-12)))
        for scores in (trees, net)
    ]

    assert np.abs(blend - 1 / (1 + np.exp(-np.mean(odds, axis=0)))).max() < 1e-6


def test_the_blend_is_one_file_whose_bytes_are_the_same_again(session: Session) -> None:
    exports = [
        file_in(_read(session, name), "model.onnx") for name in ("fraud_lightgbm_onnx", "fraud_tabm_onnx")
    ]

    assert blend_onnx(exports) == file_in(_read(session, "fraud_blend"), "model.onnx")


def test_the_blend_can_be_promoted_and_its_bundle_serves(session: Session) -> None:
    models = session.models

    done = promote(models, models.named("fraud_blend"), who="ada", why="a test", forced=True)

    assert done.judged is not None
    assert not done.judged.verdict.case.failed_checks
    assert "model.onnx" in done.judged.files


Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def fits_another(patch: pytest.MonkeyPatch, change: Change) -> None:
    """From now on each fit gives other weights, as on another device."""
    whole = fit.fit_net

    def fit_net(*given: Any) -> Net:
        net = whole(*given)
        return replace(net, weights={name: change(array) for name, array in net.weights.items()})

    patch.setattr(fit, "fit_net", fit_net)


def reproduced(session: Session, model: str, *, code: int) -> Any:
    """What the command says that builds a model again, which ends with that exit code."""
    home = session.settings.home
    given = {
        "MY_PLATFORM_NETS": "budget",
        "MY_PLATFORM_DEVICE": "cpu",
        "MY_PLATFORM_TRAINING_WINDOW_DAYS": "7",
        "MY_PLATFORM_BOOSTING_ROUNDS": "10",
        "MY_PLATFORM_THREADS": "1",
        "MY_PLATFORM_PROMOTE": "never",
    }
    words = ["--home", str(home), "reproduce", f"{model}@{WEEK}", "--json"]
    done = CliRunner().invoke(app, words, env=given)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_on_the_processor_a_net_is_built_again_with_the_same_digest(session: Session) -> None:
    found = reproduced(session, "fraud_tabm", code=0)

    assert found["same"]
    assert (found["agreement"], found["other_code"]) == (None, [])


def test_a_net_that_differs_in_its_last_digits_is_reproduced_within_the_declared_tolerance(
    session: Session,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fits_another(patch, lambda array: array * np.float32(1.00001))
        found = reproduced(session, "fraud_blend", code=0)

    agreement = found["agreement"]
    assert not found["same"]
    assert (agreement["within"], agreement["week"]) == (parameters.TABM_REPRODUCED_WITHIN, WEEK)
    assert 0 <= abs(agreement["rebuilt"] - agreement["recorded"]) <= agreement["within"]
    assert found["made"]["training_set"]["recorded"] == found["made"]["training_set"]["rebuilt"]


def test_a_net_that_comes_out_worse_than_declared_is_another_one(session: Session) -> None:
    with pytest.MonkeyPatch.context() as patch:
        fits_another(patch, lambda array: array * np.float32(-1))
        found = reproduced(session, "fraud_tabm", code=1)

    assert (found["same"], found["reproduced"], found["agreement"]["kept"]) == (False, False, False)
    assert found["agreement"]["rebuilt"] < found["agreement"]["recorded"] - found["agreement"]["within"]
    assert found["problems"] == []
