from itertools import pairwise

import numpy as np
import torch

from my_platform.learning.nets.compute import Compute
from my_platform.learning.nets.tabm import Architecture, TabM

EDGES = [[-1.0, 0.0, 2.0], [-2.0, 1.0]]
FLAGS = 1


def net(**sizes: int) -> TabM:
    with Compute().seeded():
        torch.manual_seed(0)
        made = TabM(
            Architecture(**{"members": 3, "embedding": 2, "width": 4, "blocks": 2, **sizes}, dropout=0.0),
            EDGES,
            FLAGS,
        )
        with torch.no_grad():
            made.piecewise.normal_()
    return made


def by_hand(module: TabM, rows: np.ndarray, member: int) -> np.ndarray:
    """What one submodel gives, written down from the papers with plain matrices."""
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in module.named_parameters()}
    features = []
    for feature, edges in enumerate(EDGES):
        score = rows[:, feature]
        pieces = [np.clip((score - low) / (high - low), 0, 1) for low, high in pairwise(edges)]
        embedded = score[:, None] * weights["linear"][feature] + weights["offset"][feature]
        for piece, vector in zip(pieces, weights["piecewise"][feature], strict=False):
            embedded = embedded + piece[:, None] * vector
        features.append(embedded)
    hidden = np.concatenate([*features, rows[:, len(EDGES) :]], 1) * weights["adapters"][member]
    hidden = np.maximum(hidden @ weights["first_weight"].T + weights["first_bias"], 0)
    hidden = np.maximum(hidden @ weights["shared.0.weight"].T + weights["shared.0.bias"], 0)
    return hidden @ weights["head_weight"][member] + weights["head_bias"][member]


def test_every_submodel_is_a_perceptron_over_piecewise_linear_embeddings() -> None:
    module = net()
    rows = np.random.default_rng(1).normal(size=(50, len(EDGES) + FLAGS)).astype(np.float32)
    found = module(torch.from_numpy(rows)).detach().numpy()
    for member in range(3):
        np.testing.assert_allclose(found[:, member], by_hand(module, rows, member), rtol=1e-5, atol=1e-6)


def test_an_embedding_begins_as_a_line_and_its_features_share_a_scale() -> None:
    with Compute().seeded():
        module = TabM(Architecture(members=3, embedding=2), EDGES, FLAGS)
    assert (module.piecewise == 0).all()
    scales = module.adapters.detach()[:, :4].view(3, 2, 2)
    assert (scales[:, :, 0] == scales[:, :, 1]).all()


def test_all_submodels_begin_near_the_share_of_rows_labelled_1() -> None:
    module = net()
    with torch.no_grad():
        module.head_weight.zero_()
        module.head_bias.zero_()
    module.start_from(0.01)
    logits = module(torch.zeros(1, len(EDGES) + FLAGS))
    np.testing.assert_allclose(torch.sigmoid(logits).detach().numpy(), 0.01, rtol=1e-5)


def test_only_adapters_and_heads_grow_with_the_number_of_submodels() -> None:
    few, many = dict(net(members=2).named_parameters()), dict(net(members=9).named_parameters())
    assert {name for name in few if few[name].shape != many[name].shape} == {
        "adapters",
        "head_weight",
        "head_bias",
    }


def test_dropout_is_for_training_alone() -> None:
    with Compute().seeded():
        module = TabM(Architecture(members=2, embedding=2, width=32, dropout=0.5), EDGES, FLAGS)
        rows = torch.randn(4, len(EDGES) + FLAGS)
        assert (module.train()(rows) != module(rows)).any()
        assert (module.eval()(rows) == module(rows)).all()
