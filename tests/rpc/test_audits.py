"""Audits on the wire: pages of one audit, the metadata of its operation, and a batch that draws from it."""

import grpc
import pytest

from assay.v1 import annotations_pb2, audits_pb2, labeling_pb2, types_pb2
from tests.rpc.stubs import CLASSES, POOL, failure, said

COUNT = 12


@pytest.fixture
async def audited(stubs):
    """A pool in which all samples count as copies of each other, so that each contradicts some."""
    await stubs.create_pool()
    await stubs.fill(COUNT)
    labels = {f"s{number}": CLASSES[number % 3] for number in range(COUNT)}
    await stubs.annotations.Annotate(
        annotations_pb2.AnnotateRequest(parent=POOL, worker="ann", annotations=said(labels))
    )
    operation = await audit(stubs)
    response, metadata = audits_pb2.AuditPoolResponse(), audits_pb2.AuditPoolMetadata()
    assert operation.response.Unpack(response)
    assert operation.metadata.Unpack(metadata)
    assert (response.suspects, response.kinds[0].found, metadata.pool) == (COUNT, COUNT, POOL)
    return stubs


async def audit(stubs):
    request = audits_pb2.AuditPoolRequest(
        parent=POOL, kinds=[audits_pb2.SUSPECT_KIND_DUPLICATES], duplicate_radius=1000.0
    )
    return await stubs.done(await stubs.audits.AuditPool(request))


async def test_pages_are_of_one_audit(audited):
    request = audits_pb2.ListSuspectsRequest(parent=POOL, page_size=5)
    found, first = [], ""
    while True:
        page = await audited.audits.ListSuspects(request)
        found += [suspect.sample_id for suspect in page.suspects]
        request.page_token = page.next_page_token
        first = first or page.next_page_token
        if not page.next_page_token:
            break
    assert sorted(found) == sorted(f"s{number}" for number in range(COUNT))
    assert page.suspects[0].label in CLASSES
    await audit(audited)
    request.page_token = first
    code, reason, _, _ = await failure(audited.audits.ListSuspects(request))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_PAGE_TOKEN")


async def test_a_batch_draws_from_it_and_says_by_what(audited):
    plan = types_pb2.Plan(draw_from=types_pb2.DRAW_FROM_SUSPECTS)
    request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=3, plan=plan)
    code, reason, _, _ = await failure(audited.labeling.NextBatch(request))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "POOL_EXHAUSTED"), "it answered all of them"
    request.worker, request.request_id = "bob", "once"
    batch = await audited.labeling.NextBatch(request)
    assert (batch.plan.preset, batch.plan.draw_from) == ("worth", types_pb2.DRAW_FROM_SUSPECTS)
    assert {pick.sample.state for pick in batch.picks} == {types_pb2.SAMPLE_STATE_LABELED}
    assert await audited.labeling.NextBatch(request) == batch, "asked again, to the byte"
    labels = {pick.sample.id: CLASSES[0] for pick in batch.picks}
    lease = {"lease": batch.lease.name, "fencing_token": batch.lease.fencing_token}
    await audited.annotations.Annotate(
        annotations_pb2.AnnotateRequest(parent=POOL, worker="bob", annotations=said(labels), **lease)
    )
    left = await audited.audits.ListSuspects(audits_pb2.ListSuspectsRequest(parent=POOL))
    assert len(left.suspects) == COUNT - 3


@pytest.mark.parametrize(
    "wrong", [{"kinds": [9]}, {"neighbors": 0}, {"duplicate_radius": -1.0}, {"duplicate_radius": float("nan")}]
)
async def test_what_makes_no_sense_is_refused(stubs, wrong):
    await stubs.create_pool()
    code, _, _, _ = await failure(stubs.audits.AuditPool(audits_pb2.AuditPoolRequest(parent=POOL, **wrong)))
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    nan = audits_pb2.ListSuspectsRequest(parent=POOL, min_score=float("nan"))
    code, reason, _, _ = await failure(stubs.audits.ListSuspects(nan))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE")
