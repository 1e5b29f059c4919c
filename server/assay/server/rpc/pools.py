"""The Pools service."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from google.protobuf import empty_pb2

from assay.server.core.errors import AssayError, Reason, RequestReplayed, SampleError
from assay.server.core.pools.messages import PoolView
from assay.server.core.records.samples import OnConflict
from assay.server.rpc.calls import BaseServicer, bind
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.pools import (
    add_message,
    delete_message,
    pool_message,
    search_message,
    to_batch,
    to_deleted_ids,
    to_on_conflict,
    to_pool_spec,
    to_pool_update,
    to_sample_update,
    to_search_spec,
    update_message,
)
from assay.server.rpc.convert.scalars import request_id
from assay.server.rpc.convert.types import sample_message, states, to_filter
from assay.server.rpc.current import Context, current_caller
from assay.server.rpc.errors import Annotated
from assay.server.rpc.remembering import small_pool
from assay.server.rpc.replies import Reply, digest
from assay.server.rpc.streams import Incoming
from assay.v1 import pools_pb2, types_pb2


@dataclass(frozen=True, slots=True)
class _Stream:
    """Header of an UploadSamples stream, checked."""

    pool_id: str
    on_conflict: OnConflict
    request_id: str
    header: pools_pb2.UploadSamplesHeader

    def reply(self, index: int, batch: pools_pb2.SampleBatch, most_bytes: int) -> Reply[pools_pb2.AddSamplesResponse]:
        """The reply to one batch, under the stream's id and the batch's place in it."""
        return Reply(
            "UploadSamples",
            f"{self.request_id}/{index}" if self.request_id else "",
            digest(self.header, batch) if self.request_id else "",
            add_message,
            most_bytes,
        )


@dataclass(slots=True)
class _Tally:
    """Sum of the replies to the batches of a stream."""

    stored: int = 0
    reply: pools_pb2.AddSamplesResponse = field(default_factory=pools_pb2.AddSamplesResponse)
    _timings: dict[str, types_pb2.StageTiming] = field(default_factory=dict)

    def add(self, part: pools_pb2.AddSamplesResponse) -> None:
        """Counts a stored batch."""
        self.stored += part.added + part.skipped + part.replaced
        self.reply.added += part.added
        self.reply.skipped += part.skipped
        self.reply.replaced += part.replaced
        self.reply.labels_dropped += part.labels_dropped
        self.reply.attributes_dropped += part.attributes_dropped
        self.reply.epoch = part.epoch
        for timing in part.timings:
            self._add_timing(timing)

    def _add_timing(self, timing: types_pb2.StageTiming) -> None:
        total = self._timings.get(timing.stage)
        if total is None:
            total = self._timings[timing.stage] = self.reply.timings.add(stage=timing.stage)
        micros = total.duration.ToMicroseconds() + timing.duration.ToMicroseconds()
        total.duration.FromMicroseconds(micros)


class PoolsServicer(BaseServicer):
    """Translates between the wire and the core's pools and samples."""

    def CreatePool(self, request: pools_pb2.CreatePoolRequest) -> pools_pb2.Pool:
        reply = self.reply("CreatePool", request, pool_message, small_pool)
        self.core.pools.create(to_pool_spec(request), reply.key)
        return reply.message

    def GetPool(self, request: pools_pb2.GetPoolRequest) -> pools_pb2.Pool:
        return pool_message(self.core.pools.get(names.parse_pool(request.name)))

    def UpdatePool(self, request: pools_pb2.UpdatePoolRequest) -> pools_pb2.Pool:
        pool_id = names.parse_pool(request.pool.name)
        reply = self.reply("UpdatePool", request, pool_message)
        self.core.updates.update(pool_id, to_pool_update(request), reply.key)
        return reply.message

    def ListPools(self, request: pools_pb2.ListPoolsRequest) -> pools_pb2.ListPoolsResponse:
        page = paging.page(request, "")
        found, caller = self.core.pools.list(page.after, page.fetch), current_caller()
        messages, token = page.fill(
            found, _pool_id, pool_message, self.reply_bytes, lambda view: caller.sees(view.record.pool_id)
        )
        return pools_pb2.ListPoolsResponse(pools=messages, next_page_token=token)

    def DeletePool(self, request: pools_pb2.DeletePoolRequest) -> empty_pb2.Empty:
        pool_id = names.parse_pool(request.name)
        reply = self.reply("DeletePool", request, lambda _: empty_pb2.Empty())
        self.core.pools.delete(pool_id, reply.key)
        return reply.message

    async def AddSamples(self, request: pools_pb2.AddSamplesRequest, context: Context) -> pools_pb2.AddSamplesResponse:
        with _blaming(request.batch.ids):
            try:
                return await self.run("ingest", lambda: self._add_now(request))
            except RequestReplayed as replay:
                return await self.again(replay, pools_pb2.AddSamplesResponse, request)

    def _add_now(self, request: pools_pb2.AddSamplesRequest) -> pools_pb2.AddSamplesResponse:
        pool_id, on_conflict = names.parse_pool(request.parent), to_on_conflict(request)
        reply = self.reply("AddSamples", request, add_message)
        self.core.samples.add(pool_id, to_batch(request.batch), on_conflict, reply.key)
        return reply.message

    async def UploadSamples(
        self, request_iterator: AsyncIterator[pools_pb2.UploadSamplesRequest], context: Context
    ) -> pools_pb2.AddSamplesResponse:
        tally, messages = _Tally(), Incoming(request_iterator)
        try:
            await self._store_all(messages, tally)
        except Exception as error:
            raise Annotated(error, stored=tally.stored) from error
        finally:
            messages.close()
        return tally.reply

    async def _store_all(self, messages: Incoming[pools_pb2.UploadSamplesRequest], tally: _Tally) -> None:
        """Stores batch after batch. The next one is received while one is being stored, and no further one."""
        stream = _opened(await self.gate.heard(messages.next()))
        index = first = 0
        while (message := await self.gate.heard(messages.next())) is not None:
            messages.read_ahead()
            batch = _batch(message)
            tally.add(await self._store(stream, index, first, batch))
            index, first = index + 1, first + len(batch.ids)
        if not index:
            view = await self.run("io", lambda: self.core.pools.get(stream.pool_id))
            tally.reply.epoch = view.record.epoch

    async def _store(
        self, stream: _Stream, index: int, first: int, batch: pools_pb2.SampleBatch
    ) -> pools_pb2.AddSamplesResponse:
        """Stores one batch of a stream; `first` samples came before it."""
        with _blaming(batch.ids, first):
            try:
                return await self.run("ingest", lambda: self._store_now(stream, index, batch))
            except RequestReplayed as replay:
                return await self.again(replay, pools_pb2.AddSamplesResponse, stream.header)

    def _store_now(self, stream: _Stream, index: int, batch: pools_pb2.SampleBatch) -> pools_pb2.AddSamplesResponse:
        reply = stream.reply(index, batch, self.reply_bytes)
        self.core.samples.add(stream.pool_id, to_batch(batch), stream.on_conflict, reply.key)
        return reply.message

    async def UpdateSamples(
        self, request: pools_pb2.UpdateSamplesRequest, context: Context
    ) -> pools_pb2.UpdateSamplesResponse:
        with _blaming(request.batch.ids):
            try:
                return await self.run("ingest", lambda: self._update_now(request))
            except RequestReplayed as replay:
                return await self.again(replay, pools_pb2.UpdateSamplesResponse, request)

    def _update_now(self, request: pools_pb2.UpdateSamplesRequest) -> pools_pb2.UpdateSamplesResponse:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("UpdateSamples", request, update_message)
        self.core.samples.update(pool_id, to_sample_update(request), reply.key)
        return reply.message

    def GetSample(self, request: pools_pb2.GetSampleRequest) -> types_pb2.Sample:
        pool_id, sample_id = names.parse_sample(request.name)
        return sample_message(pool_id, self.core.samples.get(pool_id, sample_id))

    def ListSamples(self, request: pools_pb2.ListSamplesRequest) -> pools_pb2.ListSamplesResponse:
        pool_id, page = names.parse_pool(request.parent), paging.page(request, -1)
        views, after_row = self.core.samples.list(
            pool_id,
            to_filter(request.filter),
            states(request.states),
            page.after,
            page.size,
            request.include_payload,
        )
        messages, token = page.fill(views, lambda view: view.row, bind(sample_message, pool_id), self.reply_bytes)
        if not token and after_row >= 0:
            token = page.token(after_row)
        return pools_pb2.ListSamplesResponse(samples=messages, next_page_token=token)

    def DeleteSamples(self, request: pools_pb2.DeleteSamplesRequest) -> pools_pb2.DeleteSamplesResponse:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("DeleteSamples", request, delete_message)
        self.core.samples.delete(pool_id, to_deleted_ids(request), request.allow_missing, reply.key)
        return reply.message

    def SearchSamples(self, request: pools_pb2.SearchSamplesRequest) -> pools_pb2.SearchSamplesResponse:
        pool_id = names.parse_pool(request.parent)
        return search_message(pool_id, self.core.samples.search(pool_id, to_search_spec(request)))


# What is wrong with every sample of a message alike: told of its first, for a caller of a stream does not see messages.
_OF_ALL_ROWS = frozenset({Reason.DIMENSION_MISMATCH, Reason.ATTRIBUTE_TYPE_MISMATCH})


@contextmanager
def _blaming(ids: Sequence[str], first: int = 0) -> Iterator[None]:
    """Names the sample that is to blame for what is raised, where one is; `first` samples came before these."""
    try:
        yield
    except SampleError as error:
        raise error.among(ids, first) from error
    except AssayError as error:
        if error.reason not in _OF_ALL_ROWS:
            raise
        raise SampleError(error.reason, 0, error.message, **error.metadata).among(ids, first) from error


def _pool_id(view: PoolView) -> str:
    return view.record.pool_id


def _opened(message: pools_pb2.UploadSamplesRequest | None) -> _Stream:
    if message is None or message.WhichOneof("kind") != "header":
        raise AssayError(Reason.INVALID_ARGUMENT, "An UploadSamples stream starts with its header.")
    header = pools_pb2.UploadSamplesHeader()
    header.CopyFrom(message.header)
    header.ClearField("request_id")
    return _Stream(
        pool_id=names.parse_pool(header.parent),
        on_conflict=to_on_conflict(header),
        request_id=request_id(message.header.request_id),
        header=header,
    )


def _batch(message: pools_pb2.UploadSamplesRequest) -> pools_pb2.SampleBatch:
    if message.WhichOneof("kind") != "batch":
        raise AssayError(Reason.INVALID_ARGUMENT, "After its header an UploadSamples stream has batches only.")
    return message.batch
