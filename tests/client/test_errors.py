"""Statuses become exceptions of the drawn tree."""

import inspect
from datetime import timedelta

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from assay.client import errors
from tests.client.scripted import Refusal


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_every_code_has_a_class(code: grpc.StatusCode) -> None:
    error = errors.from_status(Refusal(code).status())
    assert type(error) is not errors.AssayError
    assert error.code == code.name
    assert isinstance(error, errors.TransportError | errors.RequestError | errors.ServerError)


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("LEASE_EXPIRED", errors.LeaseExpired),
        ("LEASE_FOREIGN", errors.LeaseForeign),
        ("POOL_EXHAUSTED", errors.PoolExhausted),
        ("QUOTA_INFEASIBLE", errors.QuotaInfeasible),
        ("NEED_MISSING", errors.NeedMissing),
        ("SAMPLE_LEASED", errors.FailedPrecondition),
    ],
)
def test_reasons_have_classes_of_their_own(reason: str, kind: type[errors.AssayError]) -> None:
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "too late", reason, {"lease": "x", "stored": "7"})
    error = errors.from_status(refusal.status())
    assert type(error) is kind
    assert (error.reason, error.message, error.metadata["lease"]) == (reason, "too late", "x")
    assert error.stored == 7
    assert str(error) == f"{reason}: too late"


def test_retry_info_is_read() -> None:
    busy = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="BUSY", retry_after=timedelta(seconds=1.5))
    error = errors.from_status(busy.status())
    assert error.retry_after == timedelta(seconds=1.5)
    assert error.stored is None


def test_reasons_of_others_are_not_ours() -> None:
    status = status_pb2.Status(code=9, message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="LEASE_EXPIRED", domain="proxy.example"))
    error = errors.from_status(status)
    assert type(error) is errors.FailedPrecondition
    assert error.reason == ""


class Call:
    """What gRPC raises, as far as it is read."""

    def __init__(self, *trailing: tuple[str, str | bytes]) -> None:
        self._trailing = trailing

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.NOT_FOUND

    def details(self) -> str:
        return "no such pool"

    def trailing_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return self._trailing


def test_details_come_from_trailing_metadata() -> None:
    status = Refusal(grpc.StatusCode.NOT_FOUND, "no pool", "POOL_NOT_FOUND").status()
    error = errors.from_call(Call(("x", "y"), ("grpc-status-details-bin", status.SerializeToString())))
    assert (type(error), error.reason) == (errors.NotFound, "POOL_NOT_FOUND")


@pytest.mark.parametrize("trailing", [(), (("grpc-status-details-bin", b"\xff\xff"),)])
def test_bare_and_broken_details_leave_code_and_message(trailing: tuple[tuple[str, bytes], ...]) -> None:
    error = errors.from_call(Call(*trailing))
    assert (type(error), error.message, error.reason) == (errors.NotFound, "no such pool", "")


def test_the_drawing_shows_the_tree() -> None:
    drawn: dict[str, int] = {}
    for line in (errors.__doc__ or "").splitlines():
        mark = line.find("+-- ")
        if mark >= 0:
            drawn[line[mark + 4 :].split()[0]] = mark
    classes = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, errors.AssayError) and kind is not errors.AssayError
    }
    assert drawn.keys() == classes.keys()
    depths = {name: (len(kind.__mro__) - len(errors.AssayError.__mro__) - 1) * 4 + 4 for name, kind in classes.items()}
    assert drawn == depths


def test_what_quotas_lack_is_listed() -> None:
    told = {"shortfalls": '[{"group": "ant", "bound": "minimum", "wanted": 5, "available": 2}]'}
    error = errors.from_status(Refusal(grpc.StatusCode.FAILED_PRECONDITION, "short", "QUOTA_INFEASIBLE", told).status())
    assert isinstance(error, errors.QuotaInfeasible)
    assert error.shortfalls == (errors.Shortfall("ant", "minimum", 5, 2),)
    assert errors.QuotaInfeasible("bare").shortfalls == ()
