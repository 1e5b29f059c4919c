"""Intervals of measures on held-out samples, by drawing as many samples again with replacement (Efron, 1979).

A measure of counts needs no samples, only how often each was drawn; samples that count alike are drawn as one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core.tasks.base import ClassScores, Score
from assay.strategies.interrupt import checkpoint

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Numbers drawn in all, within the bounds on the number of draws, and in one block.
_BUDGET = 20_000_000
_LEAST, _MOST = 200, 1000
_BLOCK = 1 << 20
# Ends of the 95 % interval.
_TAILS = (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Grouping:
    """Which drawn units count for which group: entry i says that unit units_E[i] counts once for groups_E[i]."""

    units_E: Ints
    groups_E: Ints
    size: int


def draws(counts_M: Ints, seed: int, width: int = 0) -> Iterator[Ints]:
    """Blocks [B, M] of how often each unit is drawn, where unit m stands for counts_M[m] samples; 200 to 1000 rows in
    all, fewer the more units there are or, if greater, the `width` of what is made of a row."""
    total, size = int(counts_M.sum()), len(counts_M)
    width = max(size, width)
    left = min(_MOST, max(_LEAST, _BUDGET // max(1, width)))
    rng = np.random.default_rng(seed)
    while left > 0:
        checkpoint()
        block = min(left, max(1, _BLOCK // width))
        yield _drawn(rng, counts_M, total, block)
        left -= block


def _drawn(rng: np.random.Generator, counts_M: Ints, total: int, draws: int) -> Ints:
    """How often each unit is drawn [draws, M]."""
    if (counts_M != 1).any():
        return rng.multinomial(total, counts_M / total, size=draws)
    # Each unit is one sample: counting places that are drawn takes a tenth of the time of as many binomial numbers.
    places_B = rng.integers(total, size=(draws, total)) + total * np.arange(draws)[:, None]
    return np.bincount(places_B.ravel(), minlength=draws * total).reshape(draws, total)


def grouped(counts_M: Ints, groupings: Sequence[Grouping], seed: int) -> list[Floats]:
    """For each grouping the sums [1 + R, groups]: of the samples as they are in the first row, then of each draw."""
    width = max((max(len(each.units_E), each.size) for each in groupings), default=1)
    sums: list[list[Floats]] = [[] for _ in groupings]
    orders = [np.argsort(each.groups_E, kind="stable") for each in groupings]
    for drawn_BM in _with_itself(counts_M, draws(counts_M, seed, width)):
        for place, (each, order_E) in enumerate(zip(groupings, orders, strict=True)):
            sums[place].append(_group_sums(drawn_BM, each, order_E))
    return [np.concatenate(blocks) for blocks in sums]


def summed(stats_NK: Floats, seed: int) -> Floats:
    """Means [1 + R, K] of the columns: over the samples as they are in the first row, then over each draw."""
    counts_N = np.ones(len(stats_NK), np.int64)
    blocks = [drawn_BN @ stats_NK for drawn_BN in _with_itself(counts_N, draws(counts_N, seed, stats_NK.shape[1]))]
    means: Floats = np.concatenate(blocks) / len(stats_NK)
    return means


def score(values_R: Floats) -> Score | None:
    """The score of a measure from its value (first) and its values in the draws; None where it is undefined. Draws in
    which it is undefined are left out."""
    value = float(values_R[0])
    if not np.isfinite(value):
        return None
    drawn_R = values_R[1:]
    defined_R = drawn_R[np.isfinite(drawn_R)]
    if not len(defined_R):
        return Score(value, value, value)
    low, high = np.quantile(defined_R, _TAILS)
    return Score(value, float(low), float(high))


def ratio(top: npt.NDArray[Any], bottom: npt.NDArray[Any]) -> Floats:
    """top / bottom, NaN where bottom is 0."""
    quotient: Floats = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=quotient, where=np.broadcast_to(bottom != 0, quotient.shape))
    return quotient


def counted(
    names: Sequence[str], right_RC: Floats, predicted_RC: Floats, said_RC: Floats
) -> tuple[dict[str, Score | None], tuple[ClassScores, ...]]:
    """Precision, recall and F1 per class, and over all of them: from how often each class was right, predicted, said.

    macro_f1 is the mean over the classes that were said or predicted; micro_f1 counts all classes together.
    """
    f1_RC = ratio(2 * right_RC, predicted_RC + said_RC)
    per_class = {"precision": ratio(right_RC, predicted_RC), "recall": ratio(right_RC, said_RC), "f1": f1_RC}
    classes = tuple(
        ClassScores(name, int(said_RC[0, c]), {what: score(values[:, c]) for what, values in per_class.items()})
        for c, name in enumerate(names)
    )
    sums = [each.sum(axis=1) for each in (right_RC, predicted_RC, said_RC)]
    defined_RC = ~np.isnan(f1_RC)
    overall = {
        "macro_f1": score(ratio(np.nansum(f1_RC, axis=1), defined_RC.sum(axis=1))),
        "micro_f1": score(ratio(2 * sums[0], sums[1] + sums[2])),
    }
    return overall, classes


def _with_itself(counts_M: Ints, blocks: Iterator[Ints]) -> Iterator[Ints]:
    yield counts_M[None, :]
    yield from blocks


def _group_sums(drawn_BM: Ints, grouping: Grouping, order_E: Ints) -> Floats:
    sums_BG = np.zeros((len(drawn_BM), grouping.size))
    if len(order_E):
        groups_E = grouping.groups_E[order_E]
        starts = np.flatnonzero(np.diff(groups_E, prepend=-1))
        sums_BG[:, groups_E[starts]] = np.add.reduceat(drawn_BM[:, grouping.units_E[order_E]], starts, axis=1)
    return sums_BG
