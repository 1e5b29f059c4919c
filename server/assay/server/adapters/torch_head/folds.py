"""Which labels are held out when, and which are drawn again for a committee."""

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
NEVER = -1  # fold of a sample that always trains


def stratified_folds(classes_N: IntArray, folds: int, seed: int) -> IntArray:
    """Fold of each sample, every class spread as evenly as it goes.

    The only sample of a class is in no fold (NEVER): held out, its class would be unknown to the fit. So every fit
    sees every class. There are fewer folds where fewer samples can be held out, and none if none can.
    """
    counts_C = np.bincount(classes_N)
    return _spread(classes_N, counts_C[classes_N] > 1, folds, seed)


def even_folds(strata_N: IntArray, folds: int, seed: int) -> IntArray:
    """Fold of each sample, every stratum spread as evenly as it goes; none where there are fewer than two samples."""
    return _spread(strata_N, np.full(len(strata_N), len(strata_N) > 1), folds, seed)


def _spread(strata_N: IntArray, eligible_N: npt.NDArray[np.bool_], folds: int, seed: int) -> IntArray:
    rng = np.random.default_rng([seed, 0])
    shuffled_N = rng.permutation(len(strata_N))
    by_stratum_N = shuffled_N[np.argsort(strata_N[shuffled_N], kind="stable")]
    eligible_M = by_stratum_N[eligible_N[by_stratum_N]]
    fold_N = np.full(len(strata_N), NEVER, dtype=np.int64)
    fold_N[eligible_M] = np.arange(len(eligible_M)) % max(2, min(folds, len(eligible_M)))
    return fold_N


def bootstrap(classes_N: IntArray, member: int, seed: int) -> npt.NDArray[np.float64]:
    """How often each sample is drawn when every class is drawn again, with replacement, to its own size."""
    rng = np.random.default_rng([seed, 1, member])
    times_N = np.zeros(len(classes_N))
    for class_index in np.unique(classes_N):
        samples = np.flatnonzero(classes_N == class_index)
        times_N[samples] = rng.multinomial(len(samples), np.full(len(samples), 1.0 / len(samples)))
    return times_N


def bayesian_bootstrap(samples: int, member: int, seed: int) -> npt.NDArray[np.float64]:
    """How much each sample counts, in the mean 1: a draw from the posterior of how the samples are distributed. None
    counts nothing, so every class keeps what tells it from the others.

    Source: Rubin 1981, The Bayesian bootstrap.
    """
    drawn_N = np.random.default_rng([seed, 1, member]).standard_exponential(samples)
    times_N: npt.NDArray[np.float64] = drawn_N / drawn_N.mean()
    return times_N
