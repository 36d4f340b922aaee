"""A TabM net as ONNX, its input transform inside the graph, and its int8 variant."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from my_platform.learning.export.canonical import FEATURES, PROBABILITY, canonical_bytes

_OPSET = 20


def tabm_onnx(files: Mapping[str, bytes]) -> bytes:
    """The ONNX model of a net's files, for any number of rows."""
    import torch

    from my_platform.learning.nets.net import Net
    from my_platform.learning.nets.served import ServedTabM

    net = Net.of_files(files)
    module = ServedTabM(net).eval()
    example = torch.zeros(2, len(net.transform.names), dtype=torch.float64)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            input_names=[FEATURES],
            output_names=[PROBABILITY],
            dynamic_shapes={FEATURES: {0: torch.export.Dim("rows")}},
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    return canonical_bytes(program.model_proto)


def int8_onnx(model: bytes) -> bytes:
    """The same net with the weights of its products as int8, and their inputs quantised as they come.

    The scale of the inputs is that of all rows that are scored together, so a row's score depends on the rows beside
    it: it is to be scored alone.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, quantised = Path(folder) / "plain.onnx", Path(folder) / "int8.onnx"
        plain.write_bytes(model)
        quantize_dynamic(plain, quantised, op_types_to_quantize=["MatMul"], weight_type=QuantType.QInt8)
        return canonical_bytes(onnx.load(quantised))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within it, the exporters keep what they say of their own progress to themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
