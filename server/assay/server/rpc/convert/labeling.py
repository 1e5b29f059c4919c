"""Messages of labeling.proto."""

import json
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.exporting import Form, Table
from assay.server.core.labeling.messages import BatchResult, BatchSpec, LeaseView
from assay.server.core.limits import MAX_BATCH_PICKS, MAX_PREDICTIONS, MAX_REASON_BYTES, MAX_TTL, MIN_TTL
from assay.server.rpc.convert import names
from assay.server.rpc.convert.plans import plan_message, quota_message, to_plan
from assay.server.rpc.convert.scalars import bounded, bounded_seconds, timestamp_message
from assay.server.rpc.convert.types import (
    pick_message,
    provenance_message,
    timing_messages,
    to_filter,
)
from assay.v1 import labeling_pb2

_WIRE_LEASE_STATES: Mapping[str, labeling_pb2.LeaseState.ValueType] = {
    "live": labeling_pb2.LEASE_STATE_LIVE,
    "done": labeling_pb2.LEASE_STATE_DONE,
    "expired": labeling_pb2.LEASE_STATE_EXPIRED,
}
# One for all: making an encoder takes as long as a line.
_encode = json.JSONEncoder(ensure_ascii=False).encode
DEFAULT_TTL_S = 900.0


def to_ttl(request: labeling_pb2.NextBatchRequest | labeling_pb2.RenewLeaseRequest) -> float:
    """Seconds that a lease lasts. Raises AssayError(INVALID_ARGUMENT) beyond the bounds."""
    return bounded_seconds(request.ttl, MIN_TTL, MAX_TTL, "ttl") if request.HasField("ttl") else DEFAULT_TTL_S


def to_batch_spec(request: labeling_pb2.NextBatchRequest) -> BatchSpec:
    """A batch to lease. Raises AssayError: INVALID_ARGUMENT beyond the bounds, or as to_plan."""
    return BatchSpec(
        worker=request.worker,
        size=bounded(request.size, 1, MAX_BATCH_PICKS, "size"),
        plan=to_plan(request.plan) if request.HasField("plan") else None,
        filter=to_filter(request.filter),
        ttl=to_ttl(request),
        seed=request.seed,
        payload=not request.omit_payload,
        predictions=bounded(request.predictions, 0, MAX_PREDICTIONS, "predictions"),
        released=request.include_released,
    )


def to_release_reason(request: labeling_pb2.ReleaseLeaseRequest) -> str:
    """Why samples are given back. Raises AssayError(TOO_LARGE)."""
    if len(request.reason.encode()) > MAX_REASON_BYTES:
        raise AssayError(Reason.TOO_LARGE, f"reason must be at most {MAX_REASON_BYTES:,} bytes.", field="reason")
    return request.reason


def lease_message(pool_id: str, view: LeaseView) -> labeling_pb2.Lease:
    """A lease for the wire."""
    record = view.record
    return labeling_pb2.Lease(
        name=names.lease_name(pool_id, record.lease_id),
        worker=record.worker,
        fencing_token=record.fencing_token,
        state=_WIRE_LEASE_STATES[record.state],
        create_time=timestamp_message(record.create_time),
        expire_time=timestamp_message(view.expire_time),
        sample_ids=view.sample_ids,
    )


def batch_message(pool_id: str, result: BatchResult) -> labeling_pb2.NextBatchResponse:
    """A leased batch for the wire."""
    return labeling_pb2.NextBatchResponse(
        lease=lease_message(pool_id, result.lease),
        picks=[pick_message(pool_id, pick) for pick in result.picks],
        plan=plan_message(result.plan),
        provenance=provenance_message(pool_id, result.provenance),
        timings=timing_messages(result.timings),
        quotas=[quota_message(view) for view in result.quotas],
    )


def json_lines(table: Table) -> Iterator[bytes]:
    """A table as JSON Lines, one object a row and one chunk a page; times in RFC 3339."""
    names = [column.name for column in table.columns]
    for page in table.pages:
        columns = zip(table.columns, zip(*page, strict=True), strict=True)
        cells = [_times(each) if column.form is Form.TIME else each for column, each in columns]
        yield "".join(f"{_encode(dict(zip(names, row, strict=True)))}\n" for row in zip(*cells, strict=True)).encode()


def _times(micros: Sequence[int]) -> list[str]:
    moments: list[str] = np.datetime_as_string(np.array(micros, np.int64).view("M8[us]"), unit="us").tolist()
    return [f"{moment}Z" for moment in moments]
