"""Plans: what to mine, as ``filter -> scores -> shortlist -> select``, within quotas, apart, and some at random.

>>> Plan.preset("margin", exploration=0.1)
>>> Plan(scores=[scorer("margin")], shortlist=Shortlist(per_pick=50), select=selector("k_center"))
>>> Plan.preset("power_margin", quotas=Quotas([Quota("cat", minimum=5)]), near_duplicate_radius=0.1)

Wherever a plan is taken, the name of a preset ("margin") will do; every strategy is one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from google.protobuf import json_format, struct_pb2

from assay.client._names import WireEnum, enum_value, enum_word, id_list
from assay.client._values import json_value, kind_of, number, shown, whole
from assay.client.filters import AttributeScalar, Filter, attribute_scalar, attribute_value
from assay.v1 import types_pb2 as pb

DrawFrom: TypeAlias = Literal["unlabeled", "suspects", "disputed", "all"]


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Keeps only some of the candidates for a costlier selector: `size` in all, or `per_pick` for each pick, of highest
    utility or at random; or the nearest `neighbors` of each labeled sample (SEALS).

    Raises:
        ValueError: not exactly one of the three is given.
    """

    size: int | None = None
    per_pick: int | None = None
    order: Literal["top", "random"] = "top"
    neighbors: int | None = None

    def __post_init__(self) -> None:
        if [self.size, self.per_pick, self.neighbors].count(None) != 2:
            raise ValueError("a shortlist has either size or per_pick or neighbors")


@dataclass(frozen=True, slots=True)
class Stochastic:
    """Noise on the utility, so that the picks are a draw: chances in proportion to utility^beta ("power"),
    exp(beta utility) ("softmax") or rank^-beta ("softrank")."""

    kind: Literal["power", "softmax", "softrank"] = "power"
    beta: float = 1.0


@dataclass(frozen=True, slots=True)
class Quota:
    """Bounds for the samples of one group: a class, or a value of an attribute. `target` is a wished share of the
    picks, from 0 to 1."""

    value: AttributeScalar
    minimum: int = 0
    maximum: int | None = None
    target: float | None = None


@dataclass(frozen=True, slots=True)
class Quotas:
    """How many picks may come from which group. The groups are the classes that the model predicts, or, with `by`, the
    values of that attribute. Minima and maxima that cannot be met raise `QuotaInfeasible`; targets never do."""

    quotas: Sequence[Quota]
    by: str = ""


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One scoring strategy of a plan; `strength` is the exponent of its score in the product, or its weight in the sum
    of ranks."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class SelectTerm:
    """The selector of a plan."""

    strategy: str
    params: Mapping[str, Any] = field(default_factory=dict)


def scorer(strategy: str, *, strength: float = 1.0, **params: Any) -> ScoreTerm:
    """A scoring term: `strategy` with these parameters; those left out take their defaults."""
    return ScoreTerm(strategy, params, strength)


def selector(strategy: str, **params: Any) -> SelectTerm:
    """A selecting term: `strategy` with these parameters; those left out take their defaults."""
    return SelectTerm(strategy, params)


@dataclass(frozen=True, slots=True)
class ObjectUncertainty:
    """How uncertain the predicted objects of a sample are, in pools of boxes and spans.

    Attributes:
        measure: of an object: "entropy", "margin", "least_confidence" or "ratio".
        reduction: how those of its objects make that of a sample; "top_m" is the mean of the `m` highest.
        class_weights: what objects of a class count; 1 where none is given.
        empty: what a sample scores in which no object is predicted: 0 ("floor"), what the others do on average
            ("mean"), or what one of them does, drawn ("random").
        strength: as in `ScoreTerm`.
    """

    measure: str = "entropy"
    reduction: Literal["sum", "mean", "max", "top_m"] = "sum"
    m: int = 5
    class_weights: Mapping[str, float] = field(default_factory=dict)
    empty: Literal["floor", "mean", "random"] = "random"
    strength: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What to mine.

    Attributes:
        name: name of a preset; scores, combination and select are then its own, what else is given replaces its own.
        where: which samples may be picked.
        scores: scores that make the utility.
        shortlist: cuts the candidates before the selector.
        select: chooses the picks; None takes those of highest utility.
        exploration: share of the picks drawn at random instead, from 0 to 1.
        combination: the product of score ** strength, or the mean of the ranks weighted by strength.
        stochastic: noise on the ranking by utility: of the picks, or, where the selector is no "top", of the shortlist.
        quotas: bounds by group.
        near_duplicate_radius: picks are farther than this (Euclidean) from each other and from what is labeled or
            leased. The vectors of a cosine pool have length 1: there it is sqrt(2 - 2 cosine), from 0 to 2.
        query: ids of samples that targeted strategies look for more of.
        draw_from: from which samples: those of which answers are wanted still; the suspects of the last audit, for
            somebody else to look at; those whose answers do not decide; or all of these, by the same scores.
        overlap_share: share of the picks, 0 to 1, of which more annotations are wanted than of others, once
            `next_batch` leases them; `overlap_annotations` says how many.
        prediction_source: whose predictions it goes by: a source of your own (`update_predictions`); "models/ID", a
            head that need not be active; or "head", "backbone" or "pushed". "" is the best of those three that there
            is.
        objects: how uncertain predicted objects are, as one score more.
    """

    name: str = ""
    where: Filter | None = None
    scores: Sequence[ScoreTerm] = ()
    shortlist: Shortlist | None = None
    select: SelectTerm | None = None
    exploration: float = 0.0
    combination: Literal["product", "rank_sum"] = "product"
    stochastic: Stochastic | None = None
    quotas: Quotas | None = None
    near_duplicate_radius: float = 0.0
    query: Sequence[str] = ()
    draw_from: DrawFrom = "unlabeled"
    overlap_share: float = 0.0
    overlap_annotations: int = 2
    prediction_source: str = ""
    objects: ObjectUncertainty | None = None

    @classmethod
    def preset(
        cls,
        name: str,
        *,
        where: Filter | None = None,
        shortlist: Shortlist | None = None,
        exploration: float = 0.0,
        stochastic: Stochastic | None = None,
        quotas: Quotas | None = None,
        near_duplicate_radius: float = 0.0,
        query: Sequence[str] = (),
        draw_from: DrawFrom = "unlabeled",
        overlap_share: float = 0.0,
        overlap_annotations: int = 2,
        prediction_source: str = "",
    ) -> "Plan":
        """The preset of this name, with its own parts replaced where others are given."""
        return cls(
            name=name,
            where=where,
            shortlist=shortlist,
            exploration=exploration,
            stochastic=stochastic,
            quotas=quotas,
            near_duplicate_radius=near_duplicate_radius,
            query=query,
            draw_from=draw_from,
            overlap_share=overlap_share,
            overlap_annotations=overlap_annotations,
            prediction_source=prediction_source,
        )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Plan":
        """The plan that a JSON object stands for; its fields are those of the message `assay.v1.Plan`.

        Raises:
            ValueError: an unknown field or a wrong type.
        """
        try:
            return plan_from_proto(json_format.ParseDict(dict(data), pb.Plan()))
        except json_format.ParseError as error:
            raise ValueError(f"no plan: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """The plan as a JSON object, the inverse of `from_dict`."""
        return json_format.MessageToDict(_plan_message(self), preserving_proto_field_name=True)


PlanLike: TypeAlias = Plan | str

# Parameters travel as JSON numbers: float64.
_EXACT = 2**53

# What a field says when it is not set is left out.
_COMBINATIONS = {
    "product": pb.SCORE_COMBINATION_UNSPECIFIED,
    "rank_sum": pb.SCORE_COMBINATION_RANK_SUM,
}
_DRAWS: Mapping[str, pb.DrawFrom.ValueType] = {
    "unlabeled": pb.DRAW_FROM_UNSPECIFIED,
    "suspects": pb.DRAW_FROM_SUSPECTS,
    "disputed": pb.DRAW_FROM_DISPUTED,
    "all": pb.DRAW_FROM_ALL,
}
_ORDERS = {
    "top": pb.SHORTLIST_ORDER_UNSPECIFIED,
    "random": pb.SHORTLIST_ORDER_RANDOM,
}


def plan_to_proto(plan: PlanLike | None) -> pb.Plan | None:
    """The message of a plan; a string is the name of a preset; None stays unset.

    Raises:
        TypeError: neither.
    """
    if plan is None:
        return None
    if isinstance(plan, str):
        return pb.Plan(preset=plan)
    if not isinstance(plan, Plan):
        hint = ": Plan.from_dict reads a mapping" if isinstance(plan, Mapping) else ""
        raise TypeError(f"a plan is a Plan or the name of a preset, not {shown(plan)}, {kind_of(plan)}{hint}")
    return _plan_message(plan)


def _plan_message(plan: Plan) -> pb.Plan:
    return pb.Plan(
        preset=plan.name,
        filter=plan.where.to_proto() if plan.where is not None else None,
        scores=[_score_term(term) for term in plan.scores],
        shortlist=_shortlist_message(plan.shortlist) if plan.shortlist else None,
        select=pb.SelectTerm(strategy=plan.select.strategy, params=_struct(plan.select.strategy, plan.select.params))
        if plan.select
        else None,
        exploration=plan.exploration,
        combination=_COMBINATIONS[plan.combination],
        stochastic=_stochastic_message(plan.stochastic) if plan.stochastic else None,
        quotas=_quotas_message(plan.quotas) if plan.quotas else None,
        near_duplicate_radius=plan.near_duplicate_radius,
        query=pb.Query(sample_ids=id_list(plan.query, "query")) if len(plan.query) else None,
        draw_from=_DRAWS[plan.draw_from],
        overlap_share=number(plan.overlap_share, "overlap_share"),
        overlap_annotations=whole(plan.overlap_annotations, "overlap_annotations", 2, 100) if plan.overlap_share else 0,
        prediction_source=plan.prediction_source,
        objects=_objects_message(plan.objects) if plan.objects else None,
    )


def plan_from_proto(message: pb.Plan) -> Plan:
    """The plan of a message."""
    select = message.select
    return Plan(
        name=message.preset,
        where=Filter.from_proto(message.filter),
        scores=tuple(
            ScoreTerm(term.strategy, struct_dict(term.params), term.strength if term.HasField("strength") else 1.0)
            for term in message.scores
        ),
        shortlist=_shortlist(message.shortlist),
        select=SelectTerm(select.strategy, struct_dict(select.params)) if message.HasField("select") else None,
        exploration=message.exploration,
        combination=_word(pb.ScoreCombination, message.combination, "product"),  # type: ignore[arg-type]
        stochastic=_stochastic(message.stochastic) if message.HasField("stochastic") else None,
        quotas=_quotas(message.quotas) if message.HasField("quotas") else None,
        near_duplicate_radius=message.near_duplicate_radius,
        query=tuple(message.query.sample_ids),
        draw_from=_word(pb.DrawFrom, message.draw_from, "unlabeled"),  # type: ignore[arg-type]
        overlap_share=message.overlap_share,
        overlap_annotations=message.overlap_annotations or 2,
        prediction_source=message.prediction_source,
        objects=_objects(message.objects) if message.HasField("objects") else None,
    )


def struct_dict(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The JSON object of a struct."""
    return json_format.MessageToDict(struct)


def _struct(strategy: str, params: Mapping[str, Any]) -> struct_pb2.Struct | None:
    """Parameters for the wire; numpy's numbers and arrays are taken as those of Python.

    Raises:
        ValueError: NaN, infinity, or a whole number that a float64 cannot hold.
        TypeError: what JSON has no word for.
    """
    told = {name: json_value(value, f"parameter {name!r} of {strategy!r}") for name, value in params.items()}
    for name, value in told.items():
        if isinstance(value, int) and abs(value) > _EXACT:
            raise ValueError(f"parameter {name!r} of {strategy!r} is {value}: at most 2**53 travels unchanged")
    return json_format.ParseDict(told, struct_pb2.Struct()) if told else None


def _score_term(term: ScoreTerm) -> pb.ScoreTerm:
    strength = number(term.strength, f"the strength of {term.strategy!r}")
    return pb.ScoreTerm(strategy=term.strategy, params=_struct(term.strategy, term.params), strength=strength)


def _word(enum: WireEnum[int], number: int, default: str) -> str:
    return enum_word(enum, number) if number else default


def _objects_message(objects: ObjectUncertainty) -> pb.ObjectsTerm:
    return pb.ObjectsTerm(
        measure=objects.measure,
        reduction=enum_value(pb.ObjectReduction, objects.reduction),
        m=objects.m,
        class_weights={name: number(weight, "class_weights") for name, weight in objects.class_weights.items()},
        empty=enum_value(pb.EmptySamples, objects.empty),
        strength=number(objects.strength, "strength"),
    )


def _objects(message: pb.ObjectsTerm) -> ObjectUncertainty:
    reduction: Any = _word(pb.ObjectReduction, message.reduction, "sum")
    empty: Any = _word(pb.EmptySamples, message.empty, "random")
    strength = message.strength if message.HasField("strength") else 1.0
    return ObjectUncertainty(
        message.measure or "entropy", reduction, message.m or 5, dict(message.class_weights), empty, strength
    )


def _shortlist_message(shortlist: Shortlist) -> pb.Shortlist:
    if shortlist.neighbors is not None:
        return pb.Shortlist(seals=pb.Shortlist.Seals(neighbors=shortlist.neighbors))
    order = _ORDERS[shortlist.order]
    if shortlist.size is not None:
        return pb.Shortlist(size=shortlist.size, order=order)
    assert shortlist.per_pick is not None  # one of the three is given
    return pb.Shortlist(per_pick=shortlist.per_pick, order=order)


def _shortlist(message: pb.Shortlist) -> Shortlist | None:
    order: Any = _word(pb.ShortlistOrder, message.order, "top")
    match message.WhichOneof("kind"):
        case "size":
            return Shortlist(size=message.size, order=order)
        case "per_pick":
            return Shortlist(per_pick=message.per_pick, order=order)
        case "seals":
            return Shortlist(neighbors=message.seals.neighbors)
        case _:
            return None


def _stochastic_message(stochastic: Stochastic) -> pb.Stochastic:
    return pb.Stochastic(kind=enum_value(pb.StochasticKind, stochastic.kind), beta=number(stochastic.beta, "beta"))


def _stochastic(message: pb.Stochastic) -> Stochastic:
    kind: Any = _word(pb.StochasticKind, message.kind, "power")
    return Stochastic(kind, message.beta if message.HasField("beta") else 1.0)


def _quotas_message(quotas: Quotas) -> pb.Quotas:
    return pb.Quotas(attribute=quotas.by, quotas=[_quota_message(quota) for quota in quotas.quotas])


def _quota_message(quota: Quota) -> pb.Quota:
    return pb.Quota(
        value=attribute_value(quota.value), minimum=quota.minimum, maximum=quota.maximum, target=quota.target
    )


def _quotas(message: pb.Quotas) -> Quotas:
    return Quotas(tuple(_quota(quota) for quota in message.quotas), message.attribute)


def _quota(message: pb.Quota) -> Quota:
    value = attribute_scalar(message.value)
    return Quota(
        "" if value is None else value,
        message.minimum,
        message.maximum if message.HasField("maximum") else None,
        message.target if message.HasField("target") else None,
    )
