"""Boosted trees as ONNX: the `TreeEnsemble` operator of ai.onnx.ml 5 in double precision.

Thresholds and leaves are LightGBM's own doubles, so a row takes the branches that it takes there and its log-odds
differ by the order of a sum at most. Converters that write the older operators hold thresholds in float32, where a
feature near a threshold changes sides.

Source: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from my_platform.errors import Refused
from my_platform.learning.export.canonical import FEATURES, PROBABILITY, canonical_bytes

_ML_OPSET, _OPSET, _IR = 5, 20, 10
_AT_MOST = 0
_SUM, _AS_IT_IS = 1, 0


@dataclass
class _Nodes:
    """The splits and leaves of all trees, one list a property, as the operator takes them."""

    feature: list[int] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    true_id: list[int] = field(default_factory=list)
    false_id: list[int] = field(default_factory=list)
    true_is_leaf: list[int] = field(default_factory=list)
    false_is_leaf: list[int] = field(default_factory=list)
    missing_is_true: list[int] = field(default_factory=list)
    leaves: list[float] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add_tree(self, root: Mapping[str, Any]) -> None:
        if "split_feature" in root:
            self.roots.append(self._add_split(root))
        else:
            # The operator knows no tree without a split: both sides of this one are the leaf.
            split = {"split_feature": 0, "threshold": 0.0, "decision_type": "<=", "missing_type": "None"}
            self.roots.append(self._add_split({**split, "left_child": root, "right_child": root}))

    def _add_split(self, split: Mapping[str, Any]) -> int:
        if split["decision_type"] != "<=" or split["missing_type"] not in ("None", "NaN"):
            raise Refused(
                f"only splits by `<=` with NaN as the missing value can be exported, found "
                f"`{split['decision_type']}` with missing values {split['missing_type']}; fit without categorical "
                "features and without zero_as_missing"
            )
        number, threshold = len(self.feature), float(split["threshold"])
        self.feature.append(split["split_feature"])
        self.threshold.append(threshold)
        # Where no value was missing in training, LightGBM takes a missing one for 0.
        left = split["default_left"] if split["missing_type"] == "NaN" else threshold >= 0
        self.missing_is_true.append(int(left))
        sides = (self.true_id, self.true_is_leaf), (self.false_id, self.false_is_leaf)
        for ids, is_leaf in sides:
            ids.append(0)
            is_leaf.append(0)
        for (ids, is_leaf), name in zip(sides, ("left_child", "right_child"), strict=True):
            child = split[name]
            is_leaf[number] = int("split_feature" not in child)
            ids[number] = self._add_leaf(child) if is_leaf[number] else self._add_split(child)
        return number

    def _add_leaf(self, leaf: Mapping[str, Any]) -> int:
        self.leaves.append(float(leaf["leaf_value"]))
        return len(self.leaves) - 1


def lightgbm_onnx(model_text: str) -> bytes:
    """The ONNX model of a LightGBM text whose trees sum up to log-odds.

    Raises:
        Refused: its objective gives no probability, or it has splits that ONNX has no equal for.
    """
    import lightgbm as lgb
    from onnx import TensorProto, helper, numpy_helper

    described = lgb.Booster(model_str=model_text).dump_model()
    objective, *settings = described["objective"].split()
    if objective not in ("binary", "cross_entropy") or described["average_output"]:
        raise Refused(
            f"expected boosted trees of the objective binary or cross_entropy, found {described['objective']}"
        )
    steepness = float(dict(part.split(":") for part in settings).get("sigmoid", 1.0))
    nodes = _Nodes()
    for tree in described["tree_info"]:
        nodes.add_tree(tree["tree_structure"])
    trees = helper.make_node(
        "TreeEnsemble",
        [FEATURES],
        ["sums"],
        domain="ai.onnx.ml",
        nodes_splits=numpy_helper.from_array(np.array(nodes.threshold)),
        nodes_featureids=nodes.feature,
        nodes_modes=numpy_helper.from_array(np.full(len(nodes.feature), _AT_MOST, np.uint8)),
        nodes_truenodeids=nodes.true_id,
        nodes_falsenodeids=nodes.false_id,
        nodes_trueleafs=nodes.true_is_leaf,
        nodes_falseleafs=nodes.false_is_leaf,
        nodes_missing_value_tracks_true=nodes.missing_is_true,
        leaf_targetids=[0] * len(nodes.leaves),
        leaf_weights=numpy_helper.from_array(np.array(nodes.leaves)),
        tree_roots=nodes.roots,
        n_targets=1,
        aggregate_function=_SUM,
        post_transform=_AS_IT_IS,
    )
    constants = {"all_rows": np.array([-1]), "falling": np.array(-steepness), "one": np.array(1.0)}
    # 1 ÷ (1 + e^−x), as LightGBM computes it: the operator Sigmoid differs from it in the last digits.
    steps = [
        helper.make_node("Reshape", ["sums", "all_rows"], ["log_odds"]),
        helper.make_node("Mul", ["log_odds", "falling"], ["negated"]),
        helper.make_node("Exp", ["negated"], ["odds_against"]),
        helper.make_node("Add", ["odds_against", "one"], ["inverse"]),
        helper.make_node("Div", ["one", "inverse"], [PROBABILITY]),
    ]
    columns = len(described["feature_names"])
    graph = helper.make_graph(
        [trees, *steps],
        "model",
        [helper.make_tensor_value_info(FEATURES, TensorProto.DOUBLE, ["rows", columns])],
        [helper.make_tensor_value_info(PROBABILITY, TensorProto.DOUBLE, ["rows"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("ai.onnx.ml", _ML_OPSET)]
    return canonical_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=_IR))
