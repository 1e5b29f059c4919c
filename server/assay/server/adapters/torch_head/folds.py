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
    rng = np.random.default_rng([seed, 0])
    shuffled_N = rng.permutation(len(classes_N))
    by_class_N = shuffled_N[np.argsort(classes_N[shuffled_N], kind="stable")]
    counts_C = np.bincount(classes_N)
    eligible_M = by_class_N[counts_C[classes_N[by_class_N]] > 1]
    fold_N = np.full(len(classes_N), NEVER, dtype=np.int64)
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
