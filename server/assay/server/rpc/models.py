"""The Models service."""

import asyncio
from collections.abc import AsyncIterator, Callable

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from assay.server.core.errors import AssayError, RequestReplayed
from assay.server.core.models.messages import ModelView
from assay.server.core.models.uploading import BackboneUpload
from assay.server.core.records.models import NEWEST
from assay.server.core.records.requests import RequestKey
from assay.server.rpc.calls import BaseServicer, bind
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.models import (
    model_message,
    predict_message,
    to_kind_filter,
    to_model_kind,
    to_predict_spec,
    to_train_spec,
    to_upload_spec,
)
from assay.server.rpc.convert.operations import operation_message, packed
from assay.server.rpc.current import Context, current_call
from assay.server.rpc.execution import Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.streams import Incoming
from assay.server.rpc.upload import Arrival, Pace, Slots
from assay.v1 import models_pb2


class ModelsServicer(BaseServicer):
    """Translates between the wire and the core's models."""

    def __init__(self, gate: Gate, executors: Executors) -> None:
        super().__init__(gate, executors)
        self._uploads = Slots()

    async def UploadBackbone(
        self, request_iterator: AsyncIterator[models_pb2.UploadBackboneRequest], context: Context
    ) -> models_pb2.Model:
        messages = Incoming(request_iterator)
        try:
            with self._uploads.slot():
                arrival = Arrival(messages, Pace(), self.gate)
                header = await arrival.header()
                reply = self.reply("UploadBackbone", header, bind(model_message, names.parse_pool(header.parent)))
                upload = await self.run("io", lambda: self._receive(header, reply.key))
                try:
                    await arrival.chunks(lambda chunk: self.run("io", lambda: upload.write(chunk), bounded=False))
                    await self.run("upload", upload.finish)
                except BaseException:
                    await self._abandon(upload)
                    raise
            return reply.message
        except RequestReplayed as replay:
            return await self.again(replay, models_pb2.Model, header)
        finally:
            messages.close()

    def _receive(self, header: models_pb2.UploadBackboneHeader, key: RequestKey) -> BackboneUpload:
        return self.core.models.receive(names.parse_pool(header.parent), to_upload_spec(header), key)

    async def _abandon(self, upload: BackboneUpload) -> None:
        """Drops what arrived, though the call itself is over."""
        try:
            await asyncio.shield(self.executors.io.run(upload.abandon, pool=current_call().pool, bounded=False))
        except AssayError:  # the server closes
            upload.abandon()

    def GetModel(self, request: models_pb2.GetModelRequest) -> models_pb2.Model:
        pool_id, model_id = names.parse_model(request.name)
        return model_message(pool_id, self.core.models.get(pool_id, model_id))

    def ListModels(self, request: models_pb2.ListModelsRequest) -> models_pb2.ListModelsResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, NEWEST)
        found = self.core.models.list(pool_id, to_kind_filter(request.kind), page.after, page.fetch)
        messages, token = page.fill(
            found,
            lambda view: view.record.number,
            lambda view: model_message(pool_id, view, detailed=False),
            self.reply_bytes,
        )
        return models_pb2.ListModelsResponse(models=messages, next_page_token=token)

    def DeleteModel(self, request: models_pb2.DeleteModelRequest) -> empty_pb2.Empty:
        pool_id, model_id = names.parse_model(request.name)
        reply = self.reply("DeleteModel", request, lambda _: empty_pb2.Empty())
        self.core.models.delete(pool_id, model_id, reply.key)
        return reply.message

    def ActivateModel(self, request: models_pb2.ActivateModelRequest) -> operations_pb2.Operation:
        pool_id, model_id = names.parse_model(request.name)
        reply = self.reply("ActivateModel", request, operation_message)
        self.core.models.activate(pool_id, model_id, reply.key, _result_encoder(pool_id))
        return reply.message

    def RollbackModel(self, request: models_pb2.RollbackModelRequest) -> operations_pb2.Operation:
        pool_id = names.parse_pool(request.parent)
        kind = to_model_kind(request.kind)
        reply = self.reply("RollbackModel", request, operation_message)
        self.core.models.rollback(pool_id, kind, reply.key, _result_encoder(pool_id))
        return reply.message

    def TrainHead(self, request: models_pb2.TrainHeadRequest) -> operations_pb2.Operation:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("TrainHead", request, operation_message)
        self.core.models.train(pool_id, to_train_spec(request), reply.key, _result_encoder(pool_id))
        return reply.message

    def Predict(self, request: models_pb2.PredictRequest) -> models_pb2.PredictResponse:
        pool_id = names.parse_pool(request.pool)
        return predict_message(pool_id, self.core.models.predict(pool_id, to_predict_spec(pool_id, request)))


def _result_encoder(pool_id: str) -> Callable[[ModelView], bytes]:
    """What an operation keeps of the model that it ends with: a serialised Any."""
    return lambda view: packed(model_message(pool_id, view)).SerializeToString()
