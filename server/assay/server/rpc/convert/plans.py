"""Plans, and what became of their quotas."""

from collections.abc import Mapping
from typing import Literal, TypeAlias

from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.messages import QuotaView
from assay.server.core.mining.plan.terms import (
    Combination,
    DrawFrom,
    Empty,
    ObjectsTerm,
    Plan,
    Quotas,
    QuotaTerm,
    Reduction,
    ScoreTerm,
    SelectTerm,
    Shortlist,
    ShortlistOrder,
    Stochastic,
)
from assay.server.rpc.convert.scalars import choice, finite, scalar_message
from assay.server.rpc.convert.structs import params, struct_message
from assay.server.rpc.convert.types import filter_message, scalar, to_filter
from assay.v1 import types_pb2

StochasticWord: TypeAlias = Literal["power", "softmax", "softrank"]

_COMBINATIONS: Mapping[int, Combination] = {
    types_pb2.SCORE_COMBINATION_UNSPECIFIED: Combination.PRODUCT,
    types_pb2.SCORE_COMBINATION_PRODUCT: Combination.PRODUCT,
    types_pb2.SCORE_COMBINATION_RANK_SUM: Combination.RANK_SUM,
}
_WIRE_COMBINATIONS = {
    Combination.PRODUCT: types_pb2.SCORE_COMBINATION_PRODUCT,
    Combination.RANK_SUM: types_pb2.SCORE_COMBINATION_RANK_SUM,
}
_WIRE_DRAWS = {
    DrawFrom.UNLABELED: types_pb2.DRAW_FROM_UNLABELED,
    DrawFrom.SUSPECTS: types_pb2.DRAW_FROM_SUSPECTS,
    DrawFrom.DISPUTED: types_pb2.DRAW_FROM_DISPUTED,
    DrawFrom.ALL: types_pb2.DRAW_FROM_ALL,
}
_DRAWS: Mapping[int, DrawFrom] = {
    types_pb2.DRAW_FROM_UNSPECIFIED: DrawFrom.UNLABELED,
    **{int(value): source for source, value in _WIRE_DRAWS.items()},
}
_ORDERS: Mapping[int, ShortlistOrder] = {
    types_pb2.SHORTLIST_ORDER_UNSPECIFIED: ShortlistOrder.TOP,
    types_pb2.SHORTLIST_ORDER_TOP: ShortlistOrder.TOP,
    types_pb2.SHORTLIST_ORDER_RANDOM: ShortlistOrder.RANDOM,
}
_WIRE_ORDERS = {
    ShortlistOrder.TOP: types_pb2.SHORTLIST_ORDER_TOP,
    ShortlistOrder.RANDOM: types_pb2.SHORTLIST_ORDER_RANDOM,
}
_REDUCTIONS: Mapping[int, Reduction] = {
    types_pb2.OBJECT_REDUCTION_UNSPECIFIED: Reduction.SUM,
    types_pb2.OBJECT_REDUCTION_SUM: Reduction.SUM,
    types_pb2.OBJECT_REDUCTION_MEAN: Reduction.MEAN,
    types_pb2.OBJECT_REDUCTION_MAX: Reduction.MAX,
    types_pb2.OBJECT_REDUCTION_TOP_M: Reduction.TOP_M,
}
_WIRE_REDUCTIONS = {each: types_pb2.ObjectReduction.ValueType(value) for value, each in _REDUCTIONS.items()}
_EMPTY: Mapping[int, Empty] = {
    types_pb2.EMPTY_SAMPLES_UNSPECIFIED: Empty.RANDOM,
    types_pb2.EMPTY_SAMPLES_FLOOR: Empty.FLOOR,
    types_pb2.EMPTY_SAMPLES_MEAN: Empty.MEAN,
    types_pb2.EMPTY_SAMPLES_RANDOM: Empty.RANDOM,
}
_WIRE_EMPTY = {each: types_pb2.EmptySamples.ValueType(value) for value, each in _EMPTY.items()}
_KINDS: Mapping[int, StochasticWord] = {
    types_pb2.STOCHASTIC_KIND_UNSPECIFIED: "power",
    types_pb2.STOCHASTIC_KIND_POWER: "power",
    types_pb2.STOCHASTIC_KIND_SOFTMAX: "softmax",
    types_pb2.STOCHASTIC_KIND_SOFTRANK: "softrank",
}
_WIRE_KINDS: Mapping[str, types_pb2.StochasticKind.ValueType] = {
    "power": types_pb2.STOCHASTIC_KIND_POWER,
    "softmax": types_pb2.STOCHASTIC_KIND_SOFTMAX,
    "softrank": types_pb2.STOCHASTIC_KIND_SOFTRANK,
}


LEAST_OVERLAP = 2


# --- from the wire -------------------------------------------------------------------------------------------------


def to_plan(message: types_pb2.Plan) -> Plan:
    """A plan.

    Raises:
        AssayError: INVALID_FILTER, INVALID_PLAN, INVALID_PARAMETER, INVALID_ARGUMENT or NOT_FINITE for a malformed
        part; what the plan means is checked by the core.
    """
    return Plan(
        preset=message.preset,
        filter=to_filter(message.filter),
        scores=tuple(_score_term(term) for term in message.scores),
        shortlist=_shortlist(message.shortlist) if message.HasField("shortlist") else None,
        select=SelectTerm(message.select.strategy, params(message.select.params))
        if message.HasField("select")
        else None,
        exploration=finite(message.exploration, "exploration"),
        combination=choice(_COMBINATIONS, message.combination, "combination"),
        stochastic=_stochastic(message.stochastic) if message.HasField("stochastic") else None,
        quotas=_quotas(message.quotas) if message.HasField("quotas") else None,
        near_duplicate_radius=finite(message.near_duplicate_radius, "near_duplicate_radius"),
        query=_query(message.query) if message.HasField("query") else (),
        draw_from=choice(_DRAWS, message.draw_from, "draw_from"),
        overlap_share=finite(message.overlap_share, "overlap_share"),
        overlap_annotations=message.overlap_annotations or (LEAST_OVERLAP if message.overlap_share else 0),
        prediction_source=message.prediction_source,
        objects=_objects_term(message.objects) if message.HasField("objects") else None,
    )


def _score_term(term: types_pb2.ScoreTerm) -> ScoreTerm:
    strength = finite(term.strength, "strength") if term.HasField("strength") else 1.0
    return ScoreTerm(term.strategy, params(term.params), strength)


def _objects_term(term: types_pb2.ObjectsTerm) -> ObjectsTerm:
    return ObjectsTerm(
        measure=term.measure or "entropy",
        reduction=choice(_REDUCTIONS, term.reduction, "objects.reduction"),
        m=term.m or 5,
        class_weights={name: finite(weight, "class_weights") for name, weight in term.class_weights.items()},
        empty=choice(_EMPTY, term.empty, "objects.empty"),
        strength=finite(term.strength, "strength") if term.HasField("strength") else 1.0,
    )


def _shortlist(message: types_pb2.Shortlist) -> Shortlist:
    size, per_pick, neighbors = message.size, message.per_pick, message.seals.neighbors
    if min(size, per_pick, neighbors) < 0 or size + per_pick + neighbors == 0:
        raise AssayError(Reason.INVALID_PLAN, "A shortlist needs a size, a per_pick or seals.neighbors of 1 or more.")
    return Shortlist(size, per_pick, choice(_ORDERS, message.order, "order"), neighbors)


def _stochastic(message: types_pb2.Stochastic) -> Stochastic:
    beta = finite(message.beta, "beta") if message.HasField("beta") else 1.0
    return Stochastic(choice(_KINDS, message.kind, "kind"), beta)


def _quotas(message: types_pb2.Quotas) -> Quotas:
    return Quotas(tuple(_quota(quota) for quota in message.quotas), message.attribute)


def _quota(message: types_pb2.Quota) -> QuotaTerm:
    if message.value.WhichOneof("kind") is None:
        raise AssayError(Reason.INVALID_PLAN, "A quota names no group: give a class name or a value of the attribute.")
    return QuotaTerm(
        value=scalar(message.value),
        minimum=message.minimum,
        maximum=message.maximum if message.HasField("maximum") else None,
        target=finite(message.target, "target") if message.HasField("target") else None,
    )


def _query(message: types_pb2.Query) -> tuple[str, ...]:
    if not message.sample_ids:
        raise AssayError(Reason.INVALID_PLAN, "The query names no samples; give at least one, or leave it out.")
    return tuple(message.sample_ids)


# --- to the wire ---------------------------------------------------------------------------------------------------


def plan_message(plan: Plan) -> types_pb2.Plan:
    """A plan for the wire."""
    return types_pb2.Plan(
        preset=plan.preset,
        filter=filter_message(plan.filter),
        scores=[
            types_pb2.ScoreTerm(strategy=term.strategy, params=struct_message(term.params), strength=term.strength)
            for term in plan.scores
        ],
        shortlist=_shortlist_message(plan.shortlist),
        select=_select_message(plan.select),
        exploration=plan.exploration,
        combination=_WIRE_COMBINATIONS[plan.combination],
        stochastic=_stochastic_message(plan.stochastic),
        quotas=_quotas_message(plan.quotas),
        near_duplicate_radius=plan.near_duplicate_radius,
        query=types_pb2.Query(sample_ids=plan.query) if plan.query else None,
        draw_from=_WIRE_DRAWS[plan.draw_from],
        overlap_share=plan.overlap_share,
        overlap_annotations=plan.overlap_annotations,
        prediction_source=plan.prediction_source,
        objects=_objects_message(plan.objects),
    )


def _shortlist_message(shortlist: Shortlist | None) -> types_pb2.Shortlist | None:
    if shortlist is None:
        return None
    if shortlist.neighbors:
        return types_pb2.Shortlist(seals=types_pb2.Shortlist.Seals(neighbors=shortlist.neighbors))
    order = _WIRE_ORDERS[shortlist.order]
    if shortlist.size:
        return types_pb2.Shortlist(size=shortlist.size, order=order)
    return types_pb2.Shortlist(per_pick=shortlist.per_pick, order=order)


def _objects_message(term: ObjectsTerm | None) -> types_pb2.ObjectsTerm | None:
    if term is None:
        return None
    return types_pb2.ObjectsTerm(
        measure=term.measure,
        reduction=_WIRE_REDUCTIONS[term.reduction],
        m=term.m,
        class_weights=term.class_weights,
        empty=_WIRE_EMPTY[term.empty],
        strength=term.strength,
    )


def _select_message(select: SelectTerm | None) -> types_pb2.SelectTerm | None:
    if select is None:
        return None
    return types_pb2.SelectTerm(strategy=select.strategy, params=struct_message(select.params))


def _stochastic_message(stochastic: Stochastic | None) -> types_pb2.Stochastic | None:
    if stochastic is None:
        return None
    return types_pb2.Stochastic(kind=_WIRE_KINDS[stochastic.kind], beta=stochastic.beta)


def _quotas_message(quotas: Quotas | None) -> types_pb2.Quotas | None:
    if quotas is None:
        return None
    return types_pb2.Quotas(attribute=quotas.attribute, quotas=[_quota_message(quota) for quota in quotas.quotas])


def _quota_message(quota: QuotaTerm) -> types_pb2.Quota:
    return types_pb2.Quota(
        value=scalar_message(quota.value), minimum=quota.minimum, maximum=quota.maximum, target=quota.target
    )


def quota_message(view: QuotaView) -> types_pb2.QuotaReport:
    """What became of a quota, for the wire."""
    return types_pb2.QuotaReport(
        value=scalar_message(view.quota.value),
        picked=view.picked,
        available=view.available,
        minimum=view.quota.minimum,
        maximum=view.quota.maximum,
        target=view.quota.target,
    )
