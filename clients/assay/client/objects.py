"""Boxes and spans that a model predicts.

>>> PredictedObjects.of(
...     [[Box("ant", 0.1, 0.1, 0.2, 0.3, score=0.8)], []],  # one box in the first image, none in the second
...     classes=["ant", "bee"],
... )
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np

from assay.client._arrays import float_rows, matrix
from assay.client._values import Place, texts
from assay.client.values import Box
from assay.v1 import predictions_pb2 as pb


@dataclass(frozen=True, slots=True)
class PredictedObjects:
    """Objects of several samples as arrays, those of one sample after those of the other.

    Attributes:
        offsets: one more than there are samples: sample i has the objects offsets[i] to offsets[i + 1] - 1.
        probabilities: a row per object, a column per class; what is missing to 1 is that of its being nothing at all.
        boxes: x, y, width, height of each, as shares of the image's width and height; None of spans.
        spans: start and end of each, in characters; None of boxes.
        classes: names of the columns; () is all classes of the pool by id, retired ones too.
    """

    offsets: Any
    probabilities: Any
    boxes: Any = None
    spans: Any = None
    classes: Sequence[str] = ()

    @classmethod
    def of(
        cls, samples: Iterable[Iterable[Box | tuple[Sequence[float], Mapping[str, float]]]], classes: Iterable[Any]
    ) -> "PredictedObjects":
        """The objects of each sample: a `Box` with the score of its class, or (place, probability by class), where four
        numbers place a box and two a span. At least one sample has an object, which tells boxes from spans.

        Raises:
            ValueError: a class that is not among `classes`; a box without a score; boxes and spans together, or
                neither.
        """
        held = [[_plain(each) for each in sample] for sample in samples]
        names = texts(classes, Place("classes"))
        found = [each for sample in held for each in sample]
        widths = {len(place) for place, _ in found}
        if len(widths) != 1 or not widths <= {2, 4}:
            raise ValueError("every object has four numbers for a box, or every one two for a span")
        column = {name: place for place, name in enumerate(names)}
        probabilities = np.zeros((len(found), len(names)), np.float32)
        for row, (_, shares) in enumerate(found):
            for name, share in shares.items():
                if name not in column:
                    raise ValueError(f"object {row} is of class {name!r}, which is not among classes")
                probabilities[row, column[name]] = share
        places = np.array([place for place, _ in found])
        boxes = widths == {4}
        return cls(
            list(accumulate(map(len, held), initial=0)),
            probabilities,
            places if boxes else None,
            None if boxes else places,
            names,
        )

    def message(self, samples: int) -> pb.PredictedObjects:
        """The message of the objects of so many samples. Raises ValueError where arrays do not fit each other."""
        if (self.boxes is None) == (self.spans is None):
            raise ValueError("objects have boxes or spans, and not both")
        offsets = np.asarray(self.offsets)
        if offsets.shape != (samples + 1,) or offsets.dtype.kind not in "iu":
            raise ValueError(
                f"offsets are {samples + 1} whole numbers for {samples} ids, not {offsets.dtype} of shape "
                f"{offsets.shape}"
            )
        made = pb.PredictedObjects(
            offsets=offsets.tolist(), probabilities=matrix(float_rows(self.probabilities, "probabilities"))
        )
        if self.boxes is not None:
            made.boxes.CopyFrom(matrix(float_rows(self.boxes, "boxes")))
        else:
            spans = np.asarray(self.spans)
            if spans.ndim != 2 or spans.shape[1] != 2 or spans.dtype.kind not in "iu":
                raise ValueError(f"spans are whole numbers, start and end of each, not {spans.dtype} of {spans.shape}")
            made.spans.CopyFrom(pb.PredictedSpans(starts=spans[:, 0].tolist(), ends=spans[:, 1].tolist()))
        return made


def _plain(each: "Box | tuple[Sequence[float], Mapping[str, float]]") -> tuple[Sequence[float], Mapping[str, float]]:
    if not isinstance(each, Box):
        return each
    if each.score is None:
        raise ValueError(f"the box of class {each.class_name!r} has no score: say how sure the model is, from 0 to 1")
    return (each.x, each.y, each.width, each.height), {each.class_name: each.score}
