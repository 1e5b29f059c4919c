"""Log-determinant: picks that span the largest volume, the greedy mode of a determinantal point process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.greedy_map import greedy_map, in_blocks
from assay.strategies.kernels.points import labeled_embeddings
from assay.strategies.kernels.similarity import Similarity
from assay.strategies.kernels.tensors import alone, borrow
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need

# Labeled rows whose products are summed at a time.
_LABELED = 1 << 14


@dataclass(frozen=True)
class LogDetParams:
    ridge: float = field(
        default=0.01,
        metadata={
            "doc": "Added to the diagonal of the kernel of unit-length embeddings, whose own diagonal is 1: how "
            "much of a sample is its own. Larger allows picks that are more alike.",
            "minimum": 1e-6,
            "maximum": 1e6,
        },
    )


@dataclass(frozen=True)
class LogDet:
    """Picks in directions that labeled samples and earlier picks leave open: the greedy mode of a DPP.

    A pick's gain is its variance given all before it, so near copies gain little. With nothing labeled all candidates
    gain the same at first, and the one most similar to all others on average is taken. Copies and more picks than
    dimensions are no trouble: the ridge keeps every gain finite.

    Formula: maximise log det (K_{L + S} + ridge I), K = cosine similarity, one pick after the other: the candidate of
        largest variance v_i = ridge (1 + x_i' (ridge I + sum_{j in L + S} x_j x_j')^-1 x_i), x = h / |h|. Scores of the
        picks: log v_i.
    Cost: O((N + L) D^2) to begin where samples are labeled; a pick costs D^2 + B D in its block of B candidates, and
        all candidates cost N D for each pick at most, in matrix products. Memory O(N D + D^2) in float64 for D^2.
    Use when: directions matter: a linear model is trained on these embeddings (it is D-optimal design for it).
    Avoid when: clusters in one direction but at different lengths matter (k_center), or outliers are noise.
    Paper: Chen, Zhang and Zhou, Fast Greedy MAP Inference for Determinantal Point Process to Improve Recommendation
        Diversity, NeurIPS 2018.
    Reference: the authors' fast_map_dpp and submodlib LogDeterminantFunction (its lambda is the ridge), which keep k
        values per candidate and an N x N kernel; fast_map_dpp stops where a variance vanishes. For a linear kernel the
        inverse in feature space needs neither. fast_map_dpp does not condition on labeled samples; in submodlib
        LogDeterminantConditionalGainFunction does.
    """

    name: ClassVar[str] = "log_det"
    summary: ClassVar[str] = "Samples in the directions that labeled samples and picks leave open."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    params: ClassVar[type[LogDetParams]] = LogDetParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: LogDetParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError INVALID_ARRAY or NOT_FINITE."""
        size = checked_size(size, candidates)
        labeled_LD = labeled_embeddings(candidates)
        if size == 0:
            return Selection.empty()
        embeddings_ND = candidates.unchecked(Need.EMBEDDINGS)
        return alone(lambda: _select(embeddings_ND, labeled_LD, size, params.ridge))


log_det = LogDet()


def _select(embeddings_ND: NDArray[np.float32], labeled_LD: NDArray[np.float32], size: int, ridge: float) -> Selection:
    similarity = Similarity(embeddings_ND, "cosine")
    volume = _Volume(similarity.exact_others(borrow(labeled_LD)), ridge)
    variances_N = in_blocks(similarity, volume.variances)
    first = None if len(labeled_LD) else _most_typical(similarity)
    found = greedy_map(similarity, variances_N, volume, size, first)
    # What rounding leaves of a variance is at least the ridge.
    scores = np.log(np.maximum(found.gains, ridge)).astype(np.float32)
    return Selection(found.picks, scores, {"labeled": len(labeled_LD), "passes": found.passes})


def _most_typical(similarity: Similarity) -> int:
    """The candidate most similar to all on average; in float32, so that copies are equal and the first is taken."""
    weights_N = torch.full((similarity.size,), 1 / similarity.size)
    typical_N = similarity.totals(weights_N).float()
    # A row without direction spans nothing.
    return int(top_k(typical_N.where(similarity.own_N > 0, -1).numpy(), 1)[0])


class _Volume:
    """Variances given what was added: ridge (1 + x' P x), P the inverse of ridge I + the added rows' outer products."""

    def __init__(self, labeled_LD: torch.Tensor, ridge: float) -> None:
        self._ridge = ridge
        dim = labeled_LD.shape[1]
        eye_DD = torch.eye(dim, dtype=torch.float64)
        self._inverse_DD = eye_DD / ridge
        if len(labeled_LD):
            spread_DD = eye_DD * ridge
            for rows_BD in torch.split(labeled_LD, _LABELED):
                checkpoint()
                spread_DD += rows_BD.t() @ rows_BD
            self._inverse_DD = torch.cholesky_inverse(torch.linalg.cholesky(spread_DD))

    def variances(self, rows_BD: torch.Tensor) -> torch.Tensor:
        squared_B: torch.Tensor = torch.linalg.vecdot(rows_BD @ self._inverse_DD, rows_BD)
        return squared_B.add_(1).mul_(self._ridge)

    def added(self, row_D: torch.Tensor) -> torch.Tensor:
        """Takes x x' into the inverse (Sherman and Morrison 1950): P loses d d' / ridge."""
        direction_D = self._inverse_DD @ row_D
        shrink = 1 + torch.dot(direction_D, row_D)
        self._inverse_DD.addr_(direction_D, direction_D / shrink, alpha=-1)
        return direction_D * torch.sqrt(self._ridge / shrink)

    def drops(self, rows_BD: torch.Tensor, directions_MD: torch.Tensor) -> torch.Tensor:
        return (rows_BD @ directions_MD.t()).square_().sum(1)
