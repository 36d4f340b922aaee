from typing import Any

import numpy as np
import polars as pl
import pytest

from assets_tests.learning.nets.rows import NAMES, SMALL, changed, training_set
from my_platform.errors import Refused
from my_platform.learning import net_fitting
from my_platform.learning.device_time import device_time
from my_platform.learning.nets import distributed
from my_platform.learning.nets.distributed import fit_in_processes
from my_platform.learning.nets.fit import Host, TrainingSet, fit_net
from my_platform.learning.nets.sources import Sampling

ROWS = training_set()


@pytest.mark.slow
def test_two_processes_fit_the_net_of_one_but_for_rounding() -> None:
    alone, before = fit_net(ROWS, SMALL, Host()), device_time()
    together = fit_in_processes(ROWS, SMALL, 2, "cpu")
    assert (device_time() - before).used_s > 0  # what each process told of its device
    assert together.transform == alone.transform
    for name, array in alone.weights.items():
        np.testing.assert_allclose(together.weights[name], array, rtol=1e-2, atol=1e-3)


@pytest.mark.slow
def test_what_the_processes_refuse_is_refused() -> None:
    blind = TrainingSet(np.zeros_like(ROWS.features), ROWS.labels, ROWS.days, NAMES)
    with pytest.raises(Refused, match="the net learned nothing"):
        fit_in_processes(blind, changed(epochs=1), 2, "cpu")


def test_a_batch_that_cannot_be_shared_evenly_is_refused() -> None:
    with pytest.raises(Refused, match="100 rows a batch cannot be shared evenly by 3 processes"):
        Sampling(batch_rows=100, parts=2, seed=1, processes=3)


@pytest.mark.slow
def test_several_devices_that_are_asked_for_fit_a_net_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, str]] = []

    def on_processors(rows: TrainingSet, recipe: Any, devices: int, kind: str, checkpoints: Any) -> Any:
        asked.append((devices, kind))
        return fit_in_processes(rows, recipe, devices, "cpu", checkpoints)

    monkeypatch.setattr(distributed, "fit_in_processes", on_processors)
    features = pl.DataFrame(ROWS.features, schema=list(NAMES)).fill_nan(None)
    days = pl.Series(ROWS.days).cast(pl.Int32).cast(pl.Date)
    together = net_fitting.fit_tabm(
        features, ROWS.labels, days, changed(epochs=4).as_json(), "cuda", devices=2
    )
    assert asked == [(2, "cuda")]
    assert together.digest == fit_in_processes(ROWS, changed(epochs=4), 2, "cpu").digest
