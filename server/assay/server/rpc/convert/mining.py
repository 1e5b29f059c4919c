"""Messages of mining.proto."""

from collections.abc import Mapping, Sequence

from assay.server.core.limits import MAX_CHUNK, MAX_PICKS, MAX_PREDICTIONS
from assay.server.core.mining.messages import (
    CostEstimate,
    MineResult,
    MineSpec,
    PresetView,
    Provenance,
    ScoreSpec,
    StrategyView,
)
from assay.server.core.records.arrays import FloatArray
from assay.server.rpc.convert.arrays import matrix_message
from assay.server.rpc.convert.plans import plan_message, quota_message, to_plan
from assay.server.rpc.convert.scalars import bounded, bounded_or, duration_message
from assay.server.rpc.convert.structs import struct_message
from assay.server.rpc.convert.tasks import kind_message
from assay.server.rpc.convert.types import (
    pick_message,
    provenance_message,
    states,
    timing_messages,
    to_filter,
)
from assay.strategies import Need
from assay.v1 import mining_pb2

_WIRE_KINDS: Mapping[str, mining_pb2.StrategyKind.ValueType] = {
    "scorer": mining_pb2.STRATEGY_KIND_SCORER,
    "selector": mining_pb2.STRATEGY_KIND_SELECTOR,
}
_WIRE_NEEDS: Mapping[str, mining_pb2.Need.ValueType] = {
    need: mining_pb2.Need.Value(f"NEED_{need.name}") for need in Need
}


def to_mine_spec(request: mining_pb2.MineRequest) -> MineSpec:
    """Picks to make. Raises AssayError: INVALID_ARGUMENT beyond the bounds, or as to_plan."""
    return MineSpec(
        size=bounded(request.size, 1, MAX_PICKS, "size"),
        plan=to_plan(request.plan) if request.HasField("plan") else None,
        filter=to_filter(request.filter),
        seed=request.seed,
        validate_only=request.validate_only,
        payload=request.include_payload,
        predictions=bounded(request.predictions, 0, MAX_PREDICTIONS, "predictions"),
    )


def to_score_spec(request: mining_pb2.ScoreRequest) -> ScoreSpec:
    """Scores to stream. Raises AssayError: INVALID_ARGUMENT beyond the bounds, or as to_plan."""
    return ScoreSpec(
        plan=to_plan(request.plan) if request.HasField("plan") else None,
        filter=to_filter(request.filter),
        states=states(request.states),
        chunk=bounded_or(request, "chunk_size", 1, MAX_CHUNK, 10_000),
    )


def mine_message(pool_id: str, result: MineResult) -> mining_pb2.MineResponse:
    """Picks for the wire."""
    return mining_pb2.MineResponse(
        picks=[pick_message(pool_id, pick) for pick in result.picks],
        plan=plan_message(result.plan),
        provenance=provenance_message(pool_id, result.provenance),
        estimate=None if result.estimate is None else _estimate_message(result.estimate),
        timings=timing_messages(result.timings),
        quotas=[quota_message(view) for view in result.quotas],
    )


def _estimate_message(estimate: CostEstimate) -> mining_pb2.CostEstimate:
    return mining_pb2.CostEstimate(
        candidates=estimate.candidates,
        bytes_read=estimate.bytes_read,
        gflop=estimate.gflop,
        duration=duration_message(estimate.seconds),
    )


def score_message(
    pool_id: str, ids: Sequence[str], scores_N: FloatArray, provenance: Provenance | None
) -> mining_pb2.ScoreResponse:
    """A chunk of scores for the wire; the first one carries the provenance."""
    return mining_pb2.ScoreResponse(
        ids=ids,
        scores=matrix_message(scores_N.reshape(-1, 1)),
        provenance=None if provenance is None else provenance_message(pool_id, provenance),
    )


def strategy_message(view: StrategyView) -> mining_pb2.Strategy:
    """A strategy for the wire."""
    return mining_pb2.Strategy(
        name=view.name,
        kind=_WIRE_KINDS[view.kind],
        summary=view.summary,
        params_schema=struct_message(view.params_schema),
        needs=[_WIRE_NEEDS[need] for need in view.needs],
        optional_needs=[_WIRE_NEEDS[need] for need in view.optional_needs],
        deterministic=view.deterministic,
        needs_utility=view.needs_utility,
        tasks=[kind_message(task) for task in view.tasks],
    )


def preset_message(view: PresetView) -> mining_pb2.Preset:
    """A preset for the wire."""
    return mining_pb2.Preset(
        name=view.name, summary=view.summary, plan=plan_message(view.plan), is_default=view.is_default
    )
