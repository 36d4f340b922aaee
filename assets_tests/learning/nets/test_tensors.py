import json

import numpy as np
import pytest

from my_platform.errors import PlatformError
from my_platform.learning.nets.tensors import read_tensors, write_tensors

ARRAYS = {
    "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "bias": np.array([0.5], dtype=np.float64),
    "steps": np.array(7, dtype=np.int64),
    "empty": np.zeros((0, 3), dtype=np.float32),
}


def test_arrays_come_back_with_their_types_and_shapes() -> None:
    arrays, texts = read_tensors(write_tensors(ARRAYS, {"made by": "a test"}), "x")
    assert texts == {"made by": "a test"}
    assert sorted(arrays) == sorted(ARRAYS)
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert arrays[name].shape == array.shape
        assert (arrays[name] == array).all()


def test_the_file_is_laid_out_as_the_format_says() -> None:
    data = write_tensors({"a": np.array([[1, 2]], dtype=np.float32)})
    length = int.from_bytes(data[:8], "little")
    assert data[8:9] == b"{"
    assert (8 + length) % 8 == 0
    assert json.loads(data[8 : 8 + length]) == {
        "a": {"dtype": "F32", "shape": [1, 2], "data_offsets": [0, 8]}
    }
    assert data[8 + length :] == np.array([1, 2], dtype="<f4").tobytes()


def test_the_order_in_which_arrays_are_given_does_not_count() -> None:
    assert write_tensors(dict(reversed(ARRAYS.items()))) == write_tensors(ARRAYS)


@pytest.mark.parametrize("kept", [0, 7, 20, -1])
def test_a_file_that_is_cut_off_is_refused_by_name(kept: int) -> None:
    with pytest.raises(PlatformError, match=r"net\.safetensors"):
        read_tensors(write_tensors(ARRAYS)[:kept], "net.safetensors")


def test_a_file_with_bytes_too_many_is_refused() -> None:
    with pytest.raises(PlatformError, match="1 bytes after the last tensor"):
        read_tensors(write_tensors(ARRAYS) + b"x", "x")


def test_objects_are_not_written() -> None:
    with pytest.raises(PlatformError, match="no safetensors type for object"):
        write_tensors({"x": np.array([object()])})
