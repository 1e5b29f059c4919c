"""What is true, and who is to be believed, from what several annotators said of the same samples: two models of them.

Both are fitted by expectation and maximisation from majority votes on, look at the stop between iterations, and keep
to arrays: no object per opinion. Their definitions are those of crowd-kit, whose results they repeat.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.strategies.interrupt import checkpoint

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MAX_ITERATIONS = 100
# Done when an iteration adds less to the log-likelihood of an opinion.
TOLERANCE = 1e-5
# Numbers in a block of samples times classes, and in the table of errors: 8 MB and 1 GB.
_BLOCK = 1 << 20
_TABLE = 1 << 27
# Least probability that the first model gives to anything.
_LEAST = 1e-10
# Newton's steps within one maximisation of the second model, and the longest of them.
_STEPS = 5
_STRETCH = 1.0


@dataclass(frozen=True, slots=True)
class Opinions:
    """Who said which class of which sample; opinion a is that of workers_A[a] on samples_A[a].

    Attributes:
        samples_A, workers_A, classes_A: int64, counted from 0; a sample has at most one opinion of each worker.
        samples, workers, classes: how many of each there are; every sample has an opinion.
    """

    samples_A: Ints
    workers_A: Ints
    classes_A: Ints
    samples: int
    workers: int
    classes: int


@dataclass(frozen=True, slots=True)
class Beliefs:
    """What a model makes of opinions.

    Attributes:
        classes_N: the likeliest class of each sample; of equally likely ones the lowest.
        confidence_N: its probability.
        skills_W: probability that a worker says the true class: of any sample (Dawid-Skene), or of one of average
            difficulty (GLAD).
        iterations: how many were made.
        converged: whether the last one changed next to nothing.
    """

    classes_N: Ints
    confidence_N: Floats
    skills_W: Floats
    iterations: int
    converged: bool


Model = Callable[[Opinions], Beliefs]


def dawid_skene(opinions: Opinions, iterations: int = MAX_ITERATIONS, tolerance: float = TOLERANCE) -> Beliefs:
    """Every worker has a table of what it says of each true class (Dawid and Skene, 1979).

    Operations O(iterations A C), memory O(N + A) and for each pair of a worker and a class that it said C numbers.
    Reference: crowd-kit's DawidSkene, equal after as many iterations; it stops by another bound.

    Raises:
        AssayError: TOO_LARGE: so many workers said so many classes that the tables do not fit.
        Interrupted: the work is to stop.
    """
    if not opinions.samples:
        return Beliefs(np.empty(0, np.int64), np.empty(0), np.full(opinions.workers, np.nan), 0, True)
    fit = _Tables(opinions)
    before, done, converged = -np.inf, 0, False
    while done < iterations and not converged:
        likelihood = fit.step()
        done += 1
        converged = likelihood - before < tolerance * len(opinions.samples_A)
        before = likelihood
    return Beliefs(fit.classes_N, fit.confidence_N, fit.skills_W(), done, converged)


class _Tables:
    """The state of the first model: priors of the classes and errors[said of a worker, true class]."""

    def __init__(self, opinions: Opinions) -> None:
        order = np.argsort(opinions.samples_A, kind="stable")
        self._samples_A = opinions.samples_A[order]
        self._classes_A = opinions.classes_A[order]
        said_A = opinions.workers_A[order] * opinions.classes + self._classes_A
        # One row for each class that a worker ever said; what nobody said has no probability worth keeping.
        self._said_P, self._said_A = np.unique(said_A, return_inverse=True)
        self._workers_P, self._said_class_P = np.divmod(self._said_P, opinions.classes)
        self._samples, self._classes, self._workers = opinions.samples, opinions.classes, opinions.workers
        if len(self._said_P) * opinions.classes > _TABLE:
            raise AssayError(
                Reason.TOO_LARGE,
                f"Dawid-Skene would need {len(self._said_P) * opinions.classes:,} numbers for the errors of "
                f"{opinions.workers:,} annotators over {opinions.classes:,} classes, and {_TABLE:,} fit. Use GLAD, "
                "with one number for each annotator.",
            )
        self._starts_N = np.searchsorted(self._samples_A, np.arange(opinions.samples + 1))
        self.classes_N = np.zeros(opinions.samples, np.int64)
        self.confidence_N = np.zeros(opinions.samples)
        self._priors_C, self._errors_PC = self._fitted(self._votes)

    def step(self) -> float:
        """One expectation and maximisation; returns the log-likelihood of the parameters before it."""
        self._likelihood = 0.0
        priors_C = np.log(np.maximum(self._priors_C, _LEAST))
        errors_PC = np.log(self._errors_PC)
        self._priors_C, self._errors_PC = self._fitted(lambda *block: self._expected(priors_C, errors_PC, *block))
        return self._likelihood

    def skills_W(self) -> Floats:
        """How often each worker is right, over the classes as they occur; NaN for one who said nothing."""
        own_P = self._errors_PC[np.arange(len(self._said_P)), self._said_class_P]
        right_P = own_P * self._priors_C[self._said_class_P]
        skills_W: Floats = np.bincount(self._workers_P, right_P, self._workers).astype(np.float64)
        skills_W[np.bincount(self._workers_P, minlength=self._workers) == 0] = np.nan
        return skills_W

    def _fitted(self, truth: Callable[[int, int], Floats]) -> tuple[Floats, Floats]:
        """Priors and errors, where truth(start, stop) says the probabilities [B, C] of the classes of samples."""
        sums_C = np.zeros(self._classes)
        counts_PC = np.zeros((len(self._said_P), self._classes))
        size = max(1, _BLOCK // self._classes)
        for start in range(0, self._samples, size):
            checkpoint()
            stop = min(start + size, self._samples)
            probs_BC = truth(start, stop)
            sums_C += probs_BC.sum(axis=0)
            first, last = self._starts_N[start], self._starts_N[stop]
            _add_rows(counts_PC, self._said_A[first:last], probs_BC[self._samples_A[first:last] - start])
        counts_PC = np.maximum(counts_PC, _LEAST)
        totals_WC = np.zeros((self._workers, self._classes))
        _add_rows(totals_WC, self._workers_P, counts_PC)
        return sums_C / self._samples, counts_PC / totals_WC[self._workers_P]

    def _votes(self, start: int, stop: int) -> Floats:
        first, last = self._starts_N[start], self._starts_N[stop]
        cells = (self._samples_A[first:last] - start) * self._classes + self._classes_A[first:last]
        votes_BC = np.bincount(cells, minlength=(stop - start) * self._classes).reshape(-1, self._classes)
        shares_BC: Floats = votes_BC / votes_BC.sum(axis=1, keepdims=True)
        return shares_BC

    def _expected(self, priors_C: Floats, errors_PC: Floats, start: int, stop: int) -> Floats:
        first, last = self._starts_N[start], self._starts_N[stop]
        logs_BC = np.add.reduceat(errors_PC[self._said_A[first:last]], self._starts_N[start:stop] - first, axis=0)
        logs_BC += priors_C
        highest_B = logs_BC.max(axis=1, keepdims=True)
        probs_BC: Floats = np.exp(logs_BC - highest_B)
        sums_B = probs_BC.sum(axis=1, keepdims=True)
        self._likelihood += float((highest_B + np.log(sums_B)).sum())
        probs_BC /= sums_B
        self.classes_N[start:stop] = probs_BC.argmax(axis=1)
        self.confidence_N[start:stop] = probs_BC.max(axis=1)
        return probs_BC


def _add_rows(sums_PC: Floats, rows_E: Ints, values_EC: Floats) -> None:
    """sums_PC[rows_E] += values_EC, for rows that repeat."""
    if not len(rows_E):
        return
    order = np.argsort(rows_E, kind="stable")
    starts = np.flatnonzero(np.diff(rows_E[order], prepend=-1))
    sums_PC[rows_E[order][starts]] += np.add.reduceat(values_EC[order], starts, axis=0)


def glad(opinions: Opinions, iterations: int = MAX_ITERATIONS, tolerance: float = TOLERANCE) -> Beliefs:
    """Every worker has an ability a, every sample an ease e > 0, and who is wrong says any other class alike.

    A worker is right with probability 1 / (1 + exp(-a e)) (Whitehill et al., "Whose vote should count more",
    NIPS 2009).

    a and ln e have normal priors with mean and variance 1, classes are equally likely before. Operations
    O(iterations A), memory O(N + A), whatever the number of classes. Reference: crowd-kit's GLAD, which maximises by
    another method and less far: labels and order of the workers agree, their numbers nearly.

    Raises:
        Interrupted: the work is to stop.
    """
    if not opinions.samples:
        return Beliefs(np.empty(0, np.int64), np.empty(0), np.full(opinions.workers, np.nan), 0, True)
    fit = _Abilities(opinions)
    before, done, converged = -np.inf, 0, False
    while done < iterations and not converged:
        checkpoint()
        likelihood = fit.step()
        done += 1
        converged = likelihood - before < tolerance * len(opinions.samples_A)
        before = likelihood
    return fit.beliefs(done, converged)


class _Abilities:
    """The state of the second model. Only classes that somebody said of a sample have cells; the others are equally
    likely, and counted."""

    def __init__(self, opinions: Opinions) -> None:
        self._given = opinions
        cells_A = opinions.samples_A * opinions.classes + opinions.classes_A
        cells_S, self._cells_A = np.unique(cells_A, return_inverse=True)
        self._samples_S, self._classes_S = np.divmod(cells_S, opinions.classes)
        self._starts_N = np.searchsorted(self._samples_S, np.arange(opinions.samples))
        self._unsaid_N = opinions.classes - np.bincount(self._samples_S, minlength=opinions.samples)
        self._abilities_W = np.ones(opinions.workers)
        self._eases_N = np.ones(opinions.samples)  # ln e

    def step(self) -> float:
        """One expectation and maximisation; returns the log of what both maximise, for the parameters before it."""
        probs_S, logs_N = self._expected()
        value = float(logs_N.sum()) - 0.5 * float(
            ((self._abilities_W - 1) ** 2).sum() + ((self._eases_N - 1) ** 2).sum()
        )
        right_A = probs_S[self._cells_A]
        for _ in range(_STEPS):
            self._move_abilities(right_A)
            self._move_eases(right_A)
        return value

    def beliefs(self, iterations: int, converged: bool) -> Beliefs:
        """What is believed under the parameters reached."""
        probs_S, _ = self._expected()
        # The first cell of its sample with the highest probability; cells ascend by class.
        highest_N = np.maximum.reduceat(probs_S, self._starts_N)
        at_S = np.flatnonzero(probs_S == highest_N[self._samples_S])
        _, first = np.unique(self._samples_S[at_S], return_index=True)
        skills_W = _sigmoid(self._abilities_W * np.exp(self._eases_N.mean()))
        skills_W[np.bincount(self._given.workers_A, minlength=self._given.workers) == 0] = np.nan
        return Beliefs(self._classes_S[at_S[first]], highest_N, skills_W, iterations, converged)

    def _expected(self) -> tuple[Floats, Floats]:
        """Probability of each cell, and the log-likelihood of each sample."""
        given = self._given
        products_A = self._products()
        wrong_A = -np.logaddexp(0, products_A) - np.log(max(1, given.classes - 1))
        # Beside a class that nobody said, a class gains by everybody who said it.
        gains_S = np.bincount(self._cells_A, -np.logaddexp(0, -products_A) - wrong_A, len(self._samples_S))
        base_N = np.bincount(given.samples_A, wrong_A, given.samples) - np.log(given.classes)
        highest_N = np.maximum.reduceat(gains_S, self._starts_N)
        highest_N = np.where(self._unsaid_N > 0, np.maximum(highest_N, 0), highest_N)
        parts_S = np.exp(gains_S - highest_N[self._samples_S])
        sums_N = np.add.reduceat(parts_S, self._starts_N) + self._unsaid_N * np.exp(-highest_N)
        return parts_S / sums_N[self._samples_S], base_N + highest_N + np.log(sums_N)

    def _products(self) -> Floats:
        products_A: Floats = self._abilities_W[self._given.workers_A] * np.exp(self._eases_N[self._given.samples_A])
        return products_A

    def _move_abilities(self, right_A: Floats) -> None:
        """One step of Newton's in all abilities: each is a logistic regression on one number."""
        workers_A, eases_A = self._given.workers_A, np.exp(self._eases_N[self._given.samples_A])
        said_A = _sigmoid(self._products())
        slopes_W = np.bincount(workers_A, (right_A - said_A) * eases_A, len(self._abilities_W))
        bends_W = np.bincount(workers_A, said_A * (1 - said_A) * eases_A**2, len(self._abilities_W)) + 1
        self._abilities_W += np.clip((slopes_W - (self._abilities_W - 1)) / bends_W, -_STRETCH, _STRETCH)

    def _move_eases(self, right_A: Floats) -> None:
        """One step of Fisher's in all eases: the curvature that is expected is never of the wrong sign."""
        samples_A, products_A = self._given.samples_A, self._products()
        said_A = _sigmoid(products_A)
        slopes_N = np.bincount(samples_A, (right_A - said_A) * products_A, len(self._eases_N))
        bends_N = np.bincount(samples_A, said_A * (1 - said_A) * products_A**2, len(self._eases_N)) + 1
        self._eases_N += np.clip((slopes_N - (self._eases_N - 1)) / bends_N, -_STRETCH, _STRETCH)


def _sigmoid(values: Floats) -> Floats:
    """1 / (1 + exp(-x)), without overflow."""
    probabilities: Floats = np.exp(-np.logaddexp(0, -values))
    return probabilities
