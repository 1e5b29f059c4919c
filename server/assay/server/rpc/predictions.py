"""The Predictions service."""

from google.protobuf import empty_pb2

from assay.server.core.errors import RequestReplayed, SampleError
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.predictions import source_message, to_prediction_update, updated_message
from assay.server.rpc.current import Context
from assay.v1 import predictions_pb2


class PredictionsServicer(BaseServicer):
    """Translates between the wire and the core's named sources of predictions."""

    async def UpdatePredictions(
        self, request: predictions_pb2.UpdatePredictionsRequest, context: Context
    ) -> predictions_pb2.UpdatePredictionsResponse:
        try:
            return await self.run("ingest", lambda: self._update_now(request))
        except RequestReplayed as replay:
            return await self.again(replay, predictions_pb2.UpdatePredictionsResponse, request)
        except SampleError as error:
            raise error.among(request.sample_ids) from error

    def _update_now(
        self, request: predictions_pb2.UpdatePredictionsRequest
    ) -> predictions_pb2.UpdatePredictionsResponse:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("UpdatePredictions", request, updated_message)
        self.core.sources.update(pool_id, to_prediction_update(request), reply.key)
        return reply.message

    def ListPredictionSources(
        self, request: predictions_pb2.ListPredictionSourcesRequest
    ) -> predictions_pb2.ListPredictionSourcesResponse:
        pool_id, page = names.parse_pool(request.parent), paging.page(request, "")
        task = self.core.pools.get(pool_id).record.task
        messages, token = page.fill(
            [view for view in self.core.sources.list(pool_id) if view.name > page.after],
            lambda view: view.name,
            lambda view: source_message(
                pool_id, view, task, self.core.measures.of(pool_id, view.name) if request.include_metrics else {}
            ),
            self.reply_bytes,
        )
        return predictions_pb2.ListPredictionSourcesResponse(prediction_sources=messages, next_page_token=token)

    def DeletePredictionSource(self, request: predictions_pb2.DeletePredictionSourceRequest) -> empty_pb2.Empty:
        pool_id, source = names.parse_source(request.name)
        reply = self.reply("DeletePredictionSource", request, lambda _: empty_pb2.Empty())
        self.core.sources.delete(pool_id, source, reply.key)
        return reply.message
