"""The calls about labels that may be wrong, and about those who label."""

from collections.abc import Sequence

from google.longrunning import operations_proto_pb2 as operations_pb2

from assay.client import _operations, _replies, results
from assay.client._names import fresh_request_id, pool_name
from assay.client._pools import filter_message
from assay.client._values import number, whole
from assay.client._wire import Pages, Unary, pages, unary
from assay.client.filters import Filter
from assay.v1 import audits_pb2, methods

_KINDS = {
    "model": audits_pb2.SUSPECT_KIND_MODEL,
    "neighbors": audits_pb2.SUSPECT_KIND_NEIGHBORS,
    "annotators": audits_pb2.SUSPECT_KIND_ANNOTATORS,
    "duplicates": audits_pb2.SUSPECT_KIND_DUPLICATES,
}


def audit_pool(
    pool: str,
    kinds: Sequence[str] | None = None,
    *,
    where: Filter | None = None,
    neighbors: int = 10,
    duplicate_radius: float = 0.0,
    request_id: str | None = None,
) -> Unary[operations_pb2.Operation]:
    """Look for labels that are probably wrong. The operation's result is an AuditResult; `list_suspects` tells what was
    found, in place of what the audit before found.

    Args:
        pool: id or name.
        kinds: what contradicts a label: "model" (heads that did not see it), "neighbors" (the nearest labeled
            samples), "annotators" (among each other), "duplicates" (copies of the sample); None for all that the
            pool's task can serve.
        where: which samples.
        neighbors: that a label is compared with.
        duplicate_radius: distance (L2) up to which samples are copies of each other.
        request_id: repeats an earlier call.

    Raises:
        FailedPrecondition: a kind is asked for that the pool's task cannot serve.
    """
    request = audits_pb2.AuditPoolRequest(
        parent=pool_name(pool),
        kinds=[_kind(kind) for kind in kinds or ()],
        filter=filter_message(where),
        neighbors=whole(neighbors, "neighbors", 1, 1000),
        duplicate_radius=number(duplicate_radius, "duplicate_radius"),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.AUDIT_POOL, request, _operations.same)


def list_suspects(pool: str, kind: str | None = None, *, min_score: float = 0.0) -> Pages[results.Suspect]:
    """What the last audit found and nobody has spoken of since, the highest scores first, fetched page by page; of a
    kind, as `audit_pool` names them, and with scores from a minimum on, where these are given. A sample that was found
    in several ways is there once for each."""
    return pages(
        methods.LIST_SUSPECTS,
        audits_pb2.ListSuspectsRequest(
            parent=pool_name(pool),
            kind=audits_pb2.SUSPECT_KIND_UNSPECIFIED if kind is None else _kind(kind),
            min_score=number(min_score, "min_score"),
        ),
        lambda reply: map(_replies.suspect, reply.suspects),
    )


def _kind(kind: str) -> audits_pb2.SuspectKind.ValueType:
    if kind not in _KINDS:
        raise ValueError(f"{kind!r} contradicts no label; choose from {', '.join(_KINDS)}")
    return _KINDS[kind]


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
