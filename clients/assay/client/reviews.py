"""What reviewers decide of samples."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from assay.client._names import id_list
from assay.client._values import kind_of, shown
from assay.client.results import AnnotationEvent
from assay.client.values import Annotation, annotation_messages
from assay.v1 import annotations_pb2


class Verdict(Enum):
    """A decision without a value.

    RETRACT: the reviewer's own verdict is taken back. REJECT: all that stands of the sample is taken back; it is open
    again.
    """

    RETRACT = "retract"
    REJECT = "reject"


RETRACT = Verdict.RETRACT
REJECT = Verdict.REJECT


@dataclass(frozen=True, slots=True)
class Review:
    """What a reviewer decides of one sample.

    Attributes:
        decision: a value of the pool's task, an `AnnotationEvent` to accept, `RETRACT` or `REJECT`.
        comment: what the reviewer has to say of it, up to 4 KiB.
    """

    sample_id: Any
    decision: Any
    comment: str = ""


def review_messages(reviews: Mapping[Any, Any] | Iterable[Review]) -> list[annotations_pb2.Review]:
    """Decisions on the wire.

    Raises:
        TypeError, ValueError: an id or a value that is missing or of no task's type, by position and id.
    """
    given = [Review(*pair) for pair in reviews.items()] if isinstance(reviews, Mapping) else list(reviews)
    for place, each in enumerate(given):
        if not isinstance(each, Review):
            raise TypeError(f"reviews[{place}] is a Review, not {shown(each)}, {kind_of(each)}")
    ids = id_list([each.sample_id for each in given], "reviews")
    stated = [place for place, each in enumerate(given) if not isinstance(each.decision, AnnotationEvent | Verdict)]
    values = annotation_messages([Annotation(ids[place], given[place].decision) for place in stated])
    messages = [
        annotations_pb2.Review(sample_id=sample_id, comment=each.comment)
        for sample_id, each in zip(ids, given, strict=True)
    ]
    for place, value in zip(stated, values, strict=True):
        messages[place].value.CopyFrom(value.value)
    for message, each in zip(messages, given, strict=True):
        if isinstance(each.decision, AnnotationEvent):
            message.accept = each.decision.name
        elif isinstance(each.decision, Verdict):
            setattr(message, each.decision.value, True)
    return messages
