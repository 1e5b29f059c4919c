"""What an audit found: labels that are probably wrong, by what contradicts them."""

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np

from assay.server.core.records.annotations import ByteArray, ClassArray
from assay.server.core.records.arrays import FloatArray, RowArray


class SuspectKind(IntEnum):
    """What contradicts a label: predictions of models that did not see it, the labels of the nearest samples,
    annotators among each other, the labels of copies."""

    MODEL = 1
    NEIGHBORS = 2
    ANNOTATORS = 3
    DUPLICATES = 4


@dataclass(frozen=True, slots=True, eq=False)
class Rating:
    """What one more answer is worth (ActiveLab), where answers are classes.

    Attributes:
        rows_R: suspects and samples without a label that have answers, ascending.
        worth_R: of each, in [0, 1].
        model_weight, annotator_weight, temperature: what the model and an average annotator count for, and how
            predictions are softened: so the worth of first answers is on the same scale.
    """

    rows_R: RowArray
    worth_R: FloatArray
    model_weight: float = 1.0
    annotator_weight: float = 1.0
    temperature: float = 1.0


# As long as nobody was judged.
UNRATED = Rating(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, eq=False)
class SuspectRecord:
    """The outcome of one audit as the catalog keeps it, suspect by suspect; a row is there once for each kind that it
    was found by.

    Attributes:
        create_time: seconds since the Unix epoch.
        epoch: of the pool, which the audit led to.
        next_event: the first annotation event that came after it: who is spoken of since is no suspect any more.
        kinds_M: SuspectKind of each.
        rows_M: which sample.
        scores_M: how strongly the label is contradicted, in (0, 1].
        suggested_M: class id that is likelier, -1 where nothing suggests one.
        rating: what one more answer is worth.
    """

    create_time: float
    epoch: int
    next_event: int
    kinds_M: ByteArray
    rows_M: RowArray
    scores_M: FloatArray
    suggested_M: ClassArray
    rating: Rating = UNRATED

    def __len__(self) -> int:
        return len(self.rows_M)

    @cached_property
    def rows_S(self) -> RowArray:
        """The rows, ascending, each once."""
        return np.unique(self.rows_M)

    @cached_property
    def highest_S(self) -> FloatArray:
        """The highest score of each of `rows_S`."""
        highest_S = np.zeros(len(self.rows_S), np.float32)
        np.maximum.at(highest_S, np.searchsorted(self.rows_S, self.rows_M), self.scores_M)
        return highest_S
