"""From what stands to labels: the pool's policy over many samples."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling.policies import Outcome, Standing, decide, decide_classes
from assay.server.core.labeling.standing import Told
from assay.server.core.records.annotations import NO_CLASS, Blobs, EventKind, Policy, Values
from assay.server.core.records.arrays import FloatArray, MaskArray
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.classification import Classification


@dataclass(frozen=True, slots=True, eq=False)
class Derived:
    """Labels, class -1 or no bytes where there is none; agreement and confidence where they were computed."""

    labels: Values
    agreements_N: FloatArray | None = None
    confidences_N: FloatArray | None = None


def derive(task: Task, policy: Policy, events: Told, wanted_N: npt.NDArray[np.uint8]) -> Derived:
    """Labels of samples.

    Args:
        task: the pool's.
        policy: the pool's.
        events: what stands, by sample, the oldest first.
        wanted_N: answers that are wanted of each sample.
    """
    verdicts = (events.kinds_A == EventKind.VERDICT).any()
    if isinstance(task, Classification) and not verdicts and policy is not Policy.WEIGHTED:
        assert not isinstance(events.values, Blobs)
        found = decide_classes(policy, task, events.offsets(len(wanted_N)), events.values, wanted_N)
        return Derived(found.labels_N, found.agreement_N, found.confidence_N)
    samples = zip(_each(task, events, len(wanted_N)), wanted_N.tolist(), strict=True)
    decisions = [decide(policy, task, one, wanted) for one, wanted in samples]
    labels = [one.value if one.outcome is Outcome.SETTLED else None for one in decisions]
    return Derived(
        _encoded(task, labels),
        np.array([one.agreement for one in decisions], np.float32),
        np.array([one.confidence for one in decisions], np.float32),
    )


def _each(task: Task, events: Told, samples: int) -> list[list[Standing]]:
    """What stands of each sample, the oldest first, as values."""
    if isinstance(events.values, Blobs):
        values = [task.decode(value) for value in events.values.at(np.arange(len(events))) if value is not None]
    else:
        values = events.values.tolist()
    found: list[list[Standing]] = [[] for _ in range(samples)]
    columns = (events.chains_A, events.workers_A, events.kinds_A == EventKind.VERDICT)
    for chain, worker, verdict, value in zip(*(column.tolist() for column in columns), values, strict=True):
        found[chain].append(Standing(events.names[worker], value, len(found[chain]), verdict))
    return found


def _encoded(task: Task, labels: list[object | None]) -> Values:
    if isinstance(task, Classification):
        return np.array([NO_CLASS if label is None else label for label in labels], np.int32)
    return Blobs.of([None if label is None else task.encode(label) for label in labels])


def resolved(task: Task, values: Values) -> Values:
    """Values with every merged class replaced by what it is counted as."""
    if all(each.merged_into is None for each in task.record.classes):
        return values
    if isinstance(values, Blobs):
        said = values.at(np.arange(len(values)))
        return Blobs.of([None if one is None else task.encode(task.resolve(task.decode(one))) for one in said])
    assert isinstance(task, Classification)
    return np.where(values < 0, values, task.classes.roots_C[values]).astype(np.int32)


def unsettled(values: Values, which_N: MaskArray) -> Values:
    """Values without some of them."""
    if not which_N.any():
        return values
    if isinstance(values, Blobs):
        said = values.at(np.arange(len(values)))
        return Blobs.of([None if open_ else one for one, open_ in zip(said, which_N.tolist(), strict=True)])
    return np.where(which_N, np.int32(NO_CLASS), values)
