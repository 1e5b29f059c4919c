"""The calls about those who label."""

from google.longrunning import operations_proto_pb2 as operations_pb2

from assay.client import _operations, _replies, results
from assay.client._names import fresh_request_id, pool_name
from assay.client._wire import Pages, Unary, pages, unary
from assay.v1 import audits_pb2, methods


def list_annotators(pool: str) -> Pages[results.Annotator]:
    """What each annotator did, by name, fetched page by page.

    Skills are estimated together with the labels over the samples that several annotated, so a pool that asks one
    annotation of each sample has none.
    """
    return pages(
        methods.LIST_ANNOTATORS,
        audits_pb2.ListAnnotatorsRequest(parent=pool_name(pool)),
        lambda reply: map(_replies.annotator, reply.annotators),
    )


def resolve_labels(pool: str, *, request_id: str | None = None) -> Unary[operations_pb2.Operation]:
    """Derive the labels of a pool anew whose policy is "weighted", everybody counted by estimated skill. The
    operation's result is a ResolveResult.

    What is said from then on counts alike until the next time, also on a sample that was resolved.

    Raises:
        InvalidArgument: the pool's policy is another one; its labels follow at once from what is said.
    """
    request = audits_pb2.ResolveLabelsRequest(parent=pool_name(pool), request_id=fresh_request_id(request_id))
    return unary(methods.RESOLVE_LABELS, request, _operations.same)
