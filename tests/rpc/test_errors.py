"""Every reason has a code; what is told of an error is what the table says, and nothing of its inside."""

import grpc
import pytest
from google.rpc import error_details_pb2

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.errors import CODES, RETRY_AFTER, Annotated, EdgeError, EdgeReason, describe, operation_failure
from assay.strategies import StrategyError, UnknownStrategy


def _details(status, kind):
    for detail in status.details:
        if detail.Is(kind.DESCRIPTOR):
            message = kind()
            detail.Unpack(message)
            return message
    return None


def test_every_reason_has_exactly_one_code():
    assert set(CODES) == {*Reason, *EdgeReason}


def test_no_code_is_ok_or_unknown():
    assert not {grpc.StatusCode.OK, grpc.StatusCode.UNKNOWN} & set(CODES.values())


def test_what_asks_for_another_try_says_when():
    again = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED, grpc.StatusCode.UNAVAILABLE)
    assert {reason for reason, code in CODES.items() if code in again} == set(RETRY_AFTER)


@pytest.mark.parametrize("reason", list(Reason))
def test_a_domain_error_travels_with_reason_domain_and_facts(reason):
    status = describe(AssayError(reason, "It is wrong. Do it right.", pool="news", size=3)).status()
    info = _details(status, error_details_pb2.ErrorInfo)
    assert status.code == CODES[reason].value[0]
    assert status.message == "It is wrong. Do it right."
    assert (info.reason, info.domain, dict(info.metadata)) == (reason.value, "assay", {"pool": "news", "size": "3"})
    retry = _details(status, error_details_pb2.RetryInfo)
    assert (retry is not None) == (reason in RETRY_AFTER)


def test_a_retry_delay_is_told_in_full():
    retry = _details(describe(AssayError(Reason.BUSY, "Busy.")).status(), error_details_pb2.RetryInfo)
    assert retry.retry_delay.ToMilliseconds() == RETRY_AFTER[Reason.BUSY] * 1000


def test_strategies_refusals_use_the_same_table():
    failure = describe(UnknownStrategy("margn", ["margin"]))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "UNKNOWN_STRATEGY")
    assert "margin" in failure.message


def test_a_third_partys_own_reason_is_kept():
    failure = describe(StrategyError("TOO_FEW_OF_A_KIND", "too few of class 3"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_FEW_OF_A_KIND")


def test_running_out_of_memory_is_the_requests_size_not_a_crash():
    failure = describe(MemoryError("Unable to allocate 745 GiB for an array"))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "GiB" not in failure.message


def test_the_unexpected_is_told_by_an_id_only():
    failure = describe(ZeroDivisionError("/secret/path: password hunter2"))
    text = str(failure.status())
    assert failure.code is grpc.StatusCode.INTERNAL
    assert failure.error_id
    assert failure.error_id in failure.message
    assert "hunter2" not in text
    assert "ZeroDivision" not in text


def test_two_unexpected_errors_have_two_ids():
    assert describe(ValueError("x")).error_id != describe(ValueError("x")).error_id


def test_facts_can_be_added_to_any_error():
    known = describe(Annotated(AssayError(Reason.NOT_FINITE, "NaN.", row=4), stored=200))
    assert dict(known.metadata) == {"row": "4", "stored": "200"}
    unknown = describe(Annotated(ValueError("x"), stored=7))
    assert unknown.metadata["stored"] == "7"
    assert unknown.metadata["error_id"] == unknown.error_id


def test_edge_errors_are_told_alike():
    failure = describe(EdgeError(EdgeReason.UNAUTHENTICATED, "No key."))
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED")


def test_an_operations_failure_keeps_its_reason_over_a_restart():
    assert operation_failure("TOO_FEW_CLASSES", "x").code is grpc.StatusCode.FAILED_PRECONDITION
    assert operation_failure("SOMETHING_OLD", "x").code is grpc.StatusCode.INTERNAL
