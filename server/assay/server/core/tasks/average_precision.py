"""Average precision of predicted boxes, as COCO defines it (Lin et al., "Microsoft COCO", ECCV 2014; its own code).

Within a sample the predictions of a class are taken by falling score, and each is right if a box of its class that was
drawn, and that no prediction before it got, overlaps it by an IoU of 0.5 or more; it gets the one that overlaps most.
Over all samples, again by falling score, precision is made to fall with recall, and averaged over the recalls 0, 0.01,
... 1. Where we differ: all predictions of a sample count, not 100 of them, and one without a score counts as certain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.tasks.base import Box, ClassScores, TaskMetrics
from assay.server.core.tasks.matching import Objects, overlapping
from assay.server.core.tasks.resampling import Floats, Ints, draws, score
from assay.strategies.interrupt import checkpoint

LEAST_IOU = 0.5
_RECALLS = np.linspace(0, 1, 101)
# A draw costs about as much as drawing so many numbers for each prediction.
_COST = 10


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The predictions of a class over all samples by falling score: of which sample, and whether right; and how many
    boxes of the class were drawn in each sample."""

    samples_D: Ints
    right_D: npt.NDArray[np.bool_]
    drawn_N: Ints


def average_precision(
    names: Sequence[str],
    said: Sequence[Sequence[Box]],
    predicted: Sequence[Sequence[Box]],
    arrays: Callable[[Sequence[Box]], Objects],
    seed: int,
) -> TaskMetrics:
    """map_50 over the classes that were drawn, and average_precision of each; None where none was drawn."""
    if not said:
        return TaskMetrics(0, {"map_50": None})
    ranked = _rankings(said, predicted, arrays)
    precisions_RC = _precisions(list(ranked.values()), len(said), seed)
    classes = tuple(
        ClassScores(names[class_id], int(each.drawn_N.sum()), {"average_precision": score(precisions_RC[:, c])})
        for c, (class_id, each) in enumerate(ranked.items())
    )
    defined_RC = ~np.isnan(precisions_RC)
    sums_R, counts_R = np.nansum(precisions_RC, axis=1), defined_RC.sum(axis=1)
    means_R = np.divide(sums_R, counts_R, out=np.full(len(sums_R), np.nan), where=counts_R > 0)
    return TaskMetrics(len(said), {"map_50": score(means_R)}, classes)


def _rankings(
    said: Sequence[Sequence[Box]], predicted: Sequence[Sequence[Box]], arrays: Callable[[Sequence[Box]], Objects]
) -> dict[int, _Ranked]:
    """By class id, ascending, of each class that was drawn or predicted."""
    guesses: dict[int, list[tuple[float, int, bool]]] = {}
    drawn: dict[int, Ints] = {}
    for sample, (boxes, guessed) in enumerate(zip(said, predicted, strict=True)):
        checkpoint()
        for box in boxes:
            drawn.setdefault(box.class_id, np.zeros(len(said), np.int64))[sample] += 1
        falling = sorted(guessed, key=lambda box: -_certainty(box))
        for box, right in zip(falling, _right(arrays(boxes), arrays(falling)), strict=True):
            guesses.setdefault(box.class_id, []).append((_certainty(box), sample, right))
    none = np.zeros(len(said), np.int64)
    return {
        class_id: _ranked(guesses.get(class_id, []), drawn.get(class_id, none))
        for class_id in sorted(guesses.keys() | drawn.keys())
    }


def _ranked(guesses: list[tuple[float, int, bool]], drawn_N: Ints) -> _Ranked:
    falling = sorted(guesses, key=lambda guess: -guess[0])  # stable, so equals stay in the order of their samples
    samples_D = np.array([sample for _, sample, _ in falling], np.int64)
    return _Ranked(samples_D, np.array([right for _, _, right in falling], np.bool_), drawn_N)


def _right(drawn: Objects, guessed: Objects) -> list[bool]:
    """Whether each prediction, in order of falling score, gets a box."""
    right = [False] * len(guessed.classes_N)
    taken: set[int] = set()
    pairs = overlapping(guessed, drawn, LEAST_IOU)
    # Stable: of each prediction the largest overlap stays first.
    order = np.argsort(pairs.first, kind="stable")
    for guess, box in zip(pairs.first[order].tolist(), pairs.second[order].tolist(), strict=True):
        if not right[guess] and box not in taken:
            right[guess] = True
            taken.add(box)
    return right


def _precisions(ranked: Sequence[_Ranked], samples: int, seed: int) -> Floats:
    """Average precision [1 + R, C] of each class, over the samples as they are and over each draw of them."""
    counts_N = np.ones(samples, np.int64)
    width = _COST * sum(len(each.samples_D) for each in ranked)
    blocks = [_block(ranked, counts_N[None, :])]
    blocks += [_block(ranked, drawn_BN) for drawn_BN in draws(counts_N, seed, width)]
    return np.concatenate(blocks)


def _block(ranked: Sequence[_Ranked], counts_BN: Ints) -> Floats:
    precisions_BC = np.full((len(counts_BN), len(ranked)), np.nan)
    for c, each in enumerate(ranked):
        for b, counts_N in enumerate(counts_BN):
            checkpoint()
            precisions_BC[b, c] = _interpolated(each, counts_N)
    return precisions_BC


def _interpolated(ranked: _Ranked, counts_N: Ints) -> Any:
    """Average precision of a class where sample n was drawn counts_N[n] times; NaN where no box was drawn."""
    total = int(counts_N @ ranked.drawn_N)
    if not total:
        return np.nan
    weights_D = counts_N[ranked.samples_D]
    right_D = np.cumsum(weights_D * ranked.right_D)
    precision_D = right_D / np.maximum(np.cumsum(weights_D), 1)
    falling_D = np.maximum.accumulate(precision_D[::-1])[::-1]
    places = np.searchsorted(right_D / total, _RECALLS, side="left")
    return np.append(falling_D, 0.0)[places].mean()


def _certainty(box: Box) -> float:
    return 1.0 if box.score is None else box.score
