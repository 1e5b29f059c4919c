"""Arrays survive the wire in any layout and byte order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.client._arrays import float_rows, from_matrix, matrix, named_arrays, named_tensor
from assay.v1 import types_pb2 as pb

FLOATS = st.sampled_from(["<f2", "<f4", "<f8", ">f4", ">f8"])


@given(hnp.arrays(FLOATS, st.tuples(st.integers(0, 5), st.integers(1, 5)), elements=st.integers(-9, 9)))
def test_matrix_comes_back_as_it_was(rows_NC: np.ndarray) -> None:
    message = matrix(rows_NC)
    assert len(message.data) == rows_NC.size * rows_NC.itemsize
    np.testing.assert_array_equal(from_matrix(message), rows_NC)


def test_bytes_are_little_endian_rows() -> None:
    columns_first = np.asfortranarray(np.array([[1.0, 2.0], [3.0, 4.0]], dtype=">f4"))
    message = matrix(columns_first)
    assert message.dtype == pb.DTYPE_FLOAT32
    assert message.data == np.array([1, 2, 3, 4], dtype="<f4").tobytes()


def test_whole_numbers_become_floats_and_lists_are_taken() -> None:
    assert float_rows([[1, 2]], "vectors").dtype == np.float32
    assert float_rows([[0.5]], "vectors").dtype == np.float64


@pytest.mark.parametrize("bad", [[1.0, 2.0], np.zeros((2, 2, 2)), np.zeros((1, 1), complex)])
def test_what_is_no_matrix_of_floats_is_refused(bad: object) -> None:
    with pytest.raises(ValueError, match="vectors must be"):
        float_rows(bad, "vectors")  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32"])
def test_model_inputs_keep_shape_and_type(dtype: str) -> None:
    tokens = np.arange(12).reshape(2, 3, 2).astype(dtype)
    message = named_tensor("input_ids", tokens)
    wanted = pb.DType.Value(f"DTYPE_{dtype.upper()}")
    assert (message.name, message.dtype, list(message.shape)) == ("input_ids", wanted, [2, 3, 2])
    assert message.data == tokens.tobytes()


@pytest.mark.parametrize("bad", [np.zeros(3, np.uint64), np.float32(1), np.array(["text"])])
def test_model_inputs_that_cannot_travel_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"does not travel|first axis"):
        named_arrays({"x": bad})


def test_bytes_that_do_not_fit_the_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="reshape"):
        from_matrix(pb.Matrix(dtype=pb.DTYPE_FLOAT32, rows=2, cols=2, data=bytes(12)))
