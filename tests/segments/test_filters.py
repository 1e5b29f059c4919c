"""Filters agree with plain Python, which compares int and float exactly."""

import operator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.core.ports.segments import SampleSegment
from assay.server.core.records.arrays import Scalar
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, HasId, Not, OneOf
from assay.server.core.records.samples import SampleColumns
from tests.segments.builders import attribute, samples

OPERATORS = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
TOP = 2**63 - 1
COLUMNS: dict[str, tuple[str, list[Scalar | None]]] = {
    "int": ("int64", [0, 1, None, 2**53, 2**53 + 1, TOP, -(2**63), -3]),
    "real": ("double", [0.0, -0.0, None, 2.0**53, 2.0**53 + 2, 1e300, -1e300, 0.1]),
    "word": ("string", ["", "a", None, "ab", "ä", "z", "日本", "😀"]),
    "flag": ("bool", [True, False, None, True, True, False, False, None]),
}
IDS = [f"id {i}" for i in range(8)]
VALUES: list[Scalar] = [
    *(value for _, column in COLUMNS.values() for value in column if value is not None),
    *(0.5, -0.5, 2.0**63, -(2.0**63), -(2.0**64), 10**400, -(10**400), TOP + 1, float("inf"), float("-inf")),
]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> SampleSegment:
    attributes = {name: attribute(*column) for name, column in COLUMNS.items()}
    return samples(ArrowSegmentStore(tmp_path_factory.mktemp("data")), 0, SampleColumns(IDS, attributes=attributes))


def comparable(a: Scalar, b: Scalar) -> bool:
    numbers = all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))
    return numbers or type(a) is type(b)


def holds(filter: Filter, index: int) -> bool:
    match filter:
        case Compare(name, op, value):
            have = COLUMNS[name][1][index] if name in COLUMNS else None
            return have is not None and comparable(have, value) and OPERATORS[op](have, value)
        case OneOf(name, values):
            return any(holds(Compare(name, "==", value), index) for value in values)
        case AllOf(filters):
            return all(holds(part, index) for part in filters)
        case AnyOf(filters):
            return any(holds(part, index) for part in filters)
        case Not(inner):
            return not holds(inner, index)
        case HasId(ids):
            return IDS[index] in ids


NAMES = st.sampled_from([*COLUMNS, "unknown"])
SCALARS = st.sampled_from(VALUES)
LEAVES = st.one_of(
    st.builds(Compare, NAMES, st.sampled_from(list(OPERATORS)), SCALARS),
    st.builds(OneOf, NAMES, st.lists(SCALARS, max_size=4).map(tuple)),
    st.builds(HasId, st.lists(st.sampled_from([*IDS, "none"]), max_size=3).map(tuple)),
)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(AllOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(AnyOf, st.lists(inner, max_size=3).map(tuple)),
        st.builds(Not, inner),
    ),
    max_leaves=5,
)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("name", COLUMNS)
def test_every_comparison_is_exact(segment: SampleSegment, name: str, op: str) -> None:
    for value in VALUES:
        filter = Compare(name, op, value)
        assert segment.matches(filter).tolist() == [holds(filter, i) for i in range(len(IDS))], filter


@given(filter=FILTERS)
def test_every_filter_means_what_python_says(segment: SampleSegment, filter: Filter) -> None:
    mask = segment.matches(filter)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [holds(filter, i) for i in range(len(IDS))]


def test_a_missing_value_matches_only_a_negation(segment: SampleSegment) -> None:
    assert not segment.matches(Compare("int", "!=", 0))[2]
    assert segment.matches(Not(Compare("int", "==", 0)))[2]


def test_nan_matches_nothing(segment: SampleSegment) -> None:
    assert not segment.matches(Compare("real", "!=", float("nan"))).any()
