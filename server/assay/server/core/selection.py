"""Runs a plan over a snapshot: filter -> scores -> shortlist -> select."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.messages import Provenance
from assay.server.core.plans import OF_PREDICTIONS, TOP, BoundPlan, BoundScore
from assay.server.core.predictions import PredictionCache, Predictions
from assay.server.core.snapshot import Snapshot
from assay.server.core.types import FloatArray, MaskArray, RowArray, State
from assay.strategies import Candidates, Need, Scorer, Selector
from assay.strategies.candidates import ArraySource
from assay.strategies.kernels.hashing import hash_order
from assay.strategies.kernels.topk import top_k

# Rows scored at once by a scorer that needs embeddings.
SCORE_BLOCK_ROWS = 16_384
_SERVED = OF_PREDICTIONS | {
    Need.EMBEDDINGS,
    Need.LABELED_EMBEDDINGS,
    Need.LABELED_CLASSES,
    Need.MEMBER_PROBS,
}
EXPLORATION = "exploration"


class Stopwatch:
    """Time per stage, in order."""

    def __init__(self) -> None:
        self._laps: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time of a block to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._laps[name] = self._laps.get(name, 0.0) + time.perf_counter() - start

    @property
    def timings(self) -> tuple[tuple[str, float], ...]:
        """(stage, seconds), in the order of their first use."""
        return tuple(self._laps.items())


@dataclass(frozen=True, slots=True)
class Picks:
    """What a plan picked: rows in pick order, a score each, and its parts (arrays along the picks)."""

    rows: RowArray
    scores: FloatArray
    parts: Mapping[str, FloatArray]
    exploring: MaskArray
    provenance: Provenance


@dataclass(frozen=True, slots=True)
class Selection:
    """A plan over a snapshot, step by step."""

    snapshot: Snapshot
    bound: BoundPlan
    seed: int
    cache: PredictionCache
    limits: Limits
    watch: Stopwatch = field(default_factory=Stopwatch)

    def candidates(self, states: tuple[State, ...] = (State.UNLABELED,)) -> MaskArray:
        """Rows that may be picked. Shape [row_count]."""
        with self.watch.stage("filter"):
            return self.snapshot.mask(states, self.bound.plan.filter)

    def run(self, size: int, *, allow_fewer: bool = False) -> Picks:
        """Picks `size` candidates; with allow_fewer, as many as there are but at least one.

        Raises:
            AssayError: POOL_EXHAUSTED; NEED_MISSING, MODEL_NOT_STOCHASTIC; INVALID_PLAN for a selection too large to
            hold.
            StrategyError: an array that a strategy refuses.
        """
        mask_N = self.candidates()
        count = int(np.count_nonzero(mask_N))
        if count == 0 or (count < size and not allow_fewer):
            raise self.exhausted(count, size)
        self.check_needs()
        size = min(size, count)
        exploring = min(size, round(size * self.bound.plan.exploration))
        terms = self._terms(mask_N)
        utility_N = self._product(terms)
        rows, scores = self._choose(mask_N, utility_N, size - exploring)
        with self.watch.stage("select"):
            extra = self._explore(mask_N, rows, exploring)
        all_rows = np.concatenate([rows, extra])
        return Picks(
            rows=all_rows,
            scores=np.concatenate([scores, np.zeros(len(extra), np.float32)]),
            parts={bound.scorer.name: term_N[all_rows] for bound, term_N in zip(self.bound.scores, terms, strict=True)},
            exploring=np.arange(len(all_rows)) >= len(rows),
            provenance=self.provenance(count),
        )

    def provenance(self, candidates: int) -> Provenance:
        """What this selection is computed from."""
        pool = self.snapshot.pool
        predictions = self._predictions() if self.bound.needs & (OF_PREDICTIONS | {Need.MEMBER_PROBS}) else None
        source = predictions.source.name if predictions else "none"
        return Provenance(
            backbone=pool.backbone,
            head=pool.head if source == "head" else "",
            source=source,
            space=pool.space,
            epoch=pool.epoch,
            plan_digest=self.bound.digest,
            seed=self.seed,
            candidates=candidates,
        )

    def utility(self, mask_N: MaskArray) -> FloatArray | None:
        """Product of the plan's scores over all rows; only those of the candidates mean something."""
        return self._product(self._terms(mask_N))

    def _terms(self, mask_N: MaskArray) -> list[FloatArray]:
        with self.watch.stage("score"):
            return [self._scores(bound, mask_N) for bound in self.bound.scores]

    def _product(self, terms: list[FloatArray]) -> FloatArray | None:
        if len(terms) == 1 and self.bound.scores[0].strength == 1.0:
            return terms[0]
        with self.watch.stage("score"):
            product_N: FloatArray | None = None
            for scores_N, bound in zip(terms, self.bound.scores, strict=True):
                # Scores may be slightly below 0 by rounding; a power of those is not a number.
                power_N = np.maximum(scores_N, 0) ** np.float32(bound.strength)
                product_N = power_N if product_N is None else product_N * power_N
            return product_N

    def _scores(self, bound: BoundScore, mask_N: MaskArray) -> FloatArray:
        if bound.scorer.needs <= OF_PREDICTIONS:
            predictions = self.require_predictions(bound.scorer, mask_N)
            return predictions.scores(self.snapshot, bound.scorer, bound.params, bound.params_json)
        out_N = np.zeros(self.snapshot.row_count, np.float32)
        rows = np.flatnonzero(mask_N)
        for start in range(0, len(rows), SCORE_BLOCK_ROWS):
            block = rows[start : start + SCORE_BLOCK_ROWS]
            out_N[block] = bound.scorer.score(self._arrays_of(block, bound.scorer), bound.params)
        return out_N

    def check_needs(self) -> None:
        """Raises AssayError(NEED_MISSING | MODEL_NOT_STOCHASTIC) for what cannot be given, before anything is
        computed."""
        asked: list[Scorer | Selector] = [*(bound.scorer for bound in self.bound.scores), self.bound.selector]
        for strategy in asked:
            beyond = strategy.needs - _SERVED
            if beyond:
                raise _beyond(strategy.name, beyond)
            if strategy.needs & OF_PREDICTIONS:
                self.require_source(strategy.name)
            if Need.MEMBER_PROBS in strategy.needs and self._members() < 2:
                raise _not_stochastic(strategy.name)

    def _members(self) -> int:
        head = self.snapshot.head
        return 0 if head is None else len(head.weights.weights_KDC)

    def require_predictions(self, strategy: Scorer | Selector, mask_N: MaskArray) -> Predictions:
        """Predictions of all candidates. Raises AssayError(NEED_MISSING)."""
        predictions = self.require_source(strategy.name)
        if predictions.complete(self.snapshot):
            return predictions
        unknown = mask_N & ~predictions.known(self.snapshot)
        if unknown.any():
            raise _some_unpredicted(strategy.name, predictions.source.name, int(np.count_nonzero(unknown)))
        return predictions

    def require_source(self, strategy: str) -> Predictions:
        """Predictions of the best source. Raises AssayError(NEED_MISSING) where nothing predicts."""
        predictions = self._predictions()
        if predictions is None:
            raise _no_predictions(strategy)
        return predictions

    def _predictions(self) -> Predictions | None:
        return self.cache.of(self.snapshot)

    def _choose(self, mask_N: MaskArray, utility_N: FloatArray | None, size: int) -> tuple[RowArray, FloatArray]:
        if utility_N is not None and self.bound.selector.name == TOP:
            with self.watch.stage("select"):
                rows = top_k(utility_N, size, mask_N)
                return rows, utility_N[rows]
        rows = self._shortlist(mask_N, utility_N, size)
        with self.watch.stage("select"):
            candidates = self._arrays_of(rows, self.bound.selector)
            selection = self.bound.selector.select(
                candidates,
                size,
                np.random.default_rng(self.seed),
                None if utility_N is None else utility_N[rows],
                self.bound.selector_params,
            )
        return rows[selection.indices], selection.scores

    def _shortlist(self, mask_N: MaskArray, utility_N: FloatArray | None, size: int) -> RowArray:
        shortlist = self.bound.plan.shortlist
        if shortlist is None or utility_N is None:
            return np.flatnonzero(mask_N)
        with self.watch.stage("shortlist"):
            keep = max(size, shortlist.size or shortlist.per_pick * size)
            return np.sort(top_k(utility_N, keep, mask_N))

    def _arrays_of(self, rows: RowArray, strategy: Scorer | Selector) -> Candidates:
        """Candidates of some rows, with just the arrays that the strategy needs."""
        needs = strategy.needs
        makers: dict[Need, ArraySource] = {
            Need.EMBEDDINGS: partial(self._embeddings, rows),
            Need.LABELED_EMBEDDINGS: partial(self._embeddings, self.snapshot.labeled_rows),
            Need.LABELED_CLASSES: self._labeled_classes,
            Need.MEMBER_PROBS: partial(self._member_probs, rows),
        }
        arrays = {need: maker for need, maker in makers.items() if need in needs}
        if needs & OF_PREDICTIONS:
            mask_N = np.zeros(self.snapshot.row_count, np.bool_)
            mask_N[rows] = True
            predictions = self.require_predictions(strategy, mask_N)
            arrays[predictions.source.need] = lambda: predictions.values(self.snapshot)[rows]
        return Candidates(len(rows), arrays, keys_N=rows)

    def _embeddings(self, rows: RowArray) -> FloatArray:
        needed = len(rows) * self.snapshot.pool.dimension * 4
        if needed > self.limits.max_selector_bytes:
            raise AssayError(
                Reason.INVALID_PLAN,
                f"The plan would hold {needed:,} bytes of embeddings at once, more than "
                f"{self.limits.max_selector_bytes:,}. "
                "Give it a shortlist or a filter.",
                bytes=needed,
            )
        return self.snapshot.gather(rows)

    def _labeled_classes(self) -> np.ndarray:
        return self.snapshot.classes.at(self.snapshot.labeled_rows).astype(np.int64)

    def _member_probs(self, rows: RowArray) -> FloatArray:
        head = self.snapshot.head
        assert head is not None  # check_needs
        return self.cache.heads.member_probs(head.weights, self._embeddings(rows))

    def _explore(self, mask_N: MaskArray, picked: RowArray, size: int) -> RowArray:
        if size == 0:
            return np.empty(0, np.int64)
        left = mask_N.copy()
        left[picked] = False
        rows = np.flatnonzero(left)
        return rows[hash_order(rows, self.seed)[:size]]

    def exhausted(self, count: int, size: int) -> AssayError:
        """The error for more picks than candidates."""
        return AssayError(
            Reason.POOL_EXHAUSTED,
            f"The plan may pick from {count} samples, and {size} were asked for. "
            "Ask for fewer, loosen the filter, add samples, or release leases.",
            candidates=count,
            size=size,
        )


def _no_predictions(strategy: str) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs class probabilities, and nothing predicts yet. Label samples of at least two "
        "classes and train a head, push predictions with the samples, or use a strategy without this need "
        "(random, k_center).",
        need="probs",
        strategy=strategy,
    )


def _beyond(strategy: str, needs: frozenset[Need]) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs {', '.join(sorted(needs))}, which this server cannot compute. "
        "Choose another strategy.",
        needs=",".join(sorted(needs)),
        strategy=strategy,
    )


def _not_stochastic(strategy: str) -> AssayError:
    return AssayError(
        Reason.MODEL_NOT_STOCHASTIC,
        f"The strategy {strategy!r} compares members of a committee, and the current model is a single one. "
        "Train a head with members of 2 or more, and activate it.",
        strategy=strategy,
    )


def _some_unpredicted(strategy: str, source: str, count: int) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs class probabilities, and {count} of the candidates have none from the source "
        f"{source!r}. Train a head, push predictions for them, or filter them out.",
        need="probs",
        strategy=strategy,
        missing=count,
    )
