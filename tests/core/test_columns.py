"""A column behaves as a plain array does."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.pools.columns import CHUNK_ROWS, MANY_ROWS, RowColumn

LENGTH = 3 * CHUNK_ROWS + 100
EDGES = [0, 1, CHUNK_ROWS - 1, CHUNK_ROWS, 2 * CHUNK_ROWS - 1, 3 * CHUNK_ROWS, LENGTH - 1]

rows = st.lists(st.sampled_from(EDGES) | st.integers(0, LENGTH - 1), max_size=20, unique=True)
steps = st.lists(st.tuples(rows, st.integers(0, 250)), max_size=6)


@given(steps=steps, first=st.integers(0, LENGTH), asked=rows)
def test_same_as_an_array(steps: list[tuple[list[int], int]], first: int, asked: list[int]) -> None:
    column = RowColumn.filled(first, np.uint8(7)).extended(LENGTH)
    plain = np.full(LENGTH, 7, np.uint8)
    for changed, value in steps:
        places = np.array(changed, np.int64)
        each = (value + np.arange(len(places))) % 256
        column = column.with_values(places, each)
        plain[places] = each
    assert column.length == LENGTH
    np.testing.assert_array_equal(column.array, plain)
    np.testing.assert_array_equal(column.at(np.array(asked, np.int64)), plain[asked])


def test_a_change_leaves_the_column_before_it() -> None:
    before = RowColumn.filled(10, np.int32(-1))
    after = before.with_values(np.array([3, 4]), 2)
    assert before.array.tolist() == [-1] * 10
    assert after.array.tolist() == [-1, -1, -1, 2, 2, -1, -1, -1, -1, -1]


def test_rows_beyond_the_end_have_the_fill_value() -> None:
    column = RowColumn.filled(5, np.int32(-1)).with_values(np.arange(5), 9)
    assert column.at(np.array([4, 5, 10 * CHUNK_ROWS])).tolist() == [9, -1, -1]
    many = np.arange(MANY_ROWS + 2)
    np.testing.assert_array_equal(column.at(many), np.where(many < 5, 9, -1))


def test_the_whole_column_is_read_only() -> None:
    assert not RowColumn.filled(5, np.int32(0)).array.flags.writeable
    assert len(RowColumn.filled(0, np.int32(0)).array) == 0


def test_never_shrinks() -> None:
    assert RowColumn.filled(5, np.int32(0)).extended(2).length == 5
