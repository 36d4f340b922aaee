import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from assets_tests.learning.nets.rows import NAMES, SMALL, average_precision, changed, training_set
from my_platform.errors import Refused
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.fit import Host, TrainingSet, fit_net
from my_platform.learning.nets.net import Net, best_members, predict, predict_members, prune
from my_platform.learning.nets.sampling import last_rows
from my_platform.learning.nets.tabm import Architecture
from my_platform.learning.nets.training import Interruptible
from my_platform.learning.weighted import average_precision as weighted

CHECKOUT = Path(__file__).resolve().parents[3]
ROWS = training_set()


class Interrupted(Exception):
    """A fit that is cut short after an epoch."""


def interrupted_after(epoch: int, folder: Path) -> Host:
    """A host that writes a checkpoint after every step and breaks off when an epoch has ended."""

    def stop(line: Mapping[str, float]) -> None:
        if line["epoch"] == epoch:
            raise Interrupted

    return Host(checkpoints=Interruptible(folder, every_s=0), on_epoch=stop)


def checkpointed(folder: Path) -> Host:
    return Host(checkpoints=Interruptible(folder, every_s=0))


@pytest.fixture(scope="module")
def fitted() -> Net:
    return fit_net(ROWS, SMALL, Host())


def test_it_ranks_rows_that_it_was_not_fitted_on(fitted: Net) -> None:
    random = np.random.default_rng(8)
    features = random.normal(size=(2_000, len(NAMES)))
    odds = 1.5 * features[:, 0] + features[:, 1] + 1.5 * (features[:, 2] > 0.5) - 4
    features[:, 2] = features[:, 2] > 0.5
    labels = random.random(2_000) < 1 / (1 + np.exp(-odds))
    assert average_precision(labels, predict(fitted, features, Compute())) > 3 * labels.mean()


def test_probabilities_are_those_of_all_rows_though_only_a_part_of_them_is_drawn(fitted: Net) -> None:
    expected = predict(fitted, ROWS.features, Compute()).sum()
    assert expected == pytest.approx(ROWS.labels.sum(), rel=0.15)


def test_the_same_arguments_give_the_same_bytes(fitted: Net) -> None:
    assert fit_net(ROWS, SMALL, Host()).digest == fitted.digest


def test_a_small_net_has_the_same_bytes_with_more_threads(fitted: Net) -> None:
    assert fit_net(ROWS, SMALL, Host(Compute(threads=2))).digest == fitted.digest


def test_another_seed_gives_another_net(fitted: Net) -> None:
    assert fit_net(ROWS, replace(SMALL, seed=2), Host()).weights["linear"].tobytes() != (
        fitted.weights["linear"].tobytes()
    )


def test_the_files_hold_the_whole_net(fitted: Net) -> None:
    again = Net.of_files(fitted.files())
    assert sorted(fitted.files()) == ["net.json", "weights.safetensors"]
    assert again.digest == fitted.digest
    assert (
        predict(again, ROWS.features[:50], Compute()) == predict(fitted, ROWS.features[:50], Compute())
    ).all()


@pytest.mark.parametrize("epoch", [0, 2])
def test_an_interrupted_fit_goes_on_and_ends_with_the_same_bytes(
    folder: Path, fitted: Net, epoch: int
) -> None:
    with pytest.raises(Interrupted):
        fit_net(ROWS, SMALL, interrupted_after(epoch, folder))
    epochs: list[Mapping[str, float]] = []
    host = replace(checkpointed(folder), on_epoch=epochs.append)
    assert fit_net(ROWS, SMALL, host).digest == fitted.digest
    # The checkpoint lies within the epoch that had almost ended, so that this one is judged once more.
    assert [line["epoch"] for line in epochs] == list(range(epoch, SMALL.training.epochs))
    assert list(folder.iterdir()) == []


def test_dropout_is_drawn_as_if_the_fit_had_not_been_interrupted(folder: Path) -> None:
    recipe = replace(SMALL, architecture=replace(SMALL.architecture, dropout=0.2))
    with pytest.raises(Interrupted):
        fit_net(ROWS, recipe, interrupted_after(0, folder))
    assert fit_net(ROWS, recipe, checkpointed(folder)).digest == fit_net(ROWS, recipe, Host()).digest


def test_a_killed_fit_goes_on_and_ends_with_the_same_bytes(folder: Path, fitted: Net) -> None:
    script = (
        "import os, signal, sys; from dataclasses import replace; from pathlib import Path\n"
        "from assets_tests.learning.nets.test_fit import ROWS, SMALL, checkpointed, fit_net\n"
        "def kill(line): line['epoch'] == 1 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "fit_net(ROWS, SMALL, replace(checkpointed(Path(sys.argv[1])), on_epoch=kill))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)],
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list(folder.iterdir())) == 1
    assert fit_net(ROWS, SMALL, checkpointed(folder)).digest == fitted.digest


def test_a_damaged_checkpoint_is_not_used(folder: Path, fitted: Net) -> None:
    with pytest.raises(Interrupted):
        fit_net(ROWS, SMALL, interrupted_after(0, folder))
    (path,) = folder.iterdir()
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    assert fit_net(ROWS, SMALL, checkpointed(folder)).digest == fitted.digest


def test_the_checkpoint_of_another_fit_is_not_used(folder: Path, fitted: Net) -> None:
    with pytest.raises(Interrupted):
        fit_net(ROWS, replace(SMALL, seed=9), interrupted_after(0, folder))
    assert fit_net(ROWS, SMALL, checkpointed(folder)).digest == fitted.digest


def test_it_stops_when_no_epoch_gets_better_and_keeps_the_best() -> None:
    recipe = changed(epochs=40, patience=2, averaging=0.0)
    found = fit_net(ROWS, recipe, Host()).about
    losses = [line["stopping_loss"] for line in found["history"]]
    assert len(losses) < 40
    assert found["best_epoch"] == losses.index(min(losses)) == len(losses) - 3


def test_each_epoch_is_judged_by_two_figures_on_the_last_days(fitted: Net) -> None:
    (last,) = np.nonzero(last_rows(ROWS.days, ROWS.labels, SMALL.training.stopping_share))
    whole = fit_net(ROWS, changed(stopping_parts=1), Host())
    line = whole.about["history"][whole.about["best_epoch"]]
    found = predict(whole, ROWS.features[last], Compute())
    assert line["stopping_average_precision"] == pytest.approx(average_precision(ROWS.labels[last], found))
    # Of the rows labelled 0 one in four is looked at, and counts four times.
    sampled = fitted.about["history"][-1]["stopping_average_precision"]
    assert sampled == pytest.approx(whole.about["history"][-1]["stopping_average_precision"], abs=0.1)
    assert sampled != whole.about["history"][-1]["stopping_average_precision"]


@pytest.mark.parametrize("digits", [1, 8])
def test_average_precision_of_weighted_rows_is_that_of_scikit_learn(digits: int) -> None:
    random = np.random.default_rng(5)
    scores, labels = random.random(500).round(digits), random.random(500) < 0.1
    weights = np.where(labels, 1.0, 4.0)
    expected = average_precision_score(labels, scores, sample_weight=weights)
    assert weighted(scores, labels, weights) == pytest.approx(expected, rel=1e-12)


def test_a_fit_that_diverges_is_refused_and_leaves_no_net() -> None:
    with pytest.raises(Refused, match=r"the fit diverged: the loss was (nan|inf) in epoch \d"):
        fit_net(ROWS, changed(learning_rate=1e30), Host())


def test_a_net_that_learned_nothing_is_refused() -> None:
    blind = TrainingSet(np.zeros_like(ROWS.features), ROWS.labels, ROWS.days, NAMES)
    with pytest.raises(Refused, match="the net learned nothing"):
        fit_net(blind, changed(epochs=1), Host())


def test_a_fit_may_go_on_from_a_net(fitted: Net) -> None:
    warm = fit_net(ROWS, changed(epochs=1), Host(), start=fitted)
    assert warm.transform == fitted.transform
    assert warm.about["started_from"] == fitted.digest
    assert warm.about["history"][0]["stopping_loss"] < fitted.about["history"][1]["stopping_loss"]


def test_a_fit_cannot_go_on_from_a_net_of_another_size(fitted: Net) -> None:
    wider = replace(SMALL, architecture=Architecture(members=4, embedding=4, width=32, blocks=2))
    with pytest.raises(Refused, match="a net of its own architecture"):
        fit_net(ROWS, wider, Host(), start=fitted)


def test_pruning_leaves_the_submodels_that_stay_as_they_were(fitted: Net) -> None:
    whole = predict_members(fitted, ROWS.features[:200], Compute())
    pruned = predict_members(prune(fitted, [0, 2]), ROWS.features[:200], Compute())
    np.testing.assert_allclose(pruned, whole[:, [0, 2]], rtol=1e-5)


def test_the_submodels_that_are_kept_are_those_that_predict_best_together() -> None:
    labels = np.array([True, False, True, False])
    good, bad = np.where(labels, 0.9, 0.1), np.where(labels, 0.1, 0.9)
    members = np.stack([bad, good, bad, good * 0.99], axis=1)
    assert best_members(members, labels, np.ones(4), 2) == [1, 3]


def test_a_fit_keeps_as_many_submodels_as_it_was_told(fitted: Net) -> None:
    pruned = fit_net(ROWS, changed(keep=2), Host())
    assert pruned.architecture.members == 2
    assert pruned.about["architecture"]["members"] == 4
    assert len(pruned.files()["weights.safetensors"]) < len(fitted.files()["weights.safetensors"])


def test_no_row_gives_no_prediction(fitted: Net) -> None:
    assert predict(fitted, ROWS.features[:0], Compute()).shape == (0,)


def test_the_nets_their_gpu_tests_and_their_benchmark_need_nothing_but_torch_and_numpy() -> None:
    others = (
        "polars", "dagster", "pydantic", "lightgbm", "sklearn", "scipy", "pyarrow", "mlflow", "xxhash", "pytest",
    )  # fmt: skip
    script = (
        f"import sys; sys.modules.update(dict.fromkeys({others!r}))\n"
        "import benchmarks.nets, unittest\n"
        "unittest.main('assets_tests.learning.nets.test_cuda', argv=['gpu-check', '-k', 'picked'], verbosity=2)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=CHECKOUT,
        env={"PYTHONPATH": str(CHECKOUT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "torch sees no CUDA device" in done.stderr
