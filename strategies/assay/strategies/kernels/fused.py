"""Uncertainty of a softmax in one blocked pass over the logits (or over probabilities).

Each block is transposed once, so that every reduction runs along whole vectors. With w = exp(x - max x):
the largest w is exactly 1, so `frac` blanks it in place and what is left gives, without cancellation,

    rest = sum of the other w        1 - p1        = rest / z,  z = 1 + rest
    second = the largest other w     1 - (p1 - p2) = (rest + second) / z
    weighted = sum w (x - max x)     entropy       = ln z - weighted / z    (natural logarithm)
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

MEASURES = ("least_confidence", "margin", "entropy")

# float32 values in a block: 2 MB, about a core's second-level cache; smaller blocks lose more to dispatch.
_BLOCK_VALUES = 1 << 19
# exp(-200) is 0 in float32; a lower bound keeps 0 * (x - max x) from becoming 0 * -inf.
_LOWEST_DIFFERENCE = -200.0
_SUM_TOLERANCE = 1e-3

Outputs = dict[str, torch.Tensor]


@dataclass(frozen=True)
class _Parts:
    """What all measures of a block are made of; `weighted` only where entropy is wanted."""

    rest_N: torch.Tensor
    second_N: torch.Tensor
    weighted_N: torch.Tensor | None


def from_logits(logits_NC: NDArray[np.float32], measures: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted measures of softmax(logits), each float32 of shape (N,), all from one pass.

    measures: any of MEASURES. Finite logits of any size are safe.
    Raises StrategyError NOT_FINITE, or INVALID_ARRAY where there is no class.
    """
    return _blocked(logits_NC, measures, _logits_block)


def from_probs(probs_NC: NDArray[np.float32], measures: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """The wanted measures of given probabilities, not normalised again; 0 ln 0 = 0.

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
    scores: dict[str, NDArray[Any]] = {measure: np.empty(size, np.float32) for measure in measures}
    outputs = {measure: torch.from_numpy(array) for measure, array in scores.items()}

    def block(start: int, stop: int) -> None:
        columns_CN = borrow(rows_NC[start:stop]).t().clone(memory_format=torch.contiguous_format)
        kernel(columns_CN, {measure: out[start:stop] for measure, out in outputs.items()})

    if size:
        spread(block, size, max(1, _BLOCK_VALUES // classes))
    return scores


def _logits_block(logits_CN: torch.Tensor, outputs: Outputs) -> None:
    _require_finite(logits_CN)
    parse = _binary_parts if len(logits_CN) == 2 else _parts
    parts = parse(logits_CN, "entropy" in outputs)
    z_N = parts.rest_N + 1
    if "least_confidence" in outputs:
        torch.div(parts.rest_N, z_N, out=outputs["least_confidence"])
    if "margin" in outputs:
        torch.div(parts.rest_N + parts.second_N, z_N, out=outputs["margin"])
    if parts.weighted_N is not None:
        torch.sub(torch.log1p(parts.rest_N), parts.weighted_N.div_(z_N), out=outputs["entropy"])


def _require_finite(values: torch.Tensor) -> None:
    # The sum is finite only if all values are; it may overflow, so a bad one is looked at closely.
    if not np.isfinite(values.sum().item()) and not bool(torch.isfinite(values).all()):
        raise StrategyError("NOT_FINITE", "logits hold NaN or infinity")


def _parts(logits_CN: torch.Tensor, with_weighted: bool) -> _Parts:
    """Overwrites the logits."""
    differences_CN = logits_CN.sub_(logits_CN.amax(0))
    if not with_weighted:
        return _Parts(*_without_top(differences_CN.exp_()), None)
    weights_CN = torch.exp(differences_CN.clamp_min_(_LOWEST_DIFFERENCE))
    weighted_N = differences_CN.mul_(weights_CN).sum(0)
    return _Parts(*_without_top(weights_CN), weighted_N)


def _binary_parts(logits_CN: torch.Tensor, with_weighted: bool) -> _Parts:
    differences_N = (logits_CN[0] - logits_CN[1]).abs_().neg_()
    weights_N = torch.exp(differences_N)
    weighted_N = differences_N.clamp_min_(_LOWEST_DIFFERENCE).mul_(weights_N) if with_weighted else None
    return _Parts(weights_N, weights_N, weighted_N)


def _without_top(weights_CN: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and maximum of the weights besides one of those that are exactly 1. Overwrites the weights."""
    total_N = weights_CN.sum(0)
    rest_N = weights_CN.frac_().sum(0)
    other_tops_N = total_N.sub_(rest_N).sub_(1).round_()
    second_N = weights_CN.amax(0).masked_fill_(other_tops_N > 0, 1)
    return rest_N.add_(other_tops_N), second_N


def _probs_block(probs_CN: torch.Tensor, outputs: Outputs) -> None:
    top_N = probs_CN.amax(0)
    _require_probabilities(probs_CN, top_N)
    if "least_confidence" in outputs:
        torch.sub(1, top_N, out=outputs["least_confidence"])
    if "entropy" in outputs:
        torch.sum(torch.special.entr(probs_CN), 0, out=outputs["entropy"])
    if "margin" in outputs:
        _, second_N = _without_top(probs_CN.div_(top_N))
        torch.sub(1, top_N - second_N.mul_(top_N), out=outputs["margin"])


def _require_probabilities(probs_CN: torch.Tensor, top_N: torch.Tensor) -> None:
    # Written so that NaN fails every comparison.
    in_range = probs_CN.amin().item() >= 0 and top_N.max().item() <= 1
    if not (in_range and (probs_CN.sum(0) - 1).abs_().max().item() <= _SUM_TOLERANCE):
        raise StrategyError(
            "PROBABILITIES_INVALID", "probabilities must lie in [0, 1] and each row must sum to 1 within 1e-3"
        )
