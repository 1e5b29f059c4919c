"""Predictions of samples as columns."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ObjectColumns:
    """Objects of N samples, those of one after those of the other.

    Attributes:
        offsets_O: int64; sample i has the objects offsets_O[i] to offsets_O[i + 1] - 1, which may be none.
        probs_PC: float32 probabilities of each class; what is missing to 1 is that of its being nothing at all.
        places_PX: where they are: float32 x, y, w, h of boxes, int64 start, end of spans.
    """

    offsets_O: npt.NDArray[np.int64]
    probs_PC: FloatArray
    places_PX: npt.NDArray[Any]

    def __len__(self) -> int:
        return len(self.offsets_O) - 1

    def taken(self, positions: Positions) -> "ObjectColumns":
        """The objects of some samples, in the order given."""
        counts = np.diff(self.offsets_O)[positions]
        offsets_O = _offsets(counts)
        picked = np.arange(offsets_O[-1]) + np.repeat(self.offsets_O[:-1][positions] - offsets_O[:-1], counts)
        return ObjectColumns(offsets_O, self.probs_PC[picked], self.places_PX[picked])


@dataclass(frozen=True, slots=True)
class PredictionColumns:
    """What a source says of N samples: values, or else objects.

    Attributes:
        values_NX: float32 probabilities by class id, or numbers by target.
        spread_NX: float32 standard deviations of the numbers, where the source knows them.
        objects: boxes or spans.
    """

    values_NX: FloatArray | None = None
    spread_NX: FloatArray | None = None
    objects: ObjectColumns | None = None

    def __len__(self) -> int:
        if self.objects is not None:
            return len(self.objects)
        return 0 if self.values_NX is None else len(self.values_NX)

    def taken(self, positions: Positions) -> "PredictionColumns":
        """Some samples of every column, in the order given."""
        return PredictionColumns(
            None if self.values_NX is None else self.values_NX[positions],
            None if self.spread_NX is None else self.spread_NX[positions],
            None if self.objects is None else self.objects.taken(positions),
        )


def joined(parts: list[PredictionColumns]) -> PredictionColumns:
    """Columns of one source one after the other. A part that knew fewer classes has 0 for the others; where some parts
    know the spread of their numbers, it is NaN in the others."""
    objects = [part.objects for part in parts if part.objects is not None]
    if objects:
        counts = np.concatenate([np.diff(each.offsets_O) for each in objects])
        return PredictionColumns(
            objects=ObjectColumns(
                _offsets(counts),
                _stacked([each.probs_PC for each in objects]),
                np.concatenate([each.places_PX for each in objects]),
            )
        )
    values = [part.values_NX for part in parts if part.values_NX is not None]
    spread = [part.spread_NX for part in parts]
    known = any(each is not None for each in spread)
    filled = [np.full_like(part, np.nan) if each is None else each for part, each in zip(values, spread, strict=True)]
    return PredictionColumns(_stacked(values), np.concatenate(filled) if known else None)


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def _stacked(parts: list[FloatArray]) -> FloatArray:
    width = max(part.shape[1] for part in parts)
    out = np.zeros((sum(map(len, parts)), width), np.float32)
    start = 0
    for part in parts:
        out[start : start + len(part), : part.shape[1]] = part
        start += len(part)
    return out
