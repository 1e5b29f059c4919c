"""What a model is worth on samples that it was not trained on."""

from collections.abc import Mapping
from dataclasses import dataclass, field

# Pairs of classes that a confusion keeps: all of 64 classes.
MOST_CONFUSIONS = 4096


@dataclass(frozen=True, slots=True)
class Score:
    """A measure, with its 95 % interval (percentile bootstrap over the samples); None where there is no interval."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ClassScores:
    """What a model is worth for one class, or for one number of a regression.

    Attributes:
        id: of the class, or the place of the number.
        samples: how many samples, or objects, have the class; of a number, all.
        scores: measure by name; None where it is undefined, such as the precision of a class that is never predicted.
    """

    id: int
    samples: int
    scores: Mapping[str, Score | None]


@dataclass(frozen=True, slots=True)
class HeadMetrics:
    """What a head is worth on samples that it was not trained on.

    Attributes:
        samples: how many there are.
        scores: measure by name, such as "accuracy" and "log_loss" (nats); without samples there are none.
        classes: the same per class that occurs or was predicted, by id, or per number.
        confusion: of one class a sample: (id of the class that people said, id of the one that was predicted, number of
            samples), most samples first; no more than MOST_CONFUSIONS.
    """

    samples: int
    scores: Mapping[str, Score | None] = field(default_factory=dict)
    classes: tuple[ClassScores, ...] = ()
    confusion: tuple[tuple[int, int, int], ...] = ()

    def value(self, name: str) -> float | None:
        """A measure by name; None where it could not be taken, never 0."""
        score = self.scores.get(name)
        return None if score is None else score.value


NO_METRICS = HeadMetrics(0)
