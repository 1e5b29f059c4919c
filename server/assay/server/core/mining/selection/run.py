"""Runs a plan over a snapshot: filter -> scores -> shortlist -> select, within quotas, apart, and some at random."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.mining.drawing import drawable, known_rows
from assay.server.core.mining.frontiers import Frontiers
from assay.server.core.mining.messages import Provenance, QuotaView
from assay.server.core.mining.plan.binding import BoundPlan
from assay.server.core.mining.plan.terms import DrawFrom
from assay.server.core.mining.scoring import Scoring
from assay.server.core.mining.selection.grouping import Grouping, group, reduced
from assay.server.core.mining.selection.pickers import Picked, Picker, RandomPicker, SelectorPicker, TopPicker
from assay.server.core.mining.selection.spacing import Spaced, pick_apart
from assay.server.core.mining.shortlists import Cut
from assay.server.core.mining.supply import OF_MODEL, Supply
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.splits import SPLIT
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.pools import State
from assay.server.core.stopwatch import Stopwatch
from assay.strategies import Need, Strategy
from assay.strategies.composition.quotas import Quota, allocate

NOTHING = np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Picks:
    """What a plan picked: rows in pick order, a score each, and what each score of the plan gave them, in its order."""

    rows: RowArray
    scores: FloatArray
    parts: tuple[tuple[str, FloatArray], ...]
    exploring: MaskArray
    provenance: Provenance
    quotas: tuple[QuotaView, ...] = ()


@dataclass(frozen=True, slots=True)
class Field:
    """Who may be picked.

    Attributes:
        mask_N: the candidates, over all rows.
        count: how many they are.
        grouping: the plan's quotas over them, if it has any.
    """

    mask_N: MaskArray
    count: int
    grouping: Grouping | None

    @property
    def bounds(self) -> Sequence[Quota]:
        """The quotas as numbers."""
        return () if self.grouping is None else self.grouping.bounds


@dataclass(frozen=True, slots=True)
class Selection:
    """A plan over a snapshot, step by step."""

    snapshot: Snapshot
    bound: BoundPlan
    seed: int
    cache: PredictionCache
    frontiers: Frontiers
    limits: Limits
    watch: Stopwatch = field(default_factory=Stopwatch)
    withheld: RowArray | None = None  # rows that are not offered to who asks, whatever their state

    @property
    def supply(self) -> Supply:
        """Arrays for the plan's strategies."""
        return Supply(self.snapshot, self.cache, self.limits, self.bound.plan.query, self.bound.plan.prediction_source)

    @property
    def scoring(self) -> Scoring:
        """Scores of the plan."""
        return Scoring(self.supply, self.bound)

    def candidates(self, states: tuple[State, ...] = ()) -> MaskArray:
        """Rows that the plan draws from and its filter lets through, or of such states, if they are given; those that
        are set apart among them: they are scored as others are, and never picked. Shape [row_count]."""
        with self.watch.stage("filter"):
            condition = self.bound.plan.filter
            mask_N = self.snapshot.mask(states, condition) if states else self._drawable()
            if self.withheld is not None:
                mask_N[self.withheld] = False
            return mask_N

    def _drawable(self) -> MaskArray:
        mask_N, condition = drawable(self.snapshot, self.bound.plan.draw_from), self.bound.plan.filter
        return mask_N if condition is None else mask_N & self.snapshot.matches(condition)

    def check(self, size: int, *, allow_fewer: bool = False) -> Field:
        """Who may be picked, once it is clear that the plan can run and its quotas be met; nothing is scored for it.

        Raises:
            AssayError: POOL_EXHAUSTED; NEED_MISSING, MODEL_NOT_STOCHASTIC; QUOTA_INFEASIBLE.
        """
        mask_N = self.candidates()
        mask_N[self.snapshot.set_apart] = False
        count = int(np.count_nonzero(mask_N))
        if count == 0 or (count < size and not allow_fewer):
            raise self.exhausted(count, size)
        self.check_needs()
        quotas = self.bound.plan.quotas
        if quotas is None:
            return Field(mask_N, count, None)
        with self.watch.stage("quotas"):
            grouping = group(quotas, self.supply, mask_N)
            grouping.require(grouping.counts(np.flatnonzero(mask_N)), grouping.bounds, min(size, count))
        return Field(mask_N, count, grouping)

    def check_needs(self) -> None:
        """Raises AssayError(NEED_MISSING | MODEL_NOT_STOCHASTIC) for what cannot be given, before anything is
        computed."""
        asked: list[Strategy] = [*(bound.scorer for bound in self.bound.scores), self.bound.selector]
        for strategy in asked:
            self.supply.check(strategy)

    def run(self, size: int, *, allow_fewer: bool = False) -> Picks:
        """Picks `size` candidates; with allow_fewer, as many as there are but at least one.

        Raises:
            AssayError: as check; POOL_EXHAUSTED or QUOTA_INFEASIBLE too where too few are apart; INVALID_PLAN for a
            selection too large to hold.
            StrategyError: an array that a strategy refuses.
        """
        found = self.check(size, allow_fewer=allow_fewer)
        size = min(size, found.count)
        exploring = min(size, round(size * self.bound.plan.exploration))
        (rows, scores), terms = self._best(found, size, exploring)
        with self.watch.stage("select"):
            extra = self._explore(found, rows, size, exploring)
        all_rows = np.concatenate([rows, extra])
        if len(all_rows) < size and not (allow_fewer and len(all_rows)):
            raise self._too_near(found.count, len(all_rows), size)
        return Picks(
            rows=all_rows,
            scores=np.concatenate([scores, np.zeros(len(extra), np.float32)]),
            parts=tuple(
                (bound.scorer.name, term_N[all_rows]) for bound, term_N in zip(self.bound.scores, terms, strict=True)
            ),
            exploring=np.arange(len(all_rows)) >= len(rows),
            provenance=self.provenance(found.count),
            quotas=self._report(found, all_rows),
        )

    def _best(self, found: Field, size: int, exploring: int) -> tuple[Picked, list[FloatArray]]:
        """What the plan picks by its scores and its selector, and the scores."""
        bounds, wanted = _without_exploration(found, size, exploring), size - exploring
        cut = self._cut(found, bounds, wanted)
        worth_N = found.mask_N
        if cut is not None and self._cut_before:
            with self.watch.stage("shortlist"):
                worth_N = cut.before_scores(worth_N, self.frontiers)
        with self.watch.stage("score"):
            terms = self.scoring.terms(worth_N)
            utility_N = self.scoring.utility(terms, worth_N)
            ranking_N = self.scoring.drawn(utility_N, worth_N, self.seed)
        with self.watch.stage("select"):
            picker = self._picker(found, utility_N, ranking_N, cut)
            return self._pick(picker, worth_N, bounds, wanted), terms

    def _cut(self, found: Field, bounds: Sequence[Quota], picks: int) -> Cut | None:
        shortlist = self.bound.plan.shortlist
        if shortlist is None:
            return None
        return Cut(self.snapshot, shortlist, found.grouping, bounds, self.seed, picks)

    def _picker(
        self, found: Field, utility_N: FloatArray | None, ranking_N: FloatArray | None, cut: Cut | None
    ) -> Picker:
        if ranking_N is not None and self.bound.ranks_only:
            return TopPicker(ranking_N, found.grouping)
        return SelectorPicker(self.supply, self.bound, self.seed, utility_N, ranking_N, cut, found.grouping)

    def _pick(
        self,
        picker: Picker,
        open_N: MaskArray,
        bounds: Sequence[Quota],
        size: int,
        picked: RowArray = NOTHING,
    ) -> Picked:
        if size == 0:
            return NOTHING, np.empty(0, np.float32)
        radius, known = self.bound.plan.near_duplicate_radius, picked
        if radius or picker.looks_around:
            # Only then: finding them takes a pass over the states of all rows.
            conditioned = known_rows(self.snapshot, self.bound.plan.draw_from, open_N)
            known = np.concatenate([conditioned, picked])
        if radius == 0:
            return picker.batch(open_N, bounds, size, known)
        final = isinstance(picker, RandomPicker) or not self._cut_before
        # A copy of a sample that heads are measured by would let them see the answer.
        spaced = Spaced(self.supply, radius, open_N.copy(), known, self.snapshot.measuring_rows, size)
        return pick_apart(picker, spaced, bounds, size, final=final)

    def _explore(self, found: Field, picked: RowArray, size: int, exploring: int) -> RowArray:
        """Picks at random; also those that a shortlist cut before the scores left too few samples apart for."""
        wanted = size - len(picked) if self._cut_before else exploring
        if wanted == 0:
            return picked[:0]
        open_N = found.mask_N.copy()
        open_N[picked] = False
        bounds: Sequence[Quota] = ()
        if found.grouping is not None:
            bounds = reduced(found.bounds, found.grouping.counts(picked), size, wanted)
        return self._pick(RandomPicker(self.seed, found.grouping), open_N, bounds, wanted, picked)[0]

    @property
    def _cut_before(self) -> bool:
        """Whether a shortlist keeps some candidates from being scored at all."""
        shortlist = self.bound.plan.shortlist
        return shortlist is not None and not shortlist.by_utility

    def _report(self, found: Field, rows: RowArray) -> tuple[QuotaView, ...]:
        if found.grouping is None:
            return ()
        return found.grouping.report(found.grouping.counts(np.flatnonzero(found.mask_N)), rows)

    def provenance(self, candidates: int) -> Provenance:
        """What this selection is computed from."""
        pool = self.snapshot.pool
        source = self.supply.source_word() if self._uses_model() else "none"
        return Provenance(
            backbone=pool.backbone,
            head=pool.head if source == "head" else "",
            source=source,
            space=pool.space,
            epoch=pool.epoch,
            plan_digest=self.bound.digest,
            seed=self.seed,
            candidates=candidates,
            named=self.bound.plan.prediction_source if source == "named" else "",
        )

    def _uses_model(self) -> bool:
        quotas = self.bound.plan.quotas
        by_class = quotas is not None and not quotas.attribute
        return by_class or bool((self.bound.needs | self.bound.optional) & (OF_MODEL | {Need.WORTH}))

    def exhausted(self, count: int, size: int) -> AssayError:
        """The error for more picks than candidates."""
        withheld = self._withheld_count()
        apart = self._apart_count()
        gave_back = ""
        if apart:
            gave_back = f" {apart} more are set apart by their attribute {SPLIT!r}, to measure heads by."
        if withheld:
            gave_back += f" {withheld} more this worker has already, has answered or gave back: the last are offered "
            gave_back += "again with include_released."
        if count == 0 and self.bound.plan.draw_from is DrawFrom.SUSPECTS:
            gave_back += " The plan draws from suspects: audit the pool for them (AuditPool)."
        return AssayError(
            Reason.POOL_EXHAUSTED,
            f"The plan may pick from {count} samples, and {size} were asked for. "
            f"Ask for fewer, loosen the filter, add samples, or release leases.{gave_back}",
            candidates=count,
            size=size,
            released=withheld,
            set_apart=apart,
        )

    def _apart_count(self) -> int:
        """Rows that could be picked but for being set apart."""
        rows = self.snapshot.set_apart
        return int(np.count_nonzero(self.candidates()[rows])) if len(rows) else 0

    def _withheld_count(self) -> int:
        """Rows that could be picked but for being withheld."""
        if self.withheld is None:
            return 0
        mask_N = self._drawable()
        mask_N[self.snapshot.set_apart] = False
        return int(np.count_nonzero(mask_N[self.withheld]))

    def _too_near(self, count: int, apart: int, size: int) -> AssayError:
        return AssayError(
            Reason.POOL_EXHAUSTED,
            f"Of the {count} samples that the plan may pick from, only {apart} are farther than near_duplicate_radius "
            f"({self.bound.plan.near_duplicate_radius:g}) from each other and from all that is labeled or leased, and "
            f"{size} were asked for. Ask for fewer, or take a smaller radius.",
            candidates=count,
            apart=apart,
            size=size,
        )


def _without_exploration(found: Field, size: int, exploring: int) -> Sequence[Quota]:
    """The bounds of what is not drawn at random; the exploring picks get their share of each group."""
    if found.grouping is None or not exploring:
        return found.bounds
    available_G = found.grouping.counts(np.flatnonzero(found.mask_N))
    shared_G = allocate(allocate(available_G, found.bounds, size), (), exploring)
    return reduced(found.bounds, shared_G, size, size - exploring)
