"""Messages of audits.proto that are about labels."""

from collections.abc import Mapping

from assay.server.core.labeling.auditing import AuditResult, AuditSpec, SuspectView
from assay.server.core.records.suspects import SuspectKind
from assay.server.rpc.convert.scalars import choice, finite
from assay.server.rpc.convert.types import to_filter
from assay.v1 import audits_pb2

_KINDS: Mapping[audits_pb2.SuspectKind.ValueType, SuspectKind] = {
    audits_pb2.SUSPECT_KIND_MODEL: SuspectKind.MODEL,
    audits_pb2.SUSPECT_KIND_NEIGHBORS: SuspectKind.NEIGHBORS,
    audits_pb2.SUSPECT_KIND_ANNOTATORS: SuspectKind.ANNOTATORS,
    audits_pb2.SUSPECT_KIND_DUPLICATES: SuspectKind.DUPLICATES,
}
_WORDS = {kind: value for value, kind in _KINDS.items()}
_GIVEN: Mapping[int, SuspectKind] = {int(value): kind for value, kind in _KINDS.items()}
_OPTIONAL: Mapping[int, SuspectKind | None] = {audits_pb2.SUSPECT_KIND_UNSPECIFIED: None, **_GIVEN}


def to_kind(value: int) -> SuspectKind | None:
    """A kind; None where it is not given. Raises AssayError(INVALID_ARGUMENT)."""
    return choice(_OPTIONAL, value, "kind")


def to_audit_spec(request: audits_pb2.AuditPoolRequest) -> AuditSpec:
    """What a request wants to have audited. Raises AssayError(INVALID_ARGUMENT | INVALID_FILTER)."""
    return AuditSpec(
        kinds=tuple(choice(_GIVEN, value, "kinds") for value in request.kinds),
        filter=to_filter(request.filter),
        neighbors=request.neighbors if request.HasField("neighbors") else AuditSpec().neighbors,
        radius=finite(request.duplicate_radius, "duplicate_radius"),
    )


def audit_message(result: AuditResult) -> audits_pb2.AuditPoolResponse:
    """What an audit found, for the wire."""
    return audits_pb2.AuditPoolResponse(
        kinds=[
            audits_pb2.KindFindings(
                kind=_WORDS[each.kind],
                samples=each.samples,
                found=each.found,
                kept=each.kept,
                left_out=each.left_out,
            )
            for each in result.kinds
        ],
        suspects=result.suspects,
        epoch=result.epoch,
    )


def suspect_message(view: SuspectView) -> audits_pb2.Suspect:
    """A suspect for the wire."""
    return audits_pb2.Suspect(
        sample_id=view.sample_id,
        kind=_WORDS[view.kind],
        score=view.score,
        label=view.label,
        suggested=view.suggested,
    )
