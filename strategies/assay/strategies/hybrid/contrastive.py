"""Contrastive active learning (CAL): samples that are predicted otherwise than the labeled ones beside them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.points import Metric
from assay.strategies.kernels.search import nearest
from assay.strategies.kernels.unit import unit_rows
from assay.strategies.needs import Need

# The smallest probability in the logarithm: that of float32's smallest normal number, about 1.2e-38.
_FLOOR = float(np.log(np.finfo(np.float32).tiny))
# float64 values in a block of probabilities.
_BLOCK_VALUES = 1 << 17


@dataclass(frozen=True)
class ContrastiveParams:
    neighbors: int = field(
        default=10,
        metadata={"doc": "How many labeled neighbours a sample is compared with.", "minimum": 1},
    )
    metric: Metric = field(
        default="cosine",
        metadata={"doc": "Neighbours by distance between embeddings of length 1 (cosine, as published), or as given."},
    )


@dataclass(frozen=True)
class Contrastive:
    """How differently the model sees a sample and the labeled samples most like it: it lies at a border.

    From 0 (predicted as its neighbours are) upwards. The neighbours are the nearest labeled samples by the metric,
    equally near ones by their order; samples that somebody has in hand count as labeled. With fewer
    labeled samples than `neighbors`, all of them count.

    Formula: 1/k sum over the k nearest labeled l of KL(p_l || p_i), KL(p || q) = sum_c p_c (ln p_c - ln q_c)
        in nats, 0 ln 0 = 0, and no ln q below ln 1.2e-38 = -87.3 (float32's smallest normal number). Logarithms
        come from the logits where there are any.
    Cost: O(N L D) in matrix products and O(N k C) for the rest; memory O(N k) beside a copy of the labeled
        embeddings. Exact; streams, shards and merges.
    Use when: labels are few and the embeddings come from the model being trained, so that neighbours should agree.
    Avoid when: nothing is labeled yet (it is refused), or the embeddings have little to do with the classes.
    Paper: Margatina, Vernikos, Barrault and Aletras, Active Learning by Acquiring Contrastive Examples, EMNLP 2021.
    Reference: the formula transcribed. The authors' code and small-text scale embeddings to length 1 first, and so do
        we by default; scikit-activeml takes them as they are, and clips probabilities at 1e-7. small-text's
        `ContrastiveActiveLearning` looks for the neighbours among all samples, labeled or not, the candidate itself
        included; the paper, and we, among the labeled ones.
    """

    name: ClassVar[str] = "contrastive"
    summary: ClassVar[str] = "How much the predictions for a sample and for its nearest labeled samples differ."
    needs: ClassVar[frozenset[Need]] = frozenset(
        {Need.PROBS, Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_PROBS}
    )
    params: ClassVar[type[ContrastiveParams]] = ContrastiveParams

    def score(self, block: Candidates, params: ContrastiveParams) -> NDArray[np.float32]:
        """float32 scores, 0 or above.

        Raises NeedMissing; StrategyError NOTHING_LABELED, NOT_FINITE, PROBABILITIES_INVALID, or INVALID_ARRAY for
        labeled arrays that do not go with the candidates'.
        """
        logs_NC = _Logs(block)
        labeled_LC = _labeled_probs(block, logs_NC.classes)
        _, indices_NK = nearest(
            *_as_measured(block, params.metric),
            min(params.neighbors, len(labeled_LC)),
        )
        return _mean_divergence(labeled_LC, indices_NK, logs_NC)


contrastive = Contrastive()


def _as_measured(block: Candidates, metric: Metric) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings of the candidates and of the labeled samples, each row by itself, so that blocks agree."""
    embeddings = block.unchecked(Need.EMBEDDINGS), block.unchecked(Need.LABELED_EMBEDDINGS)
    return embeddings if metric == "l2" else (unit_rows(embeddings[0]), unit_rows(embeddings[1]))


class _Logs:
    """The logarithms of the candidates' probabilities, float64, by rows; none below the floor."""

    def __init__(self, block: Candidates) -> None:
        self._from_logits = block.has(Need.LOGITS)
        self._rows_NC = block.logits_NC if self._from_logits else block.probs_NC
        self.classes = self._rows_NC.shape[1]
        if not self._from_logits:
            _check_probs(self._rows_NC)

    def rows(self, rows: slice) -> NDArray[np.float64]:
        values_BC = self._rows_NC[rows].astype(np.float64)
        if self._from_logits:
            values_BC -= values_BC.max(axis=1, keepdims=True, initial=-np.inf)
            values_BC -= np.log(np.exp(values_BC).sum(axis=1, keepdims=True))
            return np.maximum(values_BC, _FLOOR, out=values_BC)
        return np.log(np.maximum(values_BC, np.finfo(np.float32).tiny, out=values_BC), out=values_BC)


def _mean_divergence(
    labeled_LC: NDArray[np.float64], indices_NK: NDArray[np.int64], logs_NC: _Logs
) -> NDArray[np.float32]:
    """mean_l KL(p_l || p_i) = mean_l sum_c p_lc ln p_lc - sum_c (mean_l p_lc) ln p_ic, in float64."""
    tiny = np.finfo(np.float32).tiny
    negative_entropies_L = (labeled_LC * np.log(np.maximum(labeled_LC, tiny))).sum(axis=1)
    scores_N = np.empty(len(indices_NK), np.float32)
    step = max(1, _BLOCK_VALUES // max(indices_NK.shape[1] * logs_NC.classes, 1))
    for start in range(0, len(scores_N), step):
        checkpoint()
        rows = slice(start, start + step)
        means_BC = labeled_LC[indices_NK[rows]].mean(axis=1)
        crosses_B = (means_BC * logs_NC.rows(rows)).sum(axis=1)
        # What rounding leaves below 0 is 0.
        scores_N[rows] = np.maximum(negative_entropies_L[indices_NK[rows]].mean(axis=1) - crosses_B, 0)
    return scores_N


def _labeled_probs(block: Candidates, classes: int) -> NDArray[np.float64]:
    if not block.has(Need.LABELED_PROBS) or not len(block.labeled_probs_LC):
        raise StrategyError("NOTHING_LABELED", "this strategy compares with labeled samples: label some first")
    labeled_LC = block.labeled_probs_LC
    count = len(block.unchecked(Need.LABELED_EMBEDDINGS))
    if labeled_LC.shape != (count, classes):
        raise StrategyError(
            "INVALID_ARRAY", f"labeled_probs is {labeled_LC.shape}, not {(count, classes)} as the other arrays say"
        )
    _check_probs(labeled_LC)
    return labeled_LC.astype(np.float64)


def _check_probs(probs_MC: NDArray[np.float32]) -> None:
    if probs_MC.size and not (probs_MC.min() >= 0 and probs_MC.max() <= 1):
        raise StrategyError("PROBABILITIES_INVALID", "probabilities must lie in [0, 1]")
