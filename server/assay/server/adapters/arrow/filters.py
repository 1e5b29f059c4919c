"""Filters over the mapped columns of a samples file.

Numbers compare as numbers whatever their types: no int64 is rounded to a double on the way.
"""

import math
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from assay.server.adapters.arrow.columns import ATTRIBUTE
from assay.server.adapters.arrow.ids import numbers_of_mask
from assay.server.core.records.arrays import MaskArray, Scalar
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, HasId, Not, OneOf

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal,
    "!=": pc.not_equal,
    "<": pc.less,
    "<=": pc.less_equal,
    ">": pc.greater,
    ">=": pc.greater_equal,
}
_UPWARD = (">", ">=")
_DOWNWARD = ("<", "<=")
_INT64_LIMIT = 1 << 63

# Which samples have one of some ids.
HaveIds = Callable[[HasId], MaskArray]

# A comparison that the column's type can make exactly, or its outcome for every value of that type.
Bound = tuple[str, Scalar] | bool


def evaluate(filter: Filter, batch: pa.RecordBatch, have_ids: HaveIds) -> MaskArray:
    """Which samples of a batch match."""
    match filter:
        case Compare():
            return _compare(filter, batch)
        case OneOf():
            return _one_of(filter, batch)
        case HasId():
            return have_ids(filter)
        case AllOf():
            masks = (evaluate(part, batch, have_ids) for part in filter.filters)
            return reduce(np.logical_and, masks, np.ones(batch.num_rows, np.bool_))
        case AnyOf():
            masks = (evaluate(part, batch, have_ids) for part in filter.filters)
            return reduce(np.logical_or, masks, np.zeros(batch.num_rows, np.bool_))
        case Not():
            return ~evaluate(filter.filter, batch, have_ids)


def exact_bound(kind: pa.DataType, op: str, value: Scalar) -> Bound:
    """`column op value` for a column of a type, without rounding; False where the types do not compare."""
    if pa.types.is_boolean(kind):
        return (op, value) if isinstance(value, bool) else False
    if pa.types.is_large_string(kind):
        return (op, value) if isinstance(value, str) else False
    if isinstance(value, bool | str) or value != value:  # no NaN compares
        return False
    return _int64_bound(op, value) if pa.types.is_int64(kind) else _double_bound(op, value)


def _int64_bound(op: str, value: int | float) -> Bound:
    if value >= _INT64_LIMIT:
        return op == "!=" or op in _DOWNWARD
    if value < -_INT64_LIMIT:
        return op == "!=" or op in _UPWARD
    whole = math.floor(value)
    if whole == value:
        return op, whole
    if op in _DOWNWARD:
        return "<=", whole
    if op in _UPWARD:
        return ">", whole
    return op == "!="


def _double_bound(op: str, value: int | float) -> Bound:
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    if near == value:
        return op, near
    if op in _DOWNWARD:
        return ("<=" if near < value else "<"), near
    if op in _UPWARD:
        return (">=" if near > value else ">"), near
    return op == "!="


def _column(batch: pa.RecordBatch, attribute: str) -> pa.Array | None:
    index = batch.schema.get_field_index(ATTRIBUTE + attribute)
    return None if index < 0 else batch.column(index)


def _compare(filter: Compare, batch: pa.RecordBatch) -> MaskArray:
    column = _column(batch, filter.attribute)
    if column is None:
        return np.zeros(batch.num_rows, np.bool_)
    bound = exact_bound(column.type, filter.op, filter.value)
    if isinstance(bound, bool):
        return numbers_of_mask(column.is_valid()) & bound
    op, value = bound
    return numbers_of_mask(_OPERATORS[op](column, pa.scalar(value, column.type)))


def _one_of(filter: OneOf, batch: pa.RecordBatch) -> MaskArray:
    column = _column(batch, filter.attribute)
    if column is None:
        return np.zeros(batch.num_rows, np.bool_)
    bounds = [exact_bound(column.type, "==", value) for value in filter.values]
    values = [bound[1] for bound in bounds if not isinstance(bound, bool)]
    if pa.types.is_floating(column.type) and 0.0 in values:
        values += [0.0, -0.0]  # membership is by bits, and zero has two
    return numbers_of_mask(pc.is_in(column, value_set=pa.array(values, column.type)))
