"""Matrices and tensors from hostile bytes: whole and right, or refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.convert.arrays import dtype_message, matrix_message, to_matrix, to_tensors
from assay.v1 import types_pb2
from tests.rpc.outcomes import outcome

SIZES = {
    types_pb2.DTYPE_FLOAT32: 4,
    types_pb2.DTYPE_FLOAT16: 2,
    types_pb2.DTYPE_FLOAT64: 8,
}
INT64 = st.integers(-(2**63), 2**63 - 1)
SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7)


@given(hnp.arrays(np.float32, SHAPES))
def test_float32_comes_back_bit_for_bit(values_NX):
    back_NX = to_matrix(matrix_message(values_NX), "m")
    assert back_NX.dtype == np.float32
    assert back_NX.tobytes() == values_NX.tobytes()
    assert back_NX.shape == values_NX.shape


@given(hnp.arrays(np.float16, SHAPES))
def test_float16_is_widened_exactly(values_NX):
    message = types_pb2.Matrix(
        dtype=types_pb2.DTYPE_FLOAT16, rows=values_NX.shape[0], cols=values_NX.shape[1], data=values_NX.tobytes()
    )
    np.testing.assert_array_equal(to_matrix(message, "m"), values_NX.astype(np.float32))


def _float64(values_NX):
    rows, cols = values_NX.shape
    return types_pb2.Matrix(dtype=types_pb2.DTYPE_FLOAT64, rows=rows, cols=cols, data=values_NX.tobytes())


def test_float64_is_narrowed():
    values_NX = np.array([[0.1, -2.5]])
    np.testing.assert_array_equal(to_matrix(_float64(values_NX), "m"), values_NX.astype(np.float32))


def test_a_float64_beyond_float32_is_refused():
    with pytest.raises(AssayError) as caught:
        to_matrix(_float64(np.array([[1.0, 1e39]])), "m")
    assert caught.value.reason is Reason.NOT_FINITE


def test_infinity_itself_is_left_to_the_domain():
    assert np.isinf(to_matrix(_float64(np.array([[np.inf]])), "m")).all()


def test_float32_is_not_copied_from_the_message():
    data = np.arange(6, dtype=np.float32).tobytes()
    values_NX = to_matrix(types_pb2.Matrix(dtype=types_pb2.DTYPE_FLOAT32, rows=2, cols=3, data=data), "m")
    assert not values_NX.flags.owndata
    assert not values_NX.flags.writeable


@given(st.integers(-5, 50), INT64, INT64, st.binary(max_size=64))
def test_any_matrix_is_whole_or_refused(dtype, rows, cols, data):
    message = types_pb2.Matrix(dtype=dtype, rows=rows, cols=cols, data=data)
    values_NX, reason = outcome(to_matrix, message, "m")
    assert reason in (None, Reason.INVALID_MATRIX, Reason.NOT_FINITE)
    if reason is None:
        assert rows >= 0
        assert values_NX.shape == (rows, cols)
        assert rows * cols * SIZES[dtype] == len(data)


@pytest.mark.parametrize(
    ("dtype", "rows", "cols", "size"),
    [
        (types_pb2.DTYPE_FLOAT32, 2, 3, 23),
        (types_pb2.DTYPE_FLOAT32, 2, 3, 25),
        (types_pb2.DTYPE_FLOAT32, -1, -6, 24),
        (types_pb2.DTYPE_FLOAT32, 1, 0, 0),
        (types_pb2.DTYPE_FLOAT32, 2**62, 2**62, 0),
        (types_pb2.DTYPE_FLOAT32, 0, 2**63 - 1, 4),
        (types_pb2.DTYPE_INT64, 1, 1, 8),
        (types_pb2.DTYPE_UNSPECIFIED, 1, 1, 4),
        (99, 1, 1, 4),
    ],
)
def test_bad_matrices_are_refused(dtype, rows, cols, size):
    with pytest.raises(AssayError) as caught:
        to_matrix(types_pb2.Matrix(dtype=dtype, rows=rows, cols=cols, data=bytes(size)), "embeddings")
    assert caught.value.reason is Reason.INVALID_MATRIX
    assert "embeddings" in caught.value.message


def test_no_rows_are_a_matrix_too():
    assert to_matrix(types_pb2.Matrix(dtype=types_pb2.DTYPE_FLOAT32, rows=0, cols=4), "m").shape == (0, 4)


def _tensor(name, values):
    return types_pb2.NamedTensor(
        name=name, dtype=dtype_message(values.dtype.name), shape=values.shape, data=values.tobytes()
    )


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int64", "int32", "int16", "int8", "uint32", "uint16", "uint8", "bool"]
)
def test_tensors_keep_their_dtype(dtype):
    values = np.arange(24).reshape(2, 3, 4).astype(dtype)
    back = to_tensors([_tensor("x", values)])["x"]
    assert back.dtype == dtype
    np.testing.assert_array_equal(back, values)


def test_float16_tensors_are_widened():
    assert to_tensors([_tensor("x", np.ones((2, 2), np.float16))])["x"].dtype == np.float32


@given(st.integers(-1, 9), st.lists(INT64, max_size=10), st.binary(max_size=32))
def test_any_tensor_is_whole_or_refused(dtype, shape, data):
    tensor = types_pb2.NamedTensor(name="x", dtype=dtype, shape=shape, data=data)
    inputs, reason = outcome(to_tensors, [tensor])
    assert reason in (None, Reason.INPUTS_INVALID)
    if reason is None:
        assert list(inputs["x"].shape) == shape


@pytest.mark.parametrize(
    "tensors",
    [
        [_tensor("", np.ones((2, 1)))],
        [_tensor("x", np.ones((2, 1))), _tensor("x", np.ones((2, 1)))],
        [_tensor("x", np.ones((2, 1))), _tensor("y", np.ones((3, 1)))],
        [types_pb2.NamedTensor(name="x", dtype=types_pb2.DTYPE_INT64, shape=[-1, -1], data=bytes(8))],
        [types_pb2.NamedTensor(name="x", dtype=types_pb2.DTYPE_INT64, data=bytes(8))],
        [types_pb2.NamedTensor(name="x", dtype=types_pb2.DTYPE_BOOL, shape=[2], data=b"\x00\x02")],
        [_tensor(f"x{i}", np.ones((1, 1))) for i in range(65)],
    ],
)
def test_bad_inputs_are_refused(tensors):
    with pytest.raises(AssayError) as caught:
        to_tensors(tensors)
    assert caught.value.reason is Reason.INPUTS_INVALID
