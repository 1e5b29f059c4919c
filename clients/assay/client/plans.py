"""Plans: what to mine, as ``filter -> scores -> shortlist -> select``.

>>> Plan.preset("margin", exploration=0.1)
>>> Plan(scores=[scorer("margin")], shortlist=Shortlist(per_pick=50), select=selector("k_center"))

Wherever a plan is taken, the name of a preset ("margin") will do.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from google.protobuf import json_format, struct_pb2

from assay.client.filters import Filter
from assay.v1 import types_pb2 as pb


@dataclass(frozen=True, slots=True)
class Shortlist:
    """Keeps only the candidates of highest utility for a costlier selector: `size` in all, or `per_pick` for each pick.

    Raises:
        ValueError: not exactly one of the two is given.
    """

    size: int | None = None
    per_pick: int | None = None

    def __post_init__(self) -> None:
        if (self.size is None) == (self.per_pick is None):
            raise ValueError("a shortlist has either size or per_pick")


@dataclass(frozen=True, slots=True)
class ScoreTerm:
    """One scoring strategy of a plan; `strength` is the exponent of its score in the product of all."""

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
class Plan:
    """What to mine.

    Attributes:
        name: name of a preset; scores and select are then empty, and where, shortlist and exploration replace its own.
        where: which samples may be picked.
        scores: scores whose product is the utility.
        shortlist: cuts the candidates before the selector.
        select: chooses the picks; None takes those of highest utility.
        exploration: share of the picks drawn at random instead, from 0 to 1.
    """

    name: str = ""
    where: Filter | None = None
    scores: Sequence[ScoreTerm] = ()
    shortlist: Shortlist | None = None
    select: SelectTerm | None = None
    exploration: float = 0.0

    @classmethod
    def preset(
        cls, name: str, *, where: Filter | None = None, shortlist: Shortlist | None = None, exploration: float = 0.0
    ) -> "Plan":
        """The preset of this name, with its filter, shortlist or exploration replaced where given."""
        return cls(name=name, where=where, shortlist=shortlist, exploration=exploration)

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


def plan_to_proto(plan: PlanLike | None) -> pb.Plan | None:
    """The message of a plan; a string is the name of a preset; None stays unset."""
    if plan is None:
        return None
    if isinstance(plan, str):
        return pb.Plan(preset=plan)
    return _plan_message(plan)


def _plan_message(plan: Plan) -> pb.Plan:
    return pb.Plan(
        preset=plan.name,
        filter=plan.where.to_proto() if plan.where is not None else None,
        scores=[_score_term(term) for term in plan.scores],
        shortlist=_shortlist_message(plan.shortlist) if plan.shortlist else None,
        select=pb.SelectTerm(strategy=plan.select.strategy, params=_struct(plan.select.params))
        if plan.select
        else None,
        exploration=plan.exploration,
    )


def plan_from_proto(message: pb.Plan) -> Plan:
    """The plan of a message."""
    select = message.select
    return Plan(
        name=message.preset,
        where=Filter.from_proto(message.filter),
        scores=tuple(
            ScoreTerm(term.strategy, struct_dict(term.params), term.strength or 1.0) for term in message.scores
        ),
        shortlist=_shortlist(message.shortlist),
        select=SelectTerm(select.strategy, struct_dict(select.params)) if message.HasField("select") else None,
        exploration=message.exploration,
    )


def struct_dict(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The JSON object of a struct."""
    return json_format.MessageToDict(struct)


def _struct(params: Mapping[str, Any]) -> struct_pb2.Struct | None:
    return json_format.ParseDict(dict(params), struct_pb2.Struct()) if params else None


def _score_term(term: ScoreTerm) -> pb.ScoreTerm:
    return pb.ScoreTerm(strategy=term.strategy, params=_struct(term.params), strength=term.strength)


def _shortlist_message(shortlist: Shortlist) -> pb.Shortlist:
    if shortlist.size is not None:
        return pb.Shortlist(size=shortlist.size)
    return pb.Shortlist(per_pick=shortlist.per_pick or 0)


def _shortlist(message: pb.Shortlist) -> Shortlist | None:
    match message.WhichOneof("kind"):
        case "size":
            return Shortlist(size=message.size)
        case "per_pick":
            return Shortlist(per_pick=message.per_pick)
        case _:
            return None
