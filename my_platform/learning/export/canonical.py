"""ONNX models as bytes that tell of nothing but the model."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

FEATURES, PROBABILITY = "features", "probability"


def canonical_bytes(model: "ModelProto") -> bytes:
    """The model without the names of tools, paths and source lines; the same model gives the same bytes.

    Raises:
        onnx.checker.ValidationError: it is no valid model.
    """
    import onnx

    for name in ("producer_name", "producer_version", "domain", "doc_string", "model_version"):
        model.ClearField(name)
    del model.metadata_props[:]
    _clear(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _clear(graph: "GraphProto") -> None:
    graph.name = "model"
    graph.ClearField("doc_string")
    del graph.metadata_props[:]
    # Shapes of values in between are worked out again by whoever loads the model.
    del graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.ClearField("doc_string")
        del part.metadata_props[:]
