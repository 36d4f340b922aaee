"""A blend of ONNX models as one: the mean of their log-odds, in one graph."""

from collections.abc import Sequence

import numpy as np

from my_platform.learning.export.canonical import FEATURES, PROBABILITY, canonical_bytes

_OPSET, _DOUBLE = 20, 11
# A probability of 0 or 1 has no log-odds; this far from either it has some.
_LEAST = 1e-12


def blend_onnx(models: Sequence[bytes]) -> bytes:
    """One model of the same shape whose log-odds are the mean of those of the models.

    Args:
        models: ONNX models of the same features, as this package writes them, with probabilities out.
    """
    import onnx
    from onnx import compose, helper, numpy_helper

    parts = [onnx.load_from_string(model) for model in models]
    nodes, initializers, functions, versions, odds = [], [], [], {"": _OPSET}, []
    for number, part in enumerate(parts):
        named = compose.add_prefix(part, f"part{number}_", rename_inputs=False)
        nodes += list(named.graph.node)
        initializers += list(named.graph.initializer)
        functions += list(named.functions)
        versions |= {opset.domain: opset.version for opset in named.opset_import if opset.domain}
        score, name = named.graph.output[0].name, f"odds{number}"
        nodes += [
            helper.make_node("Clip", [score, "least", "most"], [f"{name}_inside"]),
            helper.make_node("Sub", ["one", f"{name}_inside"], [f"{name}_other"]),
            helper.make_node("Div", [f"{name}_inside", f"{name}_other"], [f"{name}_ratio"]),
            helper.make_node("Log", [f"{name}_ratio"], [name]),
        ]
        odds.append(name)
    # ONNX Runtime adds any number of doubles, but has no mean of them.
    nodes += [
        helper.make_node("Sum", odds, ["total"]),
        helper.make_node("Div", ["total", "parts"], ["odds"]),
        helper.make_node("Sigmoid", ["odds"], [PROBABILITY]),
    ]
    constants = {"one": 1.0, "least": _LEAST, "most": 1 - _LEAST, "parts": float(len(parts))}
    initializers += [
        numpy_helper.from_array(np.asarray(value, dtype=np.float64), name)
        for name, value in constants.items()
    ]
    width = parts[0].graph.input[0].type.tensor_type.shape.dim[1].dim_value
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info(FEATURES, _DOUBLE, ["rows", width])],
        [helper.make_tensor_value_info(PROBABILITY, _DOUBLE, ["rows"])],
        initializers,
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in sorted(versions.items())],
        functions=functions,
        ir_version=max(part.ir_version for part in parts),
    )
    return canonical_bytes(model)
