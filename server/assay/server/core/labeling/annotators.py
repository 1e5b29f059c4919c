"""What can be said of annotators: how much they did, how fast, and how far they agree with what was settled."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling.policies import Floats
from assay.server.core.labeling.weighing import Annotations, agreements_with, at
from assay.server.core.tasks.base import Column, Task


@dataclass(frozen=True, slots=True)
class Confused:
    """How often an annotator said a class of samples that were settled as another, or as the same."""

    settled: int
    said: int
    count: int


@dataclass(frozen=True, slots=True)
class Annotator:
    """What one annotator did.

    Attributes:
        annotations: of its that stand.
        median_seconds: it took for one; None where no duration is known.
        compared: how many of its samples are settled and were annotated by others too.
        agreement: mean agreement with the labels of those, in [0, 1]; None where there are none.
        skill: as estimated (`weighing.weigh`), in [0, 1]; None where it was not.
        confusion: of a classification, over those samples, the most frequent first; else empty.
    """

    annotations: int
    median_seconds: float | None
    compared: int
    agreement: float | None
    skill: float | None
    confusion: tuple[Confused, ...]


def annotators(
    task: Task,
    given: Annotations,
    labels: Column,
    seconds_A: Floats,
    skills_W: Floats | None = None,
) -> list[Annotator]:
    """A report on each annotator, in order of their numbers.

    Args:
        given: standing annotations.
        labels: column of the label of each sample, with none where it has no label.
        seconds_A: how long each annotation took; NaN where nobody said.
        skills_W: estimated skills; None where none were estimated, NaN for one of whom none could be.
    """
    similar_A = agreements_with(task, given, labels)
    compared_A = ~np.isnan(similar_A)
    counts_W = np.bincount(given.workers_A, minlength=given.workers)
    compared_W = np.bincount(given.workers_A[compared_A], minlength=given.workers)
    sums_W = np.bincount(given.workers_A[compared_A], similar_A[compared_A], given.workers)
    medians = _medians(given, seconds_A)
    confusions = _confusions(task, given, labels, compared_A)
    return [
        Annotator(
            int(counts_W[worker]),
            medians[worker],
            int(compared_W[worker]),
            float(sums_W[worker] / compared_W[worker]) if compared_W[worker] else None,
            None if skills_W is None or np.isnan(skills_W[worker]) else float(skills_W[worker]),
            confusions[worker],
        )
        for worker in range(given.workers)
    ]


def _medians(given: Annotations, seconds_A: Floats) -> list[float | None]:
    known = np.flatnonzero(~np.isnan(seconds_A))
    order = known[np.argsort(given.workers_A[known], kind="stable")]
    stops = np.searchsorted(given.workers_A[order], np.arange(1, given.workers + 1))
    parts = np.split(seconds_A[order], stops[:-1])
    return [float(np.median(part)) if len(part) else None for part in parts]


def _confusions(
    task: Task, given: Annotations, labels: Column, compared_A: npt.NDArray[np.bool_]
) -> list[tuple[Confused, ...]]:
    found: list[list[Confused]] = [[] for _ in range(given.workers)]
    places = np.flatnonzero(compared_A)
    pairs = task.confusions(at(given.values, places), at(labels, given.samples_A[places]))
    if pairs is not None:
        triples, counts = np.unique(np.stack([given.workers_A[places], *pairs]), axis=1, return_counts=True)
        for place in np.argsort(-counts, kind="stable").tolist():
            worker, settled, said = triples[:, place].tolist()
            found[worker].append(Confused(settled, said, int(counts[place])))
    return [tuple(each) for each in found]
