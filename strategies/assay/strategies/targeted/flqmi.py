"""Facility-location mutual information: picks that serve every query, each by the pick most similar to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.interrupt import checkpoint
from assay.strategies.kernels.coverage import Cover, greedy_cover
from assay.strategies.kernels.covering import as_selection
from assay.strategies.kernels.tensors import alone
from assay.strategies.needs import Need
from assay.strategies.targeted.queries import cosines, unit_queries

_FLOOR, _UNIT = -1.0, 0.5


@dataclass(frozen=True)
class FlqmiParams:
    eta: float = field(
        default=1.0,
        metadata={
            "doc": "Weight of being similar to some query, against serving queries that no pick serves yet.",
            "minimum": 0.0,
        },
    )


@dataclass(frozen=True)
class Flqmi:
    """Picks that find something for every query, and are themselves like one.

    Labeled samples do not enter: the queries usually are labeled, and would leave nothing to serve.

    Formula: maximise f(S; Q) = sum_{q in Q} max_{i in S} s_iq + eta sum_{i in S} max_{q in Q} s_iq, one pick after the
        other, s = (1 + cosine) / 2. Scores of the picks: their gain in f / Q.
    Cost: O(N Q D) once and N Q float64 values; then N for each query that a pick serves better.
    Use when: more of a rare class is wanted, whose examples differ from each other.
    Avoid when: there is one query, or all are alike: gcmi does the same for less.
    Paper: Kothawade, Beck, Killamsetty and Iyer, SIMILAR: Submodular Information Measures Based Active Learning in
        Realistic Scenarios, NeurIPS 2021.
    Reference: submodlib FacilityLocationVariantMutualInformationFunction, with queryDiversityEta = eta; similarities
        are given to it.
    """

    name: ClassVar[str] = "flqmi"
    summary: ClassVar[str] = "Samples similar to a set of queries, so that every query is served."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.QUERY_EMBEDDINGS})
    params: ClassVar[type[FlqmiParams]] = FlqmiParams
    deterministic: ClassVar[bool] = True
    needs_utility: ClassVar[bool] = False
    greedy: ClassVar[bool] = True

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: FlqmiParams,
    ) -> Selection:
        """Raises NeedMissing, or StrategyError NO_QUERIES, INVALID_ARRAY or NOT_FINITE."""
        size = checked_size(size, candidates)
        queries_QD = unit_queries(candidates)
        if size == 0:
            return Selection.empty()
        embeddings_ND = candidates.embeddings_ND
        return alone(lambda: _select(cosines(embeddings_ND, queries_QD), size, params.eta))


def _select(cosines_QN: torch.Tensor, size: int, eta: float) -> Selection:
    queries = len(cosines_QN)
    best_Q = torch.full((queries,), _FLOOR, dtype=torch.float64)
    cover = Cover(best_Q, cosines_QN.amax(1), torch.ones(queries))
    bonus_N = eta * (cosines_QN.amax(0) - _FLOOR)
    return as_selection(greedy_cover(_Queries(cosines_QN), cover, size, bonus_N), _UNIT, 0)


class _Queries:
    """The queries as what is to be covered: few enough to be held in float64."""

    resolution = 2.0**-22

    def __init__(self, cosines_QN: torch.Tensor) -> None:
        self._cosines_QN = cosines_QN

    def gains(self, best_C: torch.Tensor, weights_C: torch.Tensor) -> torch.Tensor:
        sums_N = torch.zeros(self._cosines_QN.shape[1], dtype=torch.float64)
        for cosines_N, best in zip(self._cosines_QN, best_C.tolist(), strict=True):
            checkpoint()
            sums_N += (cosines_N - best).clamp_min_(0)
        return sums_N

    def losses(
        self, columns: torch.Tensor, best_J: torch.Tensor, rise_J: torch.Tensor, weights_J: torch.Tensor
    ) -> torch.Tensor:
        sums_N = torch.zeros(self._cosines_QN.shape[1], dtype=torch.float64)
        for query, best, rise in zip(columns.tolist(), best_J.tolist(), rise_J.tolist(), strict=True):
            checkpoint()
            sums_N += (self._cosines_QN[query] - best).clamp_(0, rise)
        return sums_N

    def reached(self, picks: torch.Tensor, best_C: torch.Tensor, gains_N: torch.Tensor) -> torch.Tensor:
        return torch.arange(len(self._cosines_QN))

    def exact(self, columns: torch.Tensor, picks: torch.Tensor) -> torch.Tensor:
        return self._cosines_QN[columns][:, picks]

    def name(self, pick: int) -> bytes:
        return self._cosines_QN[:, pick].numpy().tobytes()


flqmi = Flqmi()
