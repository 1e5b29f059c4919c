"""The scores of a plan, and the one utility that they make."""

from dataclasses import dataclass

import numpy as np

from assay.server.core.mining.drawing import known_rows
from assay.server.core.mining.plan.binding import BoundPlan, BoundScore
from assay.server.core.mining.plan.terms import Combination
from assay.server.core.mining.supply import OF_PREDICTIONS, Supply
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.strategies import checkpoint
from assay.strategies.base import finished, optional_needs
from assay.strategies.composition.combine import product, rank_sum
from assay.strategies.composition.stochastic import perturbed

RANK_SUM = Combination.RANK_SUM
# Rows scored at once by a scorer that needs embeddings.
SCORE_BLOCK_ROWS = 16_384
SCORE_BLOCK_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Scoring:
    """The scores of a plan over a snapshot. Arrays run over all rows; only those of the mask mean something."""

    supply: Supply
    bound: BoundPlan

    def terms(self, mask_N: MaskArray) -> list[FloatArray]:
        """Each score of the plan. Raises AssayError(NEED_MISSING) where a prediction is missing."""
        return [self._scores(bound, mask_N) for bound in self.bound.scores]

    def utility(self, terms: list[FloatArray], mask_N: MaskArray) -> FloatArray | None:
        """The scores as one; None where the plan has none."""
        if not terms:
            return None
        if len(terms) == 1 and self.bound.scores[0].strength == 1.0 and self.bound.plan.combination is not RANK_SUM:
            # The common case costs nothing, not even a look for NaN: who ranks by it looks.
            return terms[0]
        strengths = [bound.strength for bound in self.bound.scores]
        if self.bound.plan.combination is RANK_SUM:
            return rank_sum(terms, strengths, mask_N)
        return product(terms, strengths)

    def drawn(self, utility_N: FloatArray | None, mask_N: MaskArray, seed: int) -> FloatArray | None:
        """The utility with the plan's noise on it; as it is where the plan has none."""
        stochastic = self.bound.plan.stochastic
        if utility_N is None or stochastic is None:
            return utility_N
        # By row: the same sample has the same noise whatever else is in the pool.
        return perturbed(utility_N, np.arange(len(utility_N)), seed, stochastic.kind, stochastic.beta, mask_N)

    def _scores(self, bound: BoundScore, mask_N: MaskArray) -> FloatArray:
        """One score of the plan, with what of it hangs on the other candidates."""
        scores_N = self._row_scores(bound, mask_N)
        if not hasattr(bound.scorer, "finish"):
            return scores_N
        rows, out_N = np.flatnonzero(mask_N), np.zeros_like(scores_N)
        candidates = self.supply.candidates(rows, bound.scorer, self._known(mask_N))
        out_N[rows] = finished(bound.scorer, scores_N[rows], candidates, bound.params)
        return out_N

    def _row_scores(self, bound: BoundScore, mask_N: MaskArray) -> FloatArray:
        if bound.scorer.needs | optional_needs(bound.scorer) <= OF_PREDICTIONS:
            predictions = self.supply.require_predictions(bound.scorer.name, mask_N)
            return predictions.scores(self.supply.snapshot, bound.scorer, bound.params, bound.params_json)
        out_N = np.zeros(len(mask_N), np.float32)
        rows, conditioned = np.flatnonzero(mask_N), self._known(mask_N)
        self.supply.require_named(bound.scorer, rows)
        step = self.supply.rows_within(SCORE_BLOCK_BYTES, bound.scorer, SCORE_BLOCK_ROWS)
        for start in range(0, len(rows), step):
            # A scorer of somebody else may never ask for a stop itself.
            checkpoint()
            block = rows[start : start + step]
            out_N[block] = bound.scorer.score(self.supply.candidates(block, bound.scorer, conditioned), bound.params)
        return out_N

    def _known(self, mask_N: MaskArray) -> RowArray:
        return known_rows(self.supply.snapshot, self.bound.plan.draw_from, mask_N)
