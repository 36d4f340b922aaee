"""A net as ONNX takes features as they are and says what the net says."""

from dataclasses import replace

import numpy as np
import pytest

from assets_tests.learning.nets.rows import NAMES, SMALL, training_set
from my_platform.errors import Refused
from my_platform.learning.export.net import int8_onnx, tabm_onnx
from my_platform.learning.export.scoring import load_onnx
from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.fit import Host, fit_net
from my_platform.learning.nets.net import Net, predict, prune


@pytest.fixture(scope="module")
def net() -> Net:
    rows = training_set()
    # A feature that never changes has one knot and no line.
    constant = np.column_stack([rows.features, np.ones(len(rows.labels))])
    return fit_net(replace(rows, features=constant, names=(*NAMES, "constant")), SMALL, Host())


@pytest.fixture(scope="module")
def exported(net: Net) -> bytes:
    return tabm_onnx(net.files())


def test_probabilities_are_those_of_the_net(net: Net, exported: bytes) -> None:
    random = np.random.default_rng(7)
    rows = random.normal(size=(3_000, len(net.transform.names))) * 2
    rows[random.random(rows.shape) < 0.2] = np.nan
    # On the knots, at both ends of them and beyond.
    for column, values in enumerate(net.transform.values):
        rows[: len(values), column] = values
        rows[len(values), column], rows[len(values) + 1, column] = values[0] - 1, 1e30

    found = load_onnx(exported, net.transform.names).rows(rows)

    assert np.abs(found - predict(net, rows, Compute())).max() <= 1e-6


def test_a_row_is_scored_alike_alone_and_among_others(net: Net, exported: bytes) -> None:
    model = load_onnx(exported, net.transform.names)
    rows = np.random.default_rng(8).normal(size=(5_000, len(net.transform.names)))
    assert np.abs(model.rows(rows[4_321:4_322])[0] - model.rows(rows)[4_321]) <= 1e-6


def test_the_same_net_gives_the_same_bytes_that_tell_of_no_tool(net: Net, exported: bytes) -> None:
    assert tabm_onnx(net.files()) == exported
    assert not any(said in exported for said in (b"torch", b".py", b"my_platform"))


def test_a_net_with_fewer_submodels_is_exported_too(net: Net, exported: bytes) -> None:
    small = prune(net, [0, 2])
    rows = training_set(200).features
    rows = np.column_stack([rows, np.ones(len(rows))])
    pruned = tabm_onnx(small.files())
    assert len(pruned) < len(exported)
    found = load_onnx(pruned, small.transform.names).rows(rows)
    assert np.abs(found - predict(small, rows, Compute())).max() <= 1e-6


def test_int8_stays_near_and_is_deterministic(net: Net, exported: bytes) -> None:
    rows = training_set(500).features
    rows = np.column_stack([rows, np.ones(len(rows))])
    quantised = int8_onnx(exported)
    assert quantised == int8_onnx(exported)
    found = load_onnx(quantised, net.transform.names).rows(rows)
    assert 0 < np.abs(found - predict(net, rows, Compute())).max() < 0.05


def test_infinite_values_are_refused(net: Net, exported: bytes) -> None:
    rows = np.zeros((2, len(net.transform.names)))
    rows[1, 2] = -np.inf
    with pytest.raises(Refused, match=r"infinite values in \['state'\]"):
        load_onnx(exported, net.transform.names).rows(rows)
