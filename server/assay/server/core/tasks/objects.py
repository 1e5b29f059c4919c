"""What boxes and spans have in common: any number of objects a sample, each with a class, which may be none at all."""

import math
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import Reason
from assay.server.core.limits import MAX_OBJECTS
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import (
    CommonTask,
    Consensus,
    PredictionForm,
    PredictionShape,
    Refused,
    Value,
)
from assay.server.core.tasks.classes import Classes
from assay.server.core.tasks.matching import Objects, clusters
from assay.server.core.tasks.voting import checked_weights, pairwise, side

H = TypeVar("H", bound=Hashable)


class ObjectTask(CommonTask):
    """A task whose value is a tuple of objects with a `class_id`, in one canonical order, none of them twice."""

    def __init__(self, record: TaskRecord) -> None:
        super().__init__(record)
        self.classes = Classes(record)

    @property
    def merges(self) -> npt.NDArray[np.int32] | None:
        return self.classes.merges

    @abstractmethod
    def arrays(self, objects: Sequence[Any]) -> Objects:
        """The objects as arrays."""

    @abstractmethod
    def mean(self, objects: Sequence[Any], weights: Sequence[float]) -> Any:
        """The object that several people mean, of which each drew one."""

    @abstractmethod
    def agreement(self, a: Value, b: Value) -> float: ...

    @abstractmethod
    def canonical(self, objects: Sequence[Any]) -> Value:
        """The objects as a value: in order, equal ones once."""

    @abstractmethod
    def moved(self, each: Any, class_id: int) -> Any:
        """The object with another class."""

    def class_of(self, name: str, place: str, retired: bool) -> int:
        """Id of the class of the object at a place. Raises Refused(UNKNOWN_CLASS | CLASS_RETIRED)."""
        try:
            return self.classes.id_of(name, retired)
        except Refused as refused:
            raise Refused(refused.reason, f"{place}: {refused.problem}", **refused.facts) from None

    @property
    def prediction_shape(self) -> PredictionShape:
        return PredictionShape(PredictionForm.OBJECTS, len(self.classes))

    def resolve(self, value: Value) -> Value:
        if not self.classes.merged:
            return value
        return self.canonical([self.moved(each, self.classes.root(each.class_id)) for each in value])

    def consensus(self, values: Sequence[Value], weights: Sequence[float] | None = None) -> Consensus:
        """The objects that more than half of the weight has drawn.

        Objects of one class are the same thing where they overlap by the task's `match_iou`, the largest overlaps
        first, one of each person at most. None if exactly half of the weight has drawn one of them, or if what most
        have drawn may not stand together.
        """
        counts = checked_weights(len(values), weights)
        total = math.fsum(counts)
        resolved = [self.resolve(value) for value in values]
        drawn = [each for value in resolved for each in value]
        owners = np.repeat(np.arange(len(resolved)), [len(value) for value in resolved])
        things = clusters(self.arrays(drawn), owners, self.record.options.match_iou) if drawn else []
        kept: list[Any] = []
        shares: list[float] = []
        tied = False
        for members in things:
            support = [counts[owners[i]] for i in members]
            decided, share = side(math.fsum(support), total)
            shares.append(share)
            tied = tied or decided is None
            if decided:
                kept.append(self.mean([drawn[i] for i in members], support))
        confidence = math.fsum(shares) / len(shares) if shares else 1.0
        value = self.canonical(kept)
        decided_all = not tied and self.may_stand(value)
        return Consensus(value if decided_all else None, confidence, pairwise(resolved, self.agreement))

    def may_stand(self, value: Value) -> bool:
        """Whether the task allows these objects beside each other."""
        return True


def name_in(cell: Mapping[str, Any]) -> str:
    """The class name of an object in an export. Raises KeyError or TypeError."""
    name = cell["class_name"]
    if not isinstance(name, str):
        raise TypeError("class_name is no text")
    return name


def check_count(count: int, what: str) -> None:
    """Raises Refused(TOO_LARGE) for more objects than a sample may have."""
    if count > MAX_OBJECTS:
        raise Refused(Reason.TOO_LARGE, f"it has {count:,} {what}; at most {MAX_OBJECTS:,} are kept of a sample.")


def check_distinct(objects: Sequence[H], places: Sequence[str]) -> None:
    """Raises Refused(INVALID_VALUE) for an object that occurs twice."""
    if len(set(objects)) == len(objects):
        return
    first: dict[H, str] = {}
    for each, place in zip(objects, places, strict=True):
        if each in first:
            raise Refused(Reason.INVALID_VALUE, f"{place} is the same as {first[each]}. Give it once.")
        first[each] = place
