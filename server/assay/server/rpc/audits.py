"""The Audits service."""

from google.longrunning import operations_pb2

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.auditing import AuditResult
from assay.server.core.labeling.judging import ResolveResult
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.audits import annotator_message, resolve_message
from assay.server.rpc.convert.operations import operation_message, packed
from assay.server.rpc.convert.scalars import finite
from assay.server.rpc.convert.suspects import audit_message, suspect_message, to_audit_spec, to_kind
from assay.v1 import audits_pb2

# The start of a list: before the first place, of whatever audit.
START = (-1.0, "")


class AuditsServicer(BaseServicer):
    """Translates between the wire and the core's judgement of labels and annotators."""

    def AuditPool(self, request: audits_pb2.AuditPoolRequest) -> operations_pb2.Operation:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("AuditPool", request, operation_message)
        self.core.audits.audit(pool_id, to_audit_spec(request), _audit_encoded, reply.key)
        return reply.message

    def ListSuspects(self, request: audits_pb2.ListSuspectsRequest) -> audits_pb2.ListSuspectsResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, START)
        after, audit = int(page.after[0]), page.after[1]
        minimum = finite(request.min_score, "min_score")
        found = self.core.audits.suspects(pool_id, to_kind(request.kind), minimum, after, page.fetch)
        if audit not in ("", str(found.audit_epoch)):
            raise AssayError(
                Reason.INVALID_PAGE_TOKEN, "The pool was audited again since the page before. Begin without a token."
            )
        messages, token = page.fill(
            found.suspects,
            lambda view: (float(view.place), str(found.audit_epoch)),
            suspect_message,
            self.reply_bytes,
        )
        return audits_pb2.ListSuspectsResponse(suspects=messages, next_page_token=token, audit_epoch=found.audit_epoch)

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


def _audit_encoded(result: AuditResult) -> bytes:
    """What an operation keeps of its result: a serialised Any."""
    return packed(audit_message(result)).SerializeToString()


def _encoded(result: ResolveResult) -> bytes:
    """What an operation keeps of its result: a serialised Any."""
    return packed(resolve_message(result)).SerializeToString()
