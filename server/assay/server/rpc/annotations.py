"""The Annotations service."""

from assay.server.core.labeling.lists import LABELED
from assay.server.core.labeling.messages import Deed
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.annotations import (
    annotate_message,
    annotation_message,
    label_message,
    review_message,
    skip_message,
    state_change_message,
    to_after_event,
    to_annotate_spec,
    to_event_query,
    to_review_spec,
    to_skip_spec,
    to_state_spec,
    to_undo_spec,
    to_withdraw_spec,
    undo_message,
    withdraw_message,
)
from assay.server.rpc.convert.types import states
from assay.server.rpc.current import current_caller
from assay.v1 import annotations_pb2
from assay.v1.method import Role


def permit(deeds: set[Deed]) -> None:
    """Raises EdgeError(ROLE_NEEDED) where the caller may not undo what it may not do."""
    if Deed.VERDICT in deeds:
        current_caller().need(Role.MINE, "undoing a verdict")
    if Deed.OTHERS in deeds:
        current_caller().need(Role.ADMIN, "undoing what was done to others' annotations")


class AnnotationsServicer(BaseServicer):
    """Translates between the wire and the core's annotations."""

    def Annotate(self, request: annotations_pb2.AnnotateRequest) -> annotations_pb2.AnnotateResponse:
        if request.on_behalf_of:
            current_caller().need(Role.ADMIN, "on_behalf_of")
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("Annotate", request, annotate_message)
        self.core.annotations.annotate(pool_id, to_annotate_spec(pool_id, request), reply.key)
        return reply.message

    def SkipSamples(self, request: annotations_pb2.SkipSamplesRequest) -> annotations_pb2.SkipSamplesResponse:
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("SkipSamples", request, skip_message)
        self.core.annotations.skip(pool_id, to_skip_spec(pool_id, request), reply.key)
        return reply.message

    def WithdrawAnnotations(
        self, request: annotations_pb2.WithdrawAnnotationsRequest
    ) -> annotations_pb2.WithdrawAnnotationsResponse:
        if request.annotator not in ("", request.worker):
            current_caller().need(Role.ADMIN, "annotator")
        reply = self.reply("WithdrawAnnotations", request, withdraw_message)
        self.core.annotations.withdraw(names.parse_pool(request.parent), to_withdraw_spec(request), reply.key)
        return reply.message

    def SetSampleState(self, request: annotations_pb2.SetSampleStateRequest) -> annotations_pb2.SetSampleStateResponse:
        if request.action == annotations_pb2.STATE_ACTION_REOPEN:
            current_caller().need(Role.ADMIN, "action STATE_ACTION_REOPEN")
        reply = self.reply("SetSampleState", request, state_change_message)
        self.core.annotations.set_state(names.parse_pool(request.parent), to_state_spec(request), reply.key)
        return reply.message

    def ReviewSamples(self, request: annotations_pb2.ReviewSamplesRequest) -> annotations_pb2.ReviewSamplesResponse:
        if any(each.reject for each in request.reviews):
            current_caller().need(Role.ADMIN, "reject")
        pool_id = names.parse_pool(request.parent)
        reply = self.reply("ReviewSamples", request, review_message)
        self.core.annotations.review(pool_id, to_review_spec(pool_id, request), reply.key)
        return reply.message

    def UndoLastAction(self, request: annotations_pb2.UndoLastActionRequest) -> annotations_pb2.UndoLastActionResponse:
        reply = self.reply("UndoLastAction", request, undo_message)
        spec = to_undo_spec(request, permit)
        self.core.annotations.undo(names.parse_pool(request.parent), spec, reply.key)
        return reply.message

    def ListAnnotations(
        self, request: annotations_pb2.ListAnnotationsRequest
    ) -> annotations_pb2.ListAnnotationsResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, to_after_event(request))
        found = self.core.annotations.events(pool_id, to_event_query(request), page.after, page.fetch)
        messages, token = page.fill(
            found.events,
            lambda view: view.number,
            lambda view: annotation_message(pool_id, view),
            self.reply_bytes,
        )
        if not token and found.read is not None:
            token = page.token(found.read)
        return annotations_pb2.ListAnnotationsResponse(annotations=messages, next_page_token=token)

    def ListLabels(self, request: annotations_pb2.ListLabelsRequest) -> annotations_pb2.ListLabelsResponse:
        pool_id = names.parse_pool(request.parent)
        page = paging.page(request, -1)
        found = self.core.annotations.labels(
            pool_id,
            request.worker,
            request.class_name,
            page.after,
            page.fetch,
            states(request.states) or LABELED,
        )
        messages, token = page.fill(
            found, lambda view: view.row, lambda view: label_message(pool_id, view), self.reply_bytes
        )
        return annotations_pb2.ListLabelsResponse(labels=messages, next_page_token=token)
