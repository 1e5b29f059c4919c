"""Mining: strategies, scores and picks. Changes nothing but the memory of request ids."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from assay.server.core import checks
from assay.server.core.answers import Answer
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.mining import description
from assay.server.core.mining.frontiers import Frontiers
from assay.server.core.mining.messages import (
    CostEstimate,
    MineResult,
    MineSpec,
    PresetView,
    ScoreSpec,
    ScoreStream,
    StrategyView,
)
from assay.server.core.mining.plan import binding, defaults, presets
from assay.server.core.mining.plan import checks as plan_checks
from assay.server.core.mining.plan.binding import BoundPlan
from assay.server.core.mining.plan.objects import spelled_out
from assay.server.core.mining.plan.presets import Registry
from assay.server.core.mining.plan.terms import Plan, Shortlist
from assay.server.core.mining.selection.run import Selection
from assay.server.core.models.chosen import ChosenHeads
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.records.arrays import FloatArray, MaskArray
from assay.server.core.records.filters import Filter
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.tasks import TaskKind
from assay.server.core.stopwatch import Stopwatch
from assay.strategies import Need, StrategyError, kind, params
from assay.strategies.base import optional_needs

# Rates of one commodity core, for estimates only: streaming reads, and matrix products.
_BYTES_PER_S = 5e9
_FLOP_PER_S = 50e9


class MiningService:
    """Answers which samples are worth labeling next."""

    def __init__(
        self,
        pools: PoolDirectory,
        catalog: Catalog,
        clock: Clock,
        limits: Limits,
        registry: Registry,
        heads: ChosenHeads,
    ) -> None:
        self._pools = pools
        self._catalog = catalog
        self._clock = clock
        self._limits = limits
        self._registry = registry
        self._heads = heads

    def strategies(self) -> list[StrategyView]:
        """All strategies that load, by name."""
        views = (view for name in self._registry.names() for view in self._view(name))
        return sorted(views, key=lambda view: view.name)

    def presets(self, task: TaskKind = TaskKind.CLASSIFICATION) -> list[PresetView]:
        """All presets of a task, by name."""
        chosen = defaults.of_task(task)
        return [replace(view, is_default=view.name == chosen) for view in presets.listed(self._registry, task)]

    def bound(self, pool_id: str, plan: Plan, condition: Filter | None) -> BoundPlan:
        """A plan as it would be run in a pool, with its defaults filled in. Raises AssayError(INVALID_PLAN |
        POOL_NOT_FOUND), StrategyError."""
        return self._bound(self._pools.get(pool_id).snapshot, plan, condition)

    def _bound(self, snapshot: Snapshot, plan: Plan, condition: Filter | None) -> BoundPlan:
        return binding.bind(spelled_out(plan, snapshot.pool.task), condition, self._registry, snapshot.pool.task.kind)

    def _view(self, name: str) -> Iterator[StrategyView]:
        try:
            strategy = self._registry.get(name)
        except StrategyError:
            return  # A broken third-party strategy says why when it is asked for by name.
        yield StrategyView(
            name=name,
            kind=kind(strategy),
            summary=strategy.summary,
            params_schema=params.schema(strategy.params),
            needs=tuple(sorted(strategy.needs)),
            optional_needs=tuple(sorted(optional_needs(strategy))),
            deterministic=getattr(strategy, "deterministic", True),
            needs_utility=getattr(strategy, "needs_utility", False),
            tasks=tuple(task for task in TaskKind if presets.serves(strategy, task, self._registry)),
        )

    def score(self, pool_id: str, spec: ScoreSpec) -> ScoreStream:
        """Scores of all matching samples by row. Raises AssayError(INVALID_PLAN | NEED_MISSING | ...),
        StrategyError."""
        pool = self._pools.get(pool_id)
        snapshot = self._heads.seen_by(pool.snapshot, _source(spec.plan))
        checks.chunk_size(spec.chunk)
        bound = self._bound(snapshot, _to_score(spec.plan, snapshot), spec.filter)
        if not bound.scores:
            raise AssayError(Reason.INVALID_PLAN, "The plan has no scores. Name at least one scorer.")
        plan_checks.fits(bound.plan, snapshot)
        selection = Selection(
            snapshot, bound, 0, pool.derived.get(PredictionCache), pool.derived.get(Frontiers), self._limits
        )
        selection.check_needs()
        mask_N = selection.candidates(spec.states)
        utility_N = selection.scoring.utility(selection.scoring.terms(mask_N), mask_N)
        assert utility_N is not None  # the plan has scores
        provenance = selection.provenance(int(np.count_nonzero(mask_N)))
        return ScoreStream(provenance, _chunks(snapshot, mask_N, utility_N, spec.chunk))

    def mine(self, pool_id: str, spec: MineSpec, key: RequestKey) -> MineResult:
        """Picks by a plan. Raises AssayError(POOL_EXHAUSTED | INVALID_PLAN | NEED_MISSING | ...), StrategyError,
        RequestReplayed."""
        pool = self._pools.begin(pool_id, key)
        checks.size(spec.size, self._limits.max_picks)
        watch = Stopwatch()
        with watch.stage("snapshot"):
            snapshot = self._heads.seen_by(pool.snapshot, _source(spec.plan))
            default = defaults.of_source(spec.plan, defaults.to_mine(snapshot), snapshot.pool.task.kind)
            bound = self._bound(snapshot, defaults.completed(spec.plan, default), spec.filter)
            plan_checks.fits(bound.plan, snapshot)
        predictions, frontiers = pool.derived.get(PredictionCache), pool.derived.get(Frontiers)
        selection = Selection(snapshot, bound, spec.seed, predictions, frontiers, self._limits, watch)
        if spec.validate_only:
            estimate = self._estimate(selection, spec.size)
            Answer(key).give(estimate)
            return estimate
        chosen = selection.run(spec.size)
        with watch.stage("describe"):
            views = description.describe(
                snapshot,
                chosen,
                predictions,
                source=bound.plan.prediction_source,
                payload=spec.payload,
                predictions=spec.predictions,
            )
        result = MineResult(views, bound.plan, chosen.provenance, None, watch.timings, chosen.quotas)
        pool.remember(key, result)
        return result

    def _estimate(self, selection: Selection, size: int) -> MineResult:
        """Checks a plan as far as that needs no computing, and says what it would cost."""
        count = selection.check(size).count
        return MineResult(
            (),
            selection.bound.plan,
            selection.provenance(count),
            _cost(selection, count, size),
            selection.watch.timings,
        )


def _source(plan: Plan | None) -> str:
    return plan.prediction_source if plan else ""


def _to_score(given: Plan | None, snapshot: Snapshot) -> Plan:
    """The plan to score by; a task that has no usual doubt has no default, and needs none where a plan says it all."""
    if given is not None and (given.preset or given.scores or given.objects):
        return given
    return defaults.completed(given, defaults.to_score(snapshot))


def _cost(selection: Selection, count: int, size: int) -> CostEstimate:
    """Cost with nothing cached: predictions of the pool, scores, and a selector's distances to each pick."""
    pool = selection.snapshot.pool
    rows, width = selection.snapshot.row_count, pool.dimension
    shape = selection.snapshot.task.prediction_shape
    columns = 0 if shape is None else shape.columns
    bytes_read, flop = 0.0, 0.0
    if selection.bound.scores:
        bytes_read += rows * 4.0 * (width + columns)
        flop += 2.0 * rows * width * columns
    if Need.EMBEDDINGS in selection.bound.selector.needs:
        shortlist = selection.bound.plan.shortlist
        kept = count if shortlist is None else min(count, _kept(shortlist, size, len(selection.snapshot.learned_rows)))
        bytes_read += kept * 4.0 * width
        flop += 2.0 * kept * width * (size + len(selection.snapshot.learned_rows))
    return CostEstimate(count, int(bytes_read), flop / 1e9, bytes_read / _BYTES_PER_S + flop / _FLOP_PER_S)


def _kept(shortlist: Shortlist, size: int, labeled: int) -> int:
    return max(size, shortlist.neighbors * labeled) if shortlist.neighbors else shortlist.keep(size)


def _chunks(
    snapshot: Snapshot, mask_N: MaskArray, utility_N: FloatArray, size: int
) -> Iterator[tuple[list[str], FloatArray]]:
    rows = np.flatnonzero(mask_N)
    for start in range(0, len(rows), size):
        block = rows[start : start + size]
        yield snapshot.ids(block), utility_N[block]
