"""The Audits service."""

from google.longrunning import operations_pb2

from assay.server.core.labeling.judging import ResolveResult
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.audits import annotator_message, resolve_message
from assay.server.rpc.convert.operations import operation_message, packed
from assay.v1 import audits_pb2


class AuditsServicer(BaseServicer):
    """Translates between the wire and the core's judgement of annotators."""

    def ResolveLabels(self, request: audits_pb2.ResolveLabelsRequest) -> operations_pb2.Operation:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("ResolveLabels", request, operation_message)
        self.core.judging.resolve(pool_id, _encoded, reply.key)
        return reply.message

    def ListAnnotators(self, request: audits_pb2.ListAnnotatorsRequest) -> audits_pb2.ListAnnotatorsResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, "")
        found = self.core.judging.annotators(pool_id)
        messages, token = page.fill(
            [view for view in found.annotators if view.worker > page.after],
            lambda view: view.worker,
            lambda view: annotator_message(found.class_names, view),
            self.reply_bytes,
        )
        return audits_pb2.ListAnnotatorsResponse(annotators=messages, next_page_token=token)


def _encoded(result: ResolveResult) -> bytes:
    """What an operation keeps of its result: a serialised Any."""
    return packed(resolve_message(result)).SerializeToString()
