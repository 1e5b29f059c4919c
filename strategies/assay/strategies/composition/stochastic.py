"""Batches drawn by score instead of the top of it: nearly the quality of a joint batch, at the cost of a top-k.

Kirsch, Farquhar, Atighehchian, Jesson, Branchaud-Charron and Gal, "Stochastic Batch Acquisition: A Simple Baseline for
Deep Active Learning", TMLR 2023. Adding Gumbel noise to a log-weight and taking the top k draws k samples without
replacement in proportion to their weights.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.hashing import hash_keys

Kind = Literal["power", "softmax", "softrank"]
KINDS: tuple[str, ...] = get_args(Kind)

_BLOCK = 1 << 18
_LOWEST = float(np.finfo(np.float32).tiny)


def perturbed(
    utility_N: NDArray[np.float32],
    keys_N: NDArray[np.int64],
    seed: int,
    kind: Kind,
    beta: float = 1.0,
    mask_N: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """The log-weight of each sample plus Gumbel noise, float32 of shape (N,): its top k is the batch.

    kind: log-weight beta ln u (power: no sample of utility 0 before one above), beta u (softmax), or -beta ln rank
    (softrank: indifferent to the scale of u; equal ones are ranked by index).
    beta: at least 0; 0 draws uniformly, and the larger, the closer to the plain top k.
    keys_N: names of the samples that outlive this selection. The noise depends on nothing but them and the seed, so
    draws of shards merge into a draw of the whole (but for softrank, whose ranks are those of the shard).
    mask_N: only these mean something, and only they are ranked.
    The result orders samples; it is no measure of utility, and may be below 0.
    Raises StrategyError INVALID_STOCHASTIC for an unknown kind or a beta out of range, NOT_FINITE for NaN or infinity.
    """
    if kind not in KINDS or not (np.isfinite(beta) and beta >= 0):
        raise StrategyError("INVALID_STOCHASTIC", f"kind is one of {', '.join(KINDS)}, and beta is at least 0")
    wanted_N = utility_N if mask_N is None else np.where(mask_N, utility_N, np.float32(0))
    if not bool(np.isfinite(wanted_N).all()):
        raise StrategyError("NOT_FINITE", "the utility holds NaN or infinity")
    ranks_N = _ranks(wanted_N, mask_N) if kind == "softrank" else None
    noisy_N = np.empty(len(utility_N), np.float32)
    for start in range(0, len(noisy_N), _BLOCK):
        checkpoint()
        rows = slice(start, start + _BLOCK)
        weights = wanted_N[rows] if ranks_N is None else ranks_N[rows]
        noisy_N[rows] = _log_weights(weights.astype(np.float64), kind, beta) + gumbel(keys_N[rows], seed)
    return noisy_N


def gumbel(keys_N: NDArray[np.int64], seed: int) -> NDArray[np.float64]:
    """Standard Gumbel noise of each key, -ln(-ln u), with u from a hash of the key and the seed."""
    uniform_N = ((hash_keys(keys_N, seed) >> np.uint64(11)).astype(np.float64) + 0.5) / 2.0**53
    noise_N: NDArray[np.float64] = -np.log(-np.log(uniform_N))
    return noise_N


def _log_weights(values_N: NDArray[np.float64], kind: Kind, beta: float) -> NDArray[np.float64]:
    if kind == "softmax":
        return beta * values_N
    logs_N: NDArray[np.float64] = np.log(np.maximum(values_N, _LOWEST))
    return beta * logs_N if kind == "power" else -beta * logs_N


def _ranks(utility_N: NDArray[np.float32], mask_N: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """1 for the highest of the wanted, 2 for the next; the others get 1, which nobody reads."""
    rows = np.arange(len(utility_N)) if mask_N is None else np.flatnonzero(mask_N)
    ranks_N = np.ones(len(utility_N), np.int64)
    ranks_N[rows[np.argsort(-utility_N[rows], kind="stable")]] = np.arange(1, len(rows) + 1)
    return ranks_N
