"""Messages of audits.proto."""

from collections.abc import Sequence

from assay.server.core.labeling.judging import AnnotatorView, ResolveResult
from assay.server.rpc.convert.scalars import duration_message
from assay.v1 import audits_pb2

# Pairs of classes that a reply tells of an annotator: of many classes there would be no end.
MOST_CONFUSIONS = 1000


def annotator_message(class_names: Sequence[str], view: AnnotatorView) -> audits_pb2.Annotator:
    """A report on an annotator for the wire."""
    report = view.report
    return audits_pb2.Annotator(
        annotator=view.worker,
        annotations=report.annotations,
        median_duration=None if report.median_seconds is None else duration_message(report.median_seconds),
        compared=report.compared,
        agreement=report.agreement,
        skill=report.skill,
        confusion=[
            audits_pb2.Confusion(label=class_names[pair.settled], said=class_names[pair.said], count=pair.count)
            for pair in report.confusion[:MOST_CONFUSIONS]
        ],
    )


def resolve_message(result: ResolveResult) -> audits_pb2.ResolveLabelsResponse:
    """What resolving did, for the wire."""
    return audits_pb2.ResolveLabelsResponse(
        samples=result.samples,
        changed=result.changed,
        disputed=result.disputed,
        overtaken=result.overtaken,
        converged=result.converged,
        epoch=result.epoch,
    )
