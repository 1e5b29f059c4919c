"""drop_query: samples whose class changes when features drop out, one from each of k clusters of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.clustering import measured, representatives
from assay.strategies.kernels.points import Metric
from assay.strategies.kernels.tensors import borrow, spread
from assay.strategies.needs import Need

# float32 values of a block of embeddings, or of its logits.
_BLOCK_VALUES = 1 << 19
# Features are kept where 16 random bits fall below a threshold.
_RANDOM = 1 << 16


@dataclass(frozen=True)
class DropQueryParams:
    rate: float = field(
        default=0.75,
        metadata={"doc": "Share of the features that drop out of a copy.", "minimum": 0.0, "maximum": 0.99},
    )
    copies: int = field(
        default=3, metadata={"doc": "Copies of each sample that features drop out of.", "minimum": 1, "maximum": 255}
    )
    metric: Metric = field(
        default="l2", metadata={"doc": "What is clustered: embeddings as they are (l2) or scaled to length 1 (cosine)."}
    )


@dataclass(frozen=True)
class DropQuery:
    """Doubt of the head under dropout, then diversity among those in doubt.

    Features drop out of copies of each embedding, and the linear head classifies those. Samples whose copies disagree
    with the plain prediction in more than half are clustered into k, and the one nearest to each centroid is picked.

    Formula:
        x = h * mask / (1 - rate), mask Bernoulli(1 - rate) per feature; keep i if
        sum over copies of [argmax(W x + b) != argmax(W h + b)] > copies / 2; k-means of those kept.
    Cost:
        O(copies N C D) in matrix products and copies N D random numbers, in blocks, then O(kept D k) per iteration of
        k-means; memory O(N) and a copy of what is kept.
    Use when:
        a linear head sits on the embeddings of a foundation model: nothing needs to be run again.
    Avoid when:
        the model ends in more than a linear head; its doubt is not this one.
    Paper:
        Gupte, Aklilu, Nirschl and Yeung-Levy, Revisiting Active Learning in the Era of Vision Foundation Models,
        Transactions on Machine Learning Research 2024.
    Reference:
        a plain transcription given the same masks. The authors' code standardises features after the dropout, as part
        of its head, and clusters those; where fewer than k are kept it fails. scikit-activeml's takes 5 copies unless
        told otherwise and does not rescale what did not drop out. Where no more than k are kept, all of them are picked
        here, and the rest by most copies in disagreement, then by the smallest difference of the two largest logits,
        ties by index.
    """

    name: ClassVar[str] = "drop_query"
    summary: ClassVar[str] = "Samples whose predicted class changes under dropout, one from each cluster of them."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.HEAD_WEIGHTS, Need.HEAD_BIAS})
    params: ClassVar[type[DropQueryParams]] = DropQueryParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: DropQueryParams,
    ) -> Selection:
        """Scores of the picks: the share of their copies that disagree.

        Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE.
        """
        size = checked_size(size, candidates)
        embeddings_ND = candidates.embeddings_ND
        head = _head(candidates)
        if size == 0:
            return Selection.empty()
        seeds = rng.integers(2**63, size=2).tolist()
        doubt = dropout_doubt(embeddings_ND, head, params.rate, params.copies, seeds[0])
        kept = np.flatnonzero(2 * doubt.disagreeing_N > params.copies)
        if len(kept) > size:
            points_SD = measured(embeddings_ND[kept], params.metric)
            picks = kept[representatives(points_SD, size, seeds[1]).indices_K]
        else:
            # Those kept disagree most, so they come first.
            picks = np.lexsort((doubt.gaps_N, -doubt.disagreeing_N))[:size].astype(np.int64)
        scores = (doubt.disagreeing_N[picks] / params.copies).astype(np.float32)
        return Selection(picks, scores, {"kept": len(kept)})


@dataclass(frozen=True)
class Doubt:
    """disagreeing_N: int64, how many copies have another class. gaps_N: float32, largest minus second largest logit."""

    disagreeing_N: NDArray[np.int64]
    gaps_N: NDArray[np.float32]


@dataclass(frozen=True)
class Head:
    """A linear head: logits_NC = embeddings_ND @ weights_DC + bias_C."""

    weights_DC: torch.Tensor
    bias_C: torch.Tensor

    def logits(self, rows_BD: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias_C, rows_BD, self.weights_DC)


def dropout_doubt(embeddings_ND: NDArray[np.float32], head: Head, rate: float, copies: int, seed: int) -> Doubt:
    """What dropout does to each prediction. The masks follow from seed, shapes and copies, whatever the threads."""
    size, dim = embeddings_ND.shape
    disagreeing_N = torch.zeros(size, dtype=torch.int64)
    gaps_N = torch.empty(size)

    def block(start: int, stop: int) -> None:
        rows_BD = borrow(embeddings_ND[start:stop])
        logits_BC = head.logits(rows_BD)
        plain_B = logits_BC.argmax(1)
        gaps_N[start:stop] = _gaps(logits_BC)
        for masked_BD in _copies(rows_BD, rate, copies, np.random.default_rng([seed, start])):
            disagreeing_N[start:stop] += head.logits(masked_BD).argmax(1) != plain_B

    spread(block, size, max(1, _BLOCK_VALUES // max(dim, len(head.bias_C))))
    return Doubt(disagreeing_N.numpy(), gaps_N.numpy())


def _copies(rows_BD: torch.Tensor, rate: float, copies: int, rng: np.random.Generator) -> list[torch.Tensor]:
    """Copies without the features that dropped out, the others scaled up to keep the mean."""
    kept = round((1 - rate) * _RANDOM)
    scale = np.float32(_RANDOM / kept)
    masks = (rng.integers(0, _RANDOM, tuple(rows_BD.shape), np.uint16) < np.uint32(kept) for _ in range(copies))
    return [rows_BD * torch.from_numpy(mask_BD * scale) for mask_BD in masks]


def _gaps(logits_BC: torch.Tensor) -> torch.Tensor:
    if logits_BC.shape[1] == 1:
        return torch.zeros(len(logits_BC))
    top_B2 = logits_BC.topk(2).values
    return top_B2[:, 0] - top_B2[:, 1]


def _head(candidates: Candidates) -> Head:
    weights_CD, bias_C = candidates.head_weights_CD, candidates.head_bias_C
    dim = candidates.unchecked(Need.EMBEDDINGS).shape[1]
    if weights_CD.shape != (len(bias_C), dim) or len(bias_C) == 0:
        raise StrategyError(
            "INVALID_ARRAY",
            f"head weights must be C x {dim} with C biases, C at least 1, not {weights_CD.shape} with {bias_C.shape}",
        )
    return Head(borrow(weights_CD).t(), borrow(bias_C))


drop_query = DropQuery()
