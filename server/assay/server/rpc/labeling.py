"""The Labeling service."""

from collections.abc import Callable, Generator, Iterator, Mapping
from functools import partial

from assay.server.core.errors import AssayError, Reason, RequestReplayed
from assay.server.core.labeling.exporting import Table
from assay.server.core.labeling.messages import Attempt
from assay.server.rpc.calls import BaseServicer, ExecutorName, bind
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.labeling import (
    batch_message,
    json_lines,
    lease_message,
    to_batch_spec,
    to_release_reason,
    to_ttl,
)
from assay.server.rpc.convert.scalars import choice
from assay.server.rpc.current import Context, current_caller
from assay.server.rpc.execution import Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.remembering import lease_rows, small_batch, small_lease, whole_batch
from assay.v1 import labeling_pb2
from assay.v1.method import Role

# Writes a table as a file, in pieces.
Export = Callable[[Table], Iterator[bytes]]

_ATTEMPTS: tuple[tuple[Attempt, ExecutorName], ...] = (
    (Attempt.QUICK, "batch"),
    (Attempt.BESIDE, "compute"),
    (Attempt.IN_TURN, "batch"),
)


def _shown(lease: labeling_pb2.Lease) -> labeling_pb2.Lease:
    """A lease as its caller may see it: who may not label has no use for the fencing token of somebody who does."""
    if not current_caller().may(Role.LABEL):
        lease.ClearField("fencing_token")
    return lease


class LabelingServicer(BaseServicer):
    """Translates between the wire and the core's labeling. `parquet` writes labels as a Parquet file, in chunks."""

    def __init__(self, gate: Gate, executors: Executors, parquet: Export) -> None:
        super().__init__(gate, executors)
        self._exports: Mapping[int, Export] = {
            labeling_pb2.EXPORT_FORMAT_UNSPECIFIED: json_lines,
            labeling_pb2.EXPORT_FORMAT_JSON_LINES: json_lines,
            labeling_pb2.EXPORT_FORMAT_PARQUET: parquet,
        }

    async def NextBatch(
        self, request: labeling_pb2.NextBatchRequest, context: Context
    ) -> labeling_pb2.NextBatchResponse:
        try:
            return await self._next_batch(request)
        except RequestReplayed as replay:
            return await self.again(replay, labeling_pb2.NextBatchResponse, request, whole_batch)

    async def _next_batch(self, request: labeling_pb2.NextBatchRequest) -> labeling_pb2.NextBatchResponse:
        # Batches of a pool take turns, as long as they are quick; a longer one only if it lost to another.
        for attempt, executor in _ATTEMPTS:
            reply = await self.run(executor, partial(self._attempt_batch, request, attempt))
            if reply is not None:
                return reply
        raise AssertionError("the last attempt gives a batch or raises")

    def _attempt_batch(
        self, request: labeling_pb2.NextBatchRequest, attempt: Attempt
    ) -> labeling_pb2.NextBatchResponse | None:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("NextBatch", request, bind(batch_message, pool_id), small_batch)
        result = self.core.labeling.attempt_batch(pool_id, to_batch_spec(request), reply.key, attempt)
        return None if result is None else reply.message

    def GetLease(self, request: labeling_pb2.GetLeaseRequest) -> labeling_pb2.Lease:
        pool_id, lease_id = names.parse_lease(request.name)
        return _shown(lease_message(pool_id, self.core.labeling.lease(pool_id, lease_id)))

    def ListLeases(self, request: labeling_pb2.ListLeasesRequest) -> labeling_pb2.ListLeasesResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, 0)
        found = self.core.labeling.leases(pool_id, request.worker, page.after, page.fetch)
        messages, token = page.fill(
            found,
            lambda view: view.record.fencing_token,
            lambda view: _shown(lease_message(pool_id, view)),
            self.reply_bytes,
        )
        return labeling_pb2.ListLeasesResponse(leases=messages, next_page_token=token)

    def RenewLease(self, request: labeling_pb2.RenewLeaseRequest) -> labeling_pb2.Lease:
        pool_id, lease_id = names.parse_lease(request.name)
        reply = self.reply("RenewLease", request, bind(lease_message, pool_id), small_lease, lease_rows)
        self.core.labeling.renew(pool_id, lease_id, request.fencing_token, to_ttl(request), reply.key)
        return reply.message

    def ReleaseLease(self, request: labeling_pb2.ReleaseLeaseRequest) -> labeling_pb2.Lease:
        pool_id, lease_id = names.parse_lease(request.name)
        reply = self.reply("ReleaseLease", request, bind(lease_message, pool_id), small_lease, lease_rows)
        self.core.labeling.release(
            pool_id,
            lease_id,
            request.fencing_token,
            list(request.sample_ids),
            to_release_reason(request),
            request.exclude,
            reply.key,
            offer_again=request.offer_again,
        )
        return reply.message

    def ExportLabels(
        self, request: labeling_pb2.ExportLabelsRequest
    ) -> Generator[labeling_pb2.ExportLabelsResponse, None, None]:
        pool_id = names.parse_pool(request.parent)
        if request.format == labeling_pb2.EXPORT_FORMAT_COCO:
            yield from self._coco(pool_id, history=request.history)
            return
        export = choice(self._exports, request.format, "format")
        table = self.core.annotations.export(pool_id, history=request.history)
        yield labeling_pb2.ExportLabelsResponse(columns=[column.name for column in table.columns])
        for chunk in export(table):
            yield labeling_pb2.ExportLabelsResponse(chunk=chunk)

    def _coco(self, pool_id: str, *, history: bool) -> Generator[labeling_pb2.ExportLabelsResponse, None, None]:
        if history:
            raise AssayError(
                Reason.INVALID_ARGUMENT,
                "COCO has labels only. Export the history as JSON Lines or Parquet.",
                field="history",
            )
        for text in self.core.annotations.export_coco(pool_id):
            yield labeling_pb2.ExportLabelsResponse(chunk=text.encode())
