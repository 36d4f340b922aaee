"""Named arrays as one file in the safetensors format, which holds numbers and text and no code.

The file is: the length of the header (u64, little-endian); the header, a JSON object that gives for each name its
`dtype`, `shape` and `data_offsets` (from, to) in what follows, and texts under `__metadata__`; then the arrays, C
order, little-endian, one after the other without gaps. Any safetensors library reads it.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from my_platform.errors import PlatformError

Arrays = Mapping[str, NDArray[np.generic]]

_TYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "I32": "<i4", "U8": "|u1", "BOOL": "|b1"}
_NAMES = {np.dtype(code): name for name, code in _TYPES.items()}
_ALIGNMENT = 8
_LONGEST_HEADER = 100_000_000


def write_tensors(arrays: Arrays, texts: Mapping[str, str] | None = None) -> bytes:
    """The file of these arrays; the same arrays and texts give the same bytes.

    Raises:
        PlatformError: an array is of a type that the format has no name for here.
    """
    header: dict[str, object] = {}
    if texts:
        header["__metadata__"] = dict(sorted(texts.items()))
    parts, end = [], 0
    for name in sorted(arrays):
        array = arrays[name]
        kind = _NAMES.get(array.dtype.newbyteorder("<") if array.dtype.itemsize > 1 else array.dtype)
        if kind is None:
            raise PlatformError(f"tensor {name}: no safetensors type for {array.dtype}; cast it to float32")
        data = array.astype(_TYPES[kind], order="C", copy=False).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [end, end + len(data)],
        }
        parts.append(data)
        end += len(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])


def read_tensors(data: bytes, name: str) -> tuple[dict[str, NDArray[np.generic]], dict[str, str]]:
    """The arrays of a file, and its texts.

    Args:
        name: of the file, for errors.

    Raises:
        PlatformError: the file is cut off, or is none of this format.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, _LONGEST_HEADER):
        raise PlatformError(f"{name}: expected a header of {length} bytes, found a file of {len(data)}")
    body = data[8 + length :]
    try:
        header = json.loads(data[8 : 8 + length])
        texts = header.pop("__metadata__", {})
        arrays, end = {}, 0
        for key, about in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            start, stop = about["data_offsets"]
            kind, shape = np.dtype(_TYPES[about["dtype"]]), tuple(about["shape"])
            if start != end or stop - start != kind.itemsize * int(np.prod(shape)) or stop > len(body):
                raise ValueError(f"tensor {key} of shape {shape} at bytes {start} to {stop} of {len(body)}")
            arrays[key] = np.frombuffer(body[start:stop], kind).reshape(shape)
            end = stop
        if end != len(body):
            raise ValueError(f"{len(body) - end} bytes after the last tensor")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise PlatformError(f"{name} is no safetensors file: {error}") from error
    return arrays, texts
