"""Fits over workers by Ray Train, held against fits in this process; and who fits what."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score

from assets_tests.homes import folder_in_memory, land, session
from assets_tests.learning.nets.rows import SMALL, changed, training_set
from my_platform.errors import PlatformError, Refused
from my_platform.learning.engines import Cluster, Engine, cluster_of, engine_for, engine_parameters
from my_platform.learning.fitting import fit_lightgbm, fit_lightgbm_by, predict_lightgbm
from my_platform.settings import Settings
from my_platform.storage.lake import file_in

PARAMETERS = {"num_leaves": 15, "learning_rate": 0.1, "min_data_in_leaf": 20}
ROUNDS, SEED = 60, 3
OVER_TWO = Engine(2, "as the test wants")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="the extra `ray` is not installed: pip install -e '.[ray]'",
)


def rows(number: int, seed: int) -> tuple[pl.DataFrame, np.ndarray[Any, np.dtype[np.bool_]]]:
    """Features and labels of which about one in ten is true."""
    chance = np.random.default_rng(seed)
    columns = {f"f{i}": chance.normal(size=number) for i in range(8)}
    score = columns["f0"] + columns["f1"] * columns["f2"] - 1.5 * (columns["f3"] > 1)
    labels = score + chance.normal(size=number) > 2.2
    columns["f4"][chance.random(number) < 0.1] = np.nan
    return pl.DataFrame(columns).cast(pl.Float32), labels


def test_the_engine_depends_on_rows_and_parameters_alone(tmp_path: Path) -> None:
    assert engine_parameters(Settings(home=tmp_path)) == {}
    assert engine_for(10**9, {}).workers == 1
    chosen = engine_parameters(Settings(home=tmp_path, fit_over_workers_rows=1_000, fit_workers=3))
    below, above = engine_for(999, chosen), engine_for(1_000, chosen)
    assert (below.workers, above.workers) == (1, 3)
    assert below.reason == "999 rows are fewer than 1,000 (MY_PLATFORM_FIT_OVER_WORKERS_ROWS)"
    assert above.reason == "1,000 rows are no fewer than 1,000 (MY_PLATFORM_FIT_OVER_WORKERS_ROWS)"


def test_fits_run_on_the_cluster_of_the_profile_and_else_on_this_machine(tmp_path: Path) -> None:
    assert cluster_of(Settings(home=tmp_path)).address == ""
    assert cluster_of(Settings(home=tmp_path, profile="cluster")).address == "auto"
    assert cluster_of(Settings(home=tmp_path, ray_address="head:6379")).address == "head:6379"


def test_the_size_from_which_workers_fit_counts_in_the_code_of_models_and_of_nothing_else(
    tmp_path: Path,
) -> None:
    from my_platform.operations.home import load_project

    usual = load_project(Settings(home=tmp_path)).code_versions
    changed_by = load_project(Settings(home=tmp_path, fit_over_workers_rows=10)).code_versions
    assert {name for name in usual if usual[name] != changed_by[name]} == {"fraud_lightgbm"}
    again = load_project(
        Settings(home=tmp_path, fit_over_workers_rows=10, ray_address="other:1")
    ).code_versions
    assert again == changed_by


@needs_ray
@pytest.mark.slow
def test_lightgbm_over_two_workers_is_as_good_as_in_one_process_and_the_same_each_time(
    tmp_path: Path,
) -> None:
    features, labels = rows(40_000, 1)
    test, truth = rows(40_000, 2)
    cluster = Cluster("", tmp_path)

    fits = [
        fit_lightgbm_by(OVER_TWO, cluster, features, labels, PARAMETERS, ROUNDS, SEED, 1) for _ in range(2)
    ]

    alone = fit_lightgbm(features, labels, PARAMETERS, ROUNDS, SEED, 1)
    ap_alone, ap_over = (
        average_precision_score(truth, predict_lightgbm(text, test)) for text in (alone, fits[0].model)
    )
    assert ap_alone > 0.4
    assert abs(ap_over - ap_alone) <= 0.005
    assert fits[0].model == fits[1].model != alone
    assert "[machines: ]" in fits[0].model
    assert fits[0].metadata["engine"] == "Ray Train on 2 workers"
    assert fits[0].metadata["engine_start_seconds"] > 0
    assert list(tmp_path.iterdir()) == []


@needs_ray
@pytest.mark.slow
def test_a_net_over_two_workers_is_that_of_one_but_for_rounding(tmp_path: Path) -> None:
    from my_platform.learning.nets.fit import Host, TrainingSet, fit_net
    from my_platform.learning.ray_train import fit_net_over_workers

    found, cluster = training_set(), Cluster("", tmp_path)
    together = fit_net_over_workers(found, SMALL.as_json(), "cpu", 2, 1, cluster).model
    alone = fit_net(found, SMALL, Host())
    assert together.transform == alone.transform
    for name, array in alone.weights.items():
        np.testing.assert_allclose(together.weights[name], array, rtol=1e-2, atol=1e-3)

    blind = TrainingSet(np.zeros_like(found.features), found.labels, found.days, found.names)
    with pytest.raises(Refused, match="the net learned nothing"):
        fit_net_over_workers(blind, changed(epochs=1).as_json(), "cpu", 2, 1, cluster)


@needs_ray
@pytest.mark.slow
def test_a_cluster_without_room_for_the_workers_is_told_at_once(tmp_path: Path) -> None:
    features, labels = rows(200, 1)
    crowd = Engine(4_096, "as the test wants")
    with pytest.raises(PlatformError, match="lower MY_PLATFORM_FIT_WORKERS"):
        fit_lightgbm_by(crowd, Cluster("", tmp_path), features, labels, PARAMETERS, 2, SEED, 1)


@needs_ray
@pytest.mark.slow
def test_a_home_fits_large_training_sets_over_workers_and_says_so() -> None:
    with folder_in_memory() as folder:
        land(folder / "home" / "landing", 22, customers=100, terminals=200)
        given = {"training_window_days": 14, "fit_over_workers_rows": 100}
        with session(folder / "home", **given) as found:
            assert found.refresh().as_json()["failed"] == {}
            versions = found.versions()["fraud_lightgbm"]
            lake = found.workspace.lake
            abouts = [
                json.loads(file_in(lake.read("fraud_lightgbm", week, version), "about.json"))
                for week, version in versions.items()
            ]
            assert {about["workers"] for about in abouts} == {2}
            events = found.instance.fetch_materializations(dg.AssetKey("fraud_lightgbm"), limit=1).records
            told = events[0].asset_materialization
            assert told is not None
            assert told.metadata["engine"].value == "Ray Train on 2 workers"
            assert "no fewer than 100" in str(told.metadata["engine_reason"].value)
            assert found.refresh().as_json()["runs"] == 0
