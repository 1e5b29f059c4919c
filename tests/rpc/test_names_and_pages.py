"""Resource names, page tokens, durations, counts: what is not of the form is refused."""

import base64
import json

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import Reason
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.scalars import (
    bounded,
    bounded_or,
    bounded_seconds,
    duration_message,
    request_id,
    seconds,
    timestamp_message,
)
from assay.v1 import annotations_pb2, pools_pb2
from tests.rpc.outcomes import assert_refused, outcome

IDS = st.from_regex(r"[a-z][a-z0-9_-]{0,62}", fullmatch=True)


@given(IDS, IDS)
def test_names_come_back(pool_id, child):
    assert names.parse_pool(names.pool_name(pool_id)) == pool_id
    assert names.parse_model(names.model_name(pool_id, child)) == (pool_id, child)
    assert names.parse_lease(names.lease_name(pool_id, child)) == (pool_id, child)
    assert names.parse_operation(names.operation_name(pool_id, child)) == (pool_id, child)
    assert names.parse_operations(names.pool_name(pool_id)) == pool_id


@pytest.mark.parametrize(
    "name",
    [
        "",
        "news",
        "pools/",
        "pools/../etc",
        "pools/a/b",
        "pools/a\n",
        "Pools/a",
        "pools/é",
        "pools/" + "a" * 200,
        "pools/a/",
    ],
)
def test_other_names_are_refused(name):
    assert_refused(Reason.INVALID_NAME, names.parse_pool, name)


@given(st.text())
def test_any_text_is_a_name_or_refused(text):
    for parse in (names.parse_pool, names.parse_model, names.parse_lease, names.parse_operation):
        _, reason = outcome(parse, text)
        assert reason in (None, Reason.INVALID_NAME)
        assert text.isascii() or reason


def test_a_child_belongs_to_its_pool():
    assert names.model_within("news", "pools/news/models/m1") == "m1"
    assert names.lease_within("news", "") == ""
    assert_refused(Reason.INVALID_NAME, names.model_within, "news", "pools/other/models/m1")


def _request(**fields):
    return pools_pb2.ListSamplesRequest(parent="pools/news", **fields)


def test_pages_follow_each_other_to_the_end():
    items, seen, token = list(range(10)), [], ""
    while True:
        page = paging.page(_request(page_size=3, page_token=token), -1)
        shown, token = page.cut([item for item in items if item > page.after][: page.fetch], lambda item: item)
        seen += shown
        if not token:
            break
    assert seen == items


def test_the_last_full_page_has_no_token():
    page = paging.page(_request(page_size=3), -1)
    assert page.cut([0, 1, 2], lambda item: item) == ([0, 1, 2], "")


def test_a_token_may_change_its_page_size_but_nothing_else():
    token = paging.page(_request(page_size=3), -1).token(7)
    assert paging.page(_request(page_size=9, page_token=token), -1).after == 7
    assert_refused(Reason.INVALID_PAGE_TOKEN, paging.page, _request(page_token=token, include_payload=True), -1)
    other = annotations_pb2.ListLabelsRequest(parent="pools/news", page_token=token)
    assert_refused(Reason.INVALID_PAGE_TOKEN, paging.page, other, -1)


@pytest.mark.parametrize("start", [-1, "", (-1.0, "")])
@pytest.mark.parametrize("cursor", [-2, 2**63, True, None, 1.5, "x", [1.0, "x"], [1, "x"], ["x"], {}, [[]]])
def test_a_forged_cursor_is_of_the_right_type_or_refused(start, cursor):
    request = _request()
    digest = paging.page(request, start).digest
    request.page_token = base64.urlsafe_b64encode(json.dumps([cursor, digest]).encode()).decode()
    page, reason = outcome(paging.page, request, start)
    assert reason in (None, Reason.INVALID_PAGE_TOKEN)
    if page is not None:
        assert type(page.after) is type(start)
        assert page.after == (tuple(cursor) if isinstance(cursor, list) else cursor)


@given(st.text(max_size=50))
def test_any_other_token_is_refused(token):
    if token:
        assert_refused(Reason.INVALID_PAGE_TOKEN, paging.page, _request(page_token=token), -1)


@pytest.mark.parametrize("token", ["a" * 5000, base64.b64encode(b"[" * 1000).decode(), "W10", "bnVsbA"])
def test_hostile_tokens_are_refused(token):
    assert_refused(Reason.INVALID_PAGE_TOKEN, paging.page, _request(page_token=token), -1)


@pytest.mark.parametrize(("asked", "got"), [(0, 100), (1, 1), (1000, 1000), (2**31 - 1, 1000)])
def test_page_sizes_have_a_default_and_a_cap(asked, got):
    assert paging.page(_request(page_size=asked), -1).size == got


def test_negative_page_sizes_are_refused():
    assert_refused(Reason.INVALID_ARGUMENT, paging.page, _request(page_size=-1), -1)


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**31), 2**31 - 1))
def test_any_duration_is_well_formed_or_refused(whole, nanos):
    value, reason = outcome(seconds, Duration(seconds=whole, nanos=nanos), "ttl")
    assert reason in (None, Reason.INVALID_ARGUMENT)
    if reason is None:
        assert value == whole + nanos / 1e9
        assert whole * nanos >= 0


@given(st.floats(0, 1e9))
def test_durations_come_back_to_the_nanosecond(value):
    assert seconds(duration_message(value), "eta") == pytest.approx(value, abs=1e-9, rel=1e-12)


def test_durations_keep_their_bounds():
    assert bounded_seconds(Duration(seconds=1), 1, 60, "ttl") == 1
    assert_refused(Reason.INVALID_ARGUMENT, bounded_seconds, Duration(nanos=999_999_999), 1, 60, "ttl")
    assert_refused(Reason.INVALID_ARGUMENT, bounded_seconds, Duration(seconds=61), 1, 60, "ttl")


@pytest.mark.parametrize("moment", [0.0, 1.000001, 1795321738.514955])
def test_moments_are_told_to_the_microsecond(moment):
    assert timestamp_message(moment).ToMicroseconds() == round(moment * 1e6)


def test_counts_keep_their_bounds():
    assert bounded(10, 1, 10, "k") == 10
    assert_refused(Reason.INVALID_ARGUMENT, bounded, 0, 1, 10, "k")
    assert_refused(Reason.INVALID_ARGUMENT, bounded, 11, 1, 10, "k")


def test_a_count_that_is_0_is_not_one_that_is_left_unset():
    assert bounded_or(pools_pb2.SearchSamplesRequest(), "k", 1, 10, 5) == 5
    assert bounded_or(pools_pb2.SearchSamplesRequest(k=7), "k", 1, 10, 5) == 7
    assert_refused(Reason.INVALID_ARGUMENT, bounded_or, pools_pb2.SearchSamplesRequest(k=0), "k", 1, 10, 5)


def test_request_ids_are_short_and_printable():
    assert request_id("r" * 128)
    assert_refused(Reason.INVALID_ARGUMENT, request_id, "r" * 129)
    assert_refused(Reason.INVALID_ARGUMENT, request_id, "a\0b")
