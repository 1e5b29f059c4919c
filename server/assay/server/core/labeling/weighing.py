"""The policy `weighted`: labels and skills of a whole pool, estimated together from who agrees with whom."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from assay.server.core.labeling.crowd import Model, Opinions, dawid_skene, glad
from assay.server.core.labeling.policies import Floats, Ints, tally, vote_weights
from assay.server.core.tasks.base import Ballot, Column, Task, Value
from assay.server.core.tasks.voting import pairwise
from assay.strategies.interrupt import checkpoint

# A probability that is above a half by less is a half.
_ROUNDING = 1e-9
# Rounds of consensus and skill for tasks whose values are no classes.
_ROUNDS = 10


class CrowdModel(StrEnum):
    """DAWID_SKENE: each worker has a table of errors. GLAD: each worker an ability, each sample an ease."""

    DAWID_SKENE = "dawid_skene"
    GLAD = "glad"


_MODELS: dict[CrowdModel, Model] = {CrowdModel.DAWID_SKENE: dawid_skene, CrowdModel.GLAD: glad}


@dataclass(frozen=True, slots=True)
class Annotations:
    """Standing annotations of a pool: annotation a is that of workers_A[a] on samples_A[a], each pair once.

    Attributes:
        samples_A, workers_A: int64, counted from 0.
        values: column of what was said.
        samples, workers: how many there are; each sample has an annotation.
    """

    samples_A: Ints
    workers_A: Ints
    values: Column
    samples: int
    workers: int


@dataclass(frozen=True, slots=True)
class Weighed:
    """What a pool's annotations say, everybody counted by skill.

    Attributes:
        values: column of the labels, with none where a sample is disputed.
        settled_N: whether there is one: its confidence is above a half and its own.
        confidence_N: of the likeliest label.
        agreement_N: of the annotations of each sample with each other, as said.
        skills_W: probability that a worker answers right, the mean over the ballots; for tasks without ballots its mean
            agreement with the labels, or with the others where there is none. NaN where nothing can be said.
        converged: whether more iterations would change next to nothing.
    """

    values: Column
    settled_N: npt.NDArray[np.bool_]
    confidence_N: Floats
    agreement_N: Floats
    skills_W: Floats
    converged: bool


def weigh(task: Task, annotations: Annotations, model: CrowdModel = CrowdModel.DAWID_SKENE) -> Weighed:
    """Labels and skills of a pool.

    A classification is one model over all its classes; a multilabel task is one for each class that somebody named,
    with yes and no as its answers (binary relevance). The other tasks have no answers to model: consensus by skill,
    and skill as agreement with the consensus (with the others, where they are undecided), take turns until no label
    changes, 10 times at most.

    Raises:
        AssayError: TOO_LARGE, see `crowd.dawid_skene`.
        Interrupted: the work is to stop.
    """
    ballots = task.ballots(annotations.values)
    if ballots is None:
        return _in_turns(task, annotations)
    polls = _Polls(annotations, _MODELS[model])
    values = task.elected(map(polls.answers, ballots), annotations.samples)
    settled_N = polls.settled_N
    if isinstance(values, np.ndarray):
        labels: Column = np.where(settled_N, values, -1).astype(np.int32)
    else:
        labels = [value if settled else None for value, settled in zip(values, settled_N.tolist(), strict=True)]
    agreement_N = _agreements(task, annotations)
    return Weighed(labels, settled_N, polls.confidence_N(), agreement_N, polls.skills_W(), polls.converged)


class _Polls:
    """Asks a model for the answers of one ballot after the other, and keeps how sure they are."""

    def __init__(self, given: Annotations, model: Model) -> None:
        self._given, self._model = given, model
        self._asked = 0
        self._confidence_N, self._skills_W = np.zeros(given.samples), np.zeros(given.workers)
        self.settled_N = np.ones(given.samples, np.bool_)
        self.converged = True

    def answers(self, ballot: Ballot) -> Ints:
        """The likeliest answer of each sample."""
        checkpoint()
        given, choices = self._given, len(ballot.answers)
        beliefs = self._model(
            Opinions(given.samples_A, given.workers_A, ballot.codes_N, given.samples, given.workers, choices)
        )
        self._asked += 1
        self._confidence_N += beliefs.confidence_N
        self._skills_W += beliefs.skills_W
        self.settled_N &= beliefs.confidence_N > 0.5 + _ROUNDING
        self.converged = self.converged and beliefs.converged
        answers_N: Ints = ballot.answers[beliefs.classes_N]
        return answers_N

    def confidence_N(self) -> Floats:
        """Mean over the ballots; 1 where there was none to ask."""
        return self._confidence_N / self._asked if self._asked else np.ones_like(self._confidence_N)

    def skills_W(self) -> Floats:
        """Mean over the ballots; NaN where there was none to ask."""
        return self._skills_W / self._asked if self._asked else np.full_like(self._skills_W, np.nan)


def _in_turns(task: Task, given: Annotations) -> Weighed:
    skills_W: Floats = np.full(given.workers, np.nan)
    labels: list[Value | None] = []
    confidence_N, converged = np.empty(given.samples), False
    members = _members(given)
    for _ in range(_ROUNDS):
        before, labels = labels, []
        skills = {str(worker): skill for worker, skill in enumerate(skills_W.tolist()) if math.isfinite(skill)}
        for sample, places in enumerate(members):
            checkpoint()
            workers = [str(given.workers_A[place]) for place in places]
            consensus = task.consensus([given.values[place] for place in places], vote_weights(task, workers, skills))
            labels.append(consensus.value)
            confidence_N[sample] = consensus.confidence
        if labels == before:
            converged = True
            break
        skills_W = _skills(task, given, labels)
    settled_N = np.array([label is not None for label in labels], np.bool_)
    return Weighed(labels, settled_N, confidence_N, _agreements(task, given), skills_W, converged)


def _members(given: Annotations) -> list[list[int]]:
    """Places of the annotations of each sample."""
    members: list[list[int]] = [[] for _ in range(given.samples)]
    for place, sample in enumerate(given.samples_A.tolist()):
        members[sample].append(place)
    return members


def _agreements(task: Task, given: Annotations) -> Floats:
    """Of the annotations of each sample with each other."""
    if isinstance(given.values, np.ndarray):
        ids_A = task.targets(given.values)
        assert ids_A is not None  # a column of class ids has targets
        order = np.argsort(given.samples_A, kind="stable")
        offsets_O = np.searchsorted(given.samples_A[order], np.arange(given.samples + 1))
        return tally(offsets_O, ids_A[order]).agreement_N
    resolved = [task.resolve(value) for value in given.values]
    return np.array([pairwise([resolved[place] for place in places], task.agreement) for places in _members(given)])


def _skills(task: Task, given: Annotations, labels: Sequence[Value | None]) -> Floats:
    """Mean agreement of each worker on the samples that others annotated too: with the label, or with the others."""
    similar_A = agreements_with(task, given, labels)
    for places in _members(given):
        if len(places) > 1 and labels[given.samples_A[places[0]]] is None:
            checkpoint()
            similar_A[places] = _with_others(task, [given.values[place] for place in places])
    known_A = ~np.isnan(similar_A)
    sums_W = np.bincount(given.workers_A[known_A], similar_A[known_A], given.workers)
    counts_W = np.bincount(given.workers_A[known_A], minlength=given.workers)
    skills_W: Floats = np.divide(sums_W, counts_W, out=np.full(given.workers, np.nan), where=counts_W > 0)
    return skills_W


def _with_others(task: Task, values: Sequence[Value]) -> Floats:
    """Mean agreement of each of two or more values with the others."""
    similar = [[task.agreement(a, b) for b in values] for a in values]
    agreements_N: Floats = (np.sum(similar, axis=1) - 1) / (len(values) - 1)
    return agreements_N


def agreements_with(task: Task, given: Annotations, labels: Column) -> Floats:
    """float64 [A]: agreement of each annotation with the label of its sample; NaN where it has none, or where nobody
    else annotated it: who is alone agrees with himself."""
    shared_A = (np.bincount(given.samples_A, minlength=given.samples) > 1)[given.samples_A]
    similar_A = task.agreements(given.values, at(labels, given.samples_A))
    similar_A[~shared_A] = np.nan
    return similar_A


def at(column: Column, places: Ints) -> Column:
    """The entries of a column at these places."""
    return column[places] if isinstance(column, np.ndarray) else [column[place] for place in places.tolist()]
