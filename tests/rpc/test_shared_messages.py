"""Filters, plans and parameters: there and back again, and hostile forms refused."""

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import Reason
from assay.server.core.mining.messages import QuotaView
from assay.server.core.mining.plan.terms import (
    Combination,
    DrawFrom,
    Empty,
    ObjectsTerm,
    Plan,
    Quotas,
    QuotaTerm,
    Reduction,
    ScoreTerm,
    SelectTerm,
    Shortlist,
    ShortlistOrder,
    Stochastic,
)
from assay.server.core.records.filters import AllOf, AnyOf, Compare, HasId, Not, OneOf
from assay.server.core.records.pools import State
from assay.server.rpc.convert.plans import plan_message, quota_message, to_plan
from assay.server.rpc.convert.structs import params, struct_message
from assay.server.rpc.convert.types import filter_message, scalar, scalar_message, states, to_filter
from assay.v1 import types_pb2
from tests.rpc.outcomes import assert_refused

NAMES = st.text("abc_", min_size=1, max_size=4)
SCALARS = (
    st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**63 - 1)
    | st.booleans()
)
LEAVES = (
    st.builds(Compare, NAMES, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), SCALARS)
    | st.builds(OneOf, NAMES, st.lists(SCALARS, min_size=1, max_size=3).map(tuple))
    | st.builds(HasId, st.lists(NAMES, min_size=1, max_size=3).map(tuple))
)


def _combined(parts):
    several = st.lists(parts, min_size=1, max_size=3).map(tuple)
    return st.builds(AllOf, several) | st.builds(AnyOf, several) | st.builds(Not, parts)


FILTERS = st.recursive(LEAVES, _combined, max_leaves=8)
PARAMS = st.dictionaries(
    NAMES, st.integers(-1000, 1000) | st.text(max_size=5) | st.booleans() | st.just(0.5), max_size=3
)

QUOTAS = st.builds(
    QuotaTerm,
    SCALARS,
    st.integers(0, 2**62),
    st.none() | st.integers(0, 2**62),
    st.none() | st.floats(0, 1),
)


@given(SCALARS)
def test_scalars_come_back_with_their_type(value):
    back = scalar(scalar_message(value))
    assert (type(back), back) == (type(value), value)


@given(FILTERS)
def test_filters_come_back(filter_):
    assert to_filter(filter_message(filter_)) == filter_


def test_an_unset_filter_matches_all():
    assert to_filter(types_pb2.Filter()) is None
    assert filter_message(None) is None


def _nested(depth):
    message = types_pb2.Filter(ids=types_pb2.Filter.Ids(ids=["a"]))
    for _ in range(depth - 1):
        message = types_pb2.Filter(negation=message)
    return message


def test_filters_nest_sixteen_deep_and_no_deeper():
    assert to_filter(_nested(16)) is not None
    assert_refused(Reason.INVALID_FILTER, to_filter, _nested(17))


@pytest.mark.parametrize(
    "message",
    [
        types_pb2.Filter(compare=types_pb2.Filter.Comparison(attribute="a", op=types_pb2.COMPARE_OP_EQ)),
        types_pb2.Filter(compare=types_pb2.Filter.Comparison(attribute="a", value=scalar_message(1))),
        types_pb2.Filter(compare=types_pb2.Filter.Comparison(attribute="a", op=77, value=scalar_message(1))),
        types_pb2.Filter(
            compare=types_pb2.Filter.Comparison(
                attribute="a", op=types_pb2.COMPARE_OP_EQ, value=types_pb2.AttributeValue(double_value=float("nan"))
            )
        ),
        types_pb2.Filter(
            compare=types_pb2.Filter.Comparison(
                attribute="a", op=types_pb2.COMPARE_OP_EQ, value=scalar_message("x" * 4097)
            )
        ),
        types_pb2.Filter(one_of=types_pb2.Filter.Membership(attribute="a")),
        types_pb2.Filter(one_of=types_pb2.Filter.Membership(attribute="a", values=[scalar_message(1)] * 10_001)),
        types_pb2.Filter(all_of=types_pb2.Filter.Conditions()),
        types_pb2.Filter(any_of=types_pb2.Filter.Conditions(filters=[_nested(1)] * 101)),
        types_pb2.Filter(any_of=types_pb2.Filter.Conditions(filters=[types_pb2.Filter()])),
        types_pb2.Filter(negation=types_pb2.Filter()),
        types_pb2.Filter(ids=types_pb2.Filter.Ids()),
        types_pb2.Filter(ids=types_pb2.Filter.Ids(ids=["a"] * 100_001)),
    ],
)
def test_malformed_filters_are_refused(message):
    assert_refused(Reason.INVALID_FILTER, to_filter, message)


@given(
    st.builds(
        Plan,
        preset=NAMES | st.just(""),
        filter=FILTERS | st.none(),
        scores=st.lists(st.builds(ScoreTerm, NAMES, PARAMS, st.floats(0.1, 4)), max_size=3).map(tuple),
        shortlist=st.none()
        | st.builds(Shortlist, size=st.integers(1, 2**62), order=st.sampled_from(ShortlistOrder))
        | st.builds(Shortlist, per_pick=st.integers(1, 2**62), order=st.sampled_from(ShortlistOrder))
        | st.builds(Shortlist, neighbors=st.integers(1, 2**31 - 1)),
        select=st.none() | st.builds(SelectTerm, NAMES, PARAMS),
        exploration=st.floats(0, 1),
        combination=st.sampled_from(Combination),
        stochastic=st.none()
        | st.builds(Stochastic, st.sampled_from(["power", "softmax", "softrank"]), st.floats(0.1, 1000)),
        quotas=st.none() | st.builds(Quotas, st.lists(QUOTAS, max_size=3).map(tuple), NAMES | st.just("")),
        near_duplicate_radius=st.floats(0, 10),
        query=st.lists(NAMES, max_size=3).map(tuple),
        draw_from=st.sampled_from(DrawFrom),
        overlap_share=st.floats(0.1, 1),
        overlap_annotations=st.integers(2, 100),
        prediction_source=NAMES,
        objects=st.none()
        | st.builds(
            ObjectsTerm,
            NAMES,
            st.sampled_from(Reduction),
            st.integers(1, 9),
            st.dictionaries(NAMES, st.floats(0, 9)),
            st.sampled_from(Empty),
            st.floats(0, 9),
        ),
    )
)
def test_plans_come_back(plan):
    assert to_plan(plan_message(plan)) == plan


def test_what_is_left_out_has_its_default():
    plan = to_plan(types_pb2.Plan(scores=[types_pb2.ScoreTerm(strategy="margin")], stochastic={}))
    assert plan.scores == (ScoreTerm("margin", {}, 1.0),)
    assert plan.combination is Combination.PRODUCT
    assert plan.stochastic == Stochastic("power", 1.0)
    assert to_plan(types_pb2.Plan(shortlist={"size": 3})).shortlist == Shortlist(3, order=ShortlistOrder.TOP)
    assert to_plan(types_pb2.Plan(quotas={"quotas": [{"value": {"string_value": "ant"}}]})).quotas == Quotas(
        (QuotaTerm("ant", 0, None, None),)
    )


@pytest.mark.parametrize(
    "shortlist",
    [{}, {"size": 0}, {"size": -1}, {"per_pick": 0}, {"per_pick": -3}, {"seals": {}}, {"seals": {"neighbors": -1}}],
)
def test_a_shortlist_needs_a_size(shortlist):
    assert_refused(Reason.INVALID_PLAN, to_plan, types_pb2.Plan(shortlist=types_pb2.Shortlist(**shortlist)))


@pytest.mark.parametrize(
    "plan",
    [
        types_pb2.Plan(quotas={"quotas": [{"minimum": 1}]}),
        types_pb2.Plan(query={}),
    ],
)
def test_parts_that_say_nothing_are_refused(plan):
    assert_refused(Reason.INVALID_PLAN, to_plan, plan)


@pytest.mark.parametrize(
    "plan",
    [
        types_pb2.Plan(combination=9),
        types_pb2.Plan(draw_from=9),
        types_pb2.Plan(stochastic={"kind": 9}),
        types_pb2.Plan(shortlist={"size": 1, "order": 9}),
    ],
)
def test_words_of_a_newer_client_are_refused(plan):
    assert_refused(Reason.INVALID_ARGUMENT, to_plan, plan)


def test_what_became_of_quotas_is_told_in_full():
    message = quota_message(QuotaView(QuotaTerm(3, 1, None, 0.5), available=9, picked=2))
    assert message == types_pb2.QuotaReport(value={"int64_value": 3}, picked=2, available=9, minimum=1, target=0.5)
    assert not message.HasField("maximum")


@pytest.mark.parametrize(
    "plan",
    [
        types_pb2.Plan(exploration=float("nan")),
        types_pb2.Plan(near_duplicate_radius=float("inf")),
        types_pb2.Plan(stochastic={"beta": float("nan")}),
        types_pb2.Plan(quotas={"quotas": [{"value": {"string_value": "a"}, "target": float("nan")}]}),
        types_pb2.Plan(scores=[types_pb2.ScoreTerm(strategy="margin", strength=float("inf"))]),
    ],
)
def test_numbers_of_a_plan_are_finite(plan):
    assert_refused(Reason.NOT_FINITE, to_plan, plan)


def test_whole_numbers_of_parameters_become_int():
    struct = struct_message({"k": 10, "beta": 0.5, "big": 2.0**60, "deep": {"list": (1, 2.5, None, True, "x")}})
    back = params(struct)
    assert back == {"k": 10, "beta": 0.5, "big": 2.0**60, "deep": {"list": [1, 2.5, None, True, "x"]}}
    assert [type(back[name]) for name in ("k", "beta", "big")] == [int, float, float]
    assert type(back["deep"]["list"][0]) is int
    assert back["deep"]["list"][3] is True


def _deep_struct(depth):
    struct = Struct()
    inner = struct
    for _ in range(depth):
        inner = inner.fields["x"].struct_value
    inner.fields["x"].number_value = 1
    return struct


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_parameters_are_finite(value):
    struct = Struct()
    struct.fields["k"].number_value = value
    assert_refused(Reason.INVALID_PARAMETER, params, struct)


def test_parameters_do_not_nest_without_end():
    assert params(_deep_struct(10))
    assert_refused(Reason.INVALID_PARAMETER, params, _deep_struct(40))


def test_an_unset_parameter_is_refused():
    struct = Struct()
    struct.fields["k"].SetInParent()
    assert_refused(Reason.INVALID_PARAMETER, params, struct)


@pytest.mark.parametrize("value", [0, 7, -1])
def test_only_states_that_can_be_asked_for_are_taken(value):
    assert_refused(Reason.INVALID_ARGUMENT, states, [types_pb2.SAMPLE_STATE_LABELED, value])


def test_states_keep_their_order():
    wanted = [types_pb2.SAMPLE_STATE_LEASED, types_pb2.SAMPLE_STATE_UNLABELED]
    assert states(wanted) == (State.LEASED, State.UNLABELED)


def test_what_a_plan_says_is_0_stays_0_and_what_it_leaves_unset_is_1():
    said = to_plan(types_pb2.Plan(scores=[{"strategy": "margin", "strength": 0}], stochastic={"beta": 0}))
    assert (said.scores[0].strength, said.stochastic.beta) == (0, 0)
    left = to_plan(types_pb2.Plan(scores=[{"strategy": "margin"}], stochastic={}))
    assert (left.scores[0].strength, left.stochastic.beta) == (1, 1)
