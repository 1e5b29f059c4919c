"""Uncertainty of a softmax in one blocked pass over the logits (or over probabilities).

Each block is copied once, and transposed where classes are few, so that every reduction runs along whole vectors.
With w = exp(x - max x):
the largest w is exactly 1, so `frac` blanks it in place and what is left gives, without cancellation,

    rest = sum of the other w        1 - p1        = rest / z,  z = 1 + rest
    second = the largest other w     1 - (p1 - p2) = (rest + second) / z
    weighted = sum w (x - max x)     entropy       = ln z - weighted / z    (natural logarithm)

gradient_length = sum_j p_j |p - e_j|, the expected length of the gradient of the cross-entropy by the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread

MEASURES = ("least_confidence", "margin", "ratio", "entropy", "gradient_length")

# float32 values in a block, 8 MB: beyond a core's second-level cache, but the dozen operations on it, each of which
# waits for the interpreter, then weigh little.
_BLOCK_VALUES = 1 << 21
# Rows come by this many. torch adds up columns that do not fill its vectors in another order, and rounds otherwise: a
# sample's score would hang on its place, and copies would score apart.
_ROWS = 64
# From so many classes on, sums along a sample's own classes are as fast as sums across samples.
_WIDE = 64
# exp(-200) is 0 in float32; a lower bound keeps 0 * (x - max x) from becoming 0 * -inf.
_LOWEST_DIFFERENCE = -200.0
_SUM_TOLERANCE = 1e-3
_TINY = torch.finfo(torch.float32).tiny
_NEED_WEIGHTS = frozenset({"margin", "ratio", "gradient_length"})

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Weights:
    """Probabilities in units of the largest one.

    rest_N, second_N: the sum and the largest of all but one that is exactly 1.
    others_CN: each of them, but 0 for further ones that are exactly 1; ties_N of those were taken out.
    """

    rest_N: torch.Tensor
    second_N: torch.Tensor
    others_CN: torch.Tensor
    ties_N: torch.Tensor


def from_logits(logits_NC: NDArray[np.float32], measures: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted measures of softmax(logits), each float32 of shape (N,), all from one pass.

    measures: any of MEASURES. Finite logits of any size are safe.
    Raises StrategyError NOT_FINITE, or INVALID_ARRAY where there is no class.
    """
    return _blocked(logits_NC, measures, _logits_block)


def from_probs(probs_NC: NDArray[np.float32], measures: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted measures of given probabilities, not normalised again (but for gradient_length); 0 ln 0 = 0.

    Raises StrategyError PROBABILITIES_INVALID for a value outside [0, 1], NaN, or a row whose sum is more than
    1e-3 away from 1; INVALID_ARRAY where there is no class.
    """
    return _blocked(probs_NC, measures, _probs_block)


def _blocked(
    rows_NC: NDArray[np.float32], measures: Collection[str], kernel: Callable[[torch.Tensor, Outputs], None]
) -> dict[str, NDArray[np.float32]]:
    size, classes = rows_NC.shape
    if classes == 0:
        raise StrategyError("INVALID_ARRAY", "there are no classes to be uncertain between")
    scores: dict[str, NDArray[Any]] = {measure: np.empty(_filled(size), np.float32) for measure in measures}
    outputs = {measure: torch.from_numpy(array) for measure, array in scores.items()}

    def block(start: int, stop: int) -> None:
        places = slice(start, start + _filled(stop - start))
        kernel(_columns(borrow(rows_NC[start:stop])), {measure: out[places] for measure, out in outputs.items()})

    if size:
        spread(block, size, _filled(_BLOCK_VALUES // classes))
    return {measure: array[:size] for measure, array in scores.items()}


def _filled(rows: int) -> int:
    return -(-rows // _ROWS) * _ROWS


def _columns(rows_NC: torch.Tensor) -> torch.Tensor:
    """A copy of some rows, the last one repeated to fill up, of shape (C, N), in the order in memory in which it is
    reduced fastest.
    """
    size, classes = rows_NC.shape
    shape = _filled(size), classes
    columns_CN = torch.empty(shape).t() if classes >= _WIDE else torch.empty(shape[::-1])
    columns_CN[:, :size] = rows_NC.t()
    columns_CN[:, size:] = columns_CN[:, size - 1 : size]
    return columns_CN


def _logits_block(logits_CN: torch.Tensor, outputs: Outputs) -> None:
    _require_finite(logits_CN)
    parse = _binary_weights if len(logits_CN) == 2 else _weights
    weights, weighted_N = parse(logits_CN, "entropy" in outputs)
    z_N = weights.rest_N + 1
    if "least_confidence" in outputs:
        torch.div(weights.rest_N, z_N, out=outputs["least_confidence"])
    if "margin" in outputs:
        torch.div(weights.rest_N + weights.second_N, z_N, out=outputs["margin"])
    if "ratio" in outputs:
        outputs["ratio"].copy_(weights.second_N)
    if weighted_N is not None:
        torch.sub(torch.log1p(weights.rest_N), weighted_N.div_(z_N), out=outputs["entropy"])
    if "gradient_length" in outputs:
        _gradient_length(weights, outputs["gradient_length"])


def _require_finite(values: torch.Tensor) -> None:
    # The sum is finite only if all values are; it may overflow, so a bad one is looked at closely.
    if not np.isfinite(values.sum().item()) and not bool(torch.isfinite(values).all()):
        raise StrategyError("NOT_FINITE", "logits hold NaN or infinity")


def _weights(logits_CN: torch.Tensor, with_weighted: bool) -> tuple[_Weights, torch.Tensor | None]:
    """The weights, and `weighted` where it is wanted. Overwrites the logits."""
    differences_CN = logits_CN.sub_(logits_CN.amax(0))
    if not with_weighted:
        return _without_top(differences_CN.exp_()), None
    weights_CN = torch.exp(differences_CN.clamp_min_(_LOWEST_DIFFERENCE))
    weighted_N = differences_CN.mul_(weights_CN).sum(0)
    return _without_top(weights_CN), weighted_N


def _binary_weights(logits_CN: torch.Tensor, with_weighted: bool) -> tuple[_Weights, torch.Tensor | None]:
    differences_N = (logits_CN[0] - logits_CN[1]).abs_().neg_()
    weights_N = torch.exp(differences_N)
    weighted_N = differences_N.clamp_min_(_LOWEST_DIFFERENCE).mul_(weights_N) if with_weighted else None
    return _Weights(weights_N, weights_N, weights_N.unsqueeze(0), torch.zeros(())), weighted_N


def _without_top(weights_CN: torch.Tensor) -> _Weights:
    """The weights without one of those that are exactly 1, in place."""
    total_N = weights_CN.sum(0)
    rest_N = weights_CN.frac_().sum(0)
    ties_N = total_N.sub_(rest_N).sub_(1).round_()
    second_N = weights_CN.amax(0).masked_fill_(ties_N > 0, 1)
    return _Weights(rest_N.add_(ties_N), second_N, weights_CN, ties_N)


def _gradient_length(weights: _Weights, out_N: torch.Tensor) -> None:
    """sum_j p_j |p - e_j| z^2 = (1 + ties) sqrt(rest^2 + q) + sum over others w sqrt(z^2 + 1 + q - 2 z w), where
    q = sum of the squares of all weights but the top one. Nothing cancels: z is at least 1 + w, and q at least w^2.
    """
    others_CN, ties_N, rest_N = weights.others_CN, weights.ties_N, weights.rest_N
    z_N = rest_N + 1
    squares_N = torch.linalg.vecdot(others_CN, others_CN, dim=0) + ties_N
    tops_N = (ties_N + 1) * torch.sqrt(rest_N * rest_N + squares_N)
    constant_N = z_N * z_N + 1 + squares_N
    lengths_CN = torch.addcmul(constant_N, others_CN, z_N, value=-2).sqrt_()
    torch.div(lengths_CN.mul_(others_CN).sum(0).add_(tops_N), z_N * z_N, out=out_N)


def _probs_block(probs_CN: torch.Tensor, outputs: Outputs) -> None:
    top_N = probs_CN.amax(0)
    require_probabilities(probs_CN.amin(), top_N.max(), probs_CN.sum(0))
    if "least_confidence" in outputs:
        torch.sub(1, top_N, out=outputs["least_confidence"])
    if "entropy" in outputs:
        torch.neg(times_log(probs_CN).sum(0), out=outputs["entropy"])
    if not _NEED_WEIGHTS.isdisjoint(outputs):
        _weighed(_without_top(probs_CN.div_(top_N)), top_N, outputs)


def _weighed(weights: _Weights, top_N: torch.Tensor, outputs: Outputs) -> None:
    """The measures of given probabilities that look at them beside the largest."""
    if "margin" in outputs:
        torch.sub(1, top_N - weights.second_N * top_N, out=outputs["margin"])
    if "ratio" in outputs:
        outputs["ratio"].copy_(weights.second_N)
    if "gradient_length" in outputs:
        _gradient_length(weights, outputs["gradient_length"])


def times_log(probs: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """p ln p of each value, 0 where p is 0: torch.xlogy and torch.special.entr take one value at a time."""
    return torch.clamp_min(probs, _TINY, out=out).log_().mul_(probs)


def require_probabilities(lowest: torch.Tensor, highest: torch.Tensor, sums_N: torch.Tensor) -> None:
    """Refuse a block of probabilities by its extremes and the sums of its rows.

    Raises StrategyError PROBABILITIES_INVALID for a value outside [0, 1], NaN, or a sum more than 1e-3 away from 1.
    """
    # Written so that NaN fails every comparison.
    in_range = lowest.item() >= 0 and highest.item() <= 1
    if not (in_range and (sums_N - 1).abs_().max().item() <= _SUM_TOLERANCE):
        raise StrategyError(
            "PROBABILITIES_INVALID", "probabilities must lie in [0, 1] and each row must sum to 1 within 1e-3"
        )
