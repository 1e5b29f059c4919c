"""Messages shared by the services: filters, samples, picks, provenance."""

import math
from collections.abc import Mapping, Sequence

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_IDS, MAX_TEXT_BYTES
from assay.server.core.mining.messages import PickView, Provenance
from assay.server.core.pools.messages import SampleView
from assay.server.core.records.arrays import Scalar
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, HasId, Not, OneOf
from assay.server.core.records.pools import State
from assay.server.core.records.samples import SampleRecord
from assay.server.core.stopwatch import Timings
from assay.server.rpc.convert import names
from assay.server.rpc.convert.scalars import choice, duration_message, scalar_message
from assay.server.rpc.convert.values import value_message
from assay.v1 import types_pb2

STATES: Mapping[int, State] = {
    types_pb2.SAMPLE_STATE_UNLABELED: State.UNLABELED,
    types_pb2.SAMPLE_STATE_LEASED: State.LEASED,
    types_pb2.SAMPLE_STATE_LABELED: State.LABELED,
    types_pb2.SAMPLE_STATE_EXCLUDED: State.EXCLUDED,
    types_pb2.SAMPLE_STATE_ANSWERED: State.ANSWERED,
    types_pb2.SAMPLE_STATE_DISPUTED: State.DISPUTED,
}
_WIRE_STATES = {state: types_pb2.SampleState.ValueType(value) for value, state in STATES.items()}
_WIRE_SOURCES: Mapping[str, types_pb2.PredictionSource.ValueType] = {
    "none": types_pb2.PREDICTION_SOURCE_NONE,
    "head": types_pb2.PREDICTION_SOURCE_HEAD,
    "backbone": types_pb2.PREDICTION_SOURCE_BACKBONE,
    "pushed": types_pb2.PREDICTION_SOURCE_PUSHED,
    "named": types_pb2.PREDICTION_SOURCE_NAMED,
}
_OPS: Mapping[int, str] = {
    types_pb2.COMPARE_OP_EQ: "==",
    types_pb2.COMPARE_OP_NE: "!=",
    types_pb2.COMPARE_OP_LT: "<",
    types_pb2.COMPARE_OP_LE: "<=",
    types_pb2.COMPARE_OP_GT: ">",
    types_pb2.COMPARE_OP_GE: ">=",
}
_WIRE_OPS = {op: types_pb2.CompareOp.ValueType(value) for value, op in _OPS.items()}

MAX_FILTER_DEPTH = 16
MAX_CONDITIONS = 100
MAX_ONE_OF = 10_000


def states(values: Sequence[int]) -> tuple[State, ...]:
    """States to keep. Raises AssayError(INVALID_ARGUMENT) for an unspecified or unknown one."""
    return tuple(choice(STATES, value, "states") for value in values)


def state_message(state: State) -> types_pb2.SampleState.ValueType:
    """The state of a sample that is served, for the wire."""
    return _WIRE_STATES.get(state, types_pb2.SAMPLE_STATE_UNSPECIFIED)


# --- filters -------------------------------------------------------------------------------------------------------


def to_filter(message: types_pb2.Filter) -> Filter | None:
    """A filter; None where its condition is unset, which matches every sample.

    Raises:
        AssayError: INVALID_FILTER where it is nested too deep, too large, or lacks an operator, a value or a part.
    """
    return None if message.WhichOneof("kind") is None else _filter(message, 1)


def _invalid_filter(problem: str) -> AssayError:
    return AssayError(Reason.INVALID_FILTER, f"The filter {problem}.")


def _filter(message: types_pb2.Filter, depth: int) -> Filter:
    if depth > MAX_FILTER_DEPTH:
        raise _invalid_filter(f"is nested more than {MAX_FILTER_DEPTH} deep")
    match message.WhichOneof("kind"):
        case "compare":
            return _comparison(message.compare)
        case "one_of":
            _within(len(message.one_of.values), MAX_ONE_OF, "values to be one of")
            return OneOf(message.one_of.attribute, tuple(scalar(value) for value in message.one_of.values))
        case "all_of":
            return AllOf(_conditions(message.all_of, depth))
        case "any_of":
            return AnyOf(_conditions(message.any_of, depth))
        case "negation":
            return Not(_filter(message.negation, depth + 1))
        case "ids":
            _within(len(message.ids.ids), MAX_IDS, "ids")
            return HasId(tuple(message.ids.ids))
        case _:
            raise _invalid_filter("has a part without a condition")


def _within(count: int, most: int, what: str) -> None:
    if not 1 <= count <= most:
        raise _invalid_filter(f"has {count:,} {what}; it must be from 1 to {most:,}")


def _conditions(message: types_pb2.Filter.Conditions, depth: int) -> tuple[Filter, ...]:
    _within(len(message.filters), MAX_CONDITIONS, "conditions in one place")
    return tuple(_filter(part, depth + 1) for part in message.filters)


def _comparison(message: types_pb2.Filter.Comparison) -> Compare:
    try:
        op = _OPS[message.op]
    except KeyError:
        raise _invalid_filter(f"compares {message.attribute[:100]!r} by no usable operator ({message.op})") from None
    return Compare(message.attribute, op, scalar(message.value))


def scalar(message: types_pb2.AttributeValue) -> Scalar:
    """Value of an attribute. Raises AssayError(INVALID_FILTER) where it is unset, too long or not finite."""
    match message.WhichOneof("kind"):
        case "string_value":
            if len(message.string_value.encode()) > MAX_TEXT_BYTES:
                raise _invalid_filter(f"has a text of more than {MAX_TEXT_BYTES:,} bytes")
            return message.string_value
        case "double_value":
            if not math.isfinite(message.double_value):
                raise _invalid_filter("has a number that is not finite")
            return message.double_value
        case "int64_value":
            return message.int64_value
        case "bool_value":
            return message.bool_value
        case _:
            raise _invalid_filter("has a value that is unset")


def filter_message(value: Filter | None) -> types_pb2.Filter | None:
    """A filter for the wire; None stays None, which leaves a field unset."""
    match value:
        case None:
            return None
        case Compare():
            compare = types_pb2.Filter.Comparison(
                attribute=value.attribute, op=_WIRE_OPS[value.op], value=scalar_message(value.value)
            )
            return types_pb2.Filter(compare=compare)
        case OneOf():
            values = [scalar_message(part) for part in value.values]
            return types_pb2.Filter(one_of=types_pb2.Filter.Membership(attribute=value.attribute, values=values))
        case AllOf():
            return types_pb2.Filter(all_of=_conditions_message(value.filters))
        case AnyOf():
            return types_pb2.Filter(any_of=_conditions_message(value.filters))
        case Not():
            return types_pb2.Filter(negation=filter_message(value.filter))
        case HasId():
            return types_pb2.Filter(ids=types_pb2.Filter.Ids(ids=value.ids))


def _conditions_message(filters: Sequence[Filter]) -> types_pb2.Filter.Conditions:
    parts = (filter_message(part) for part in filters)
    return types_pb2.Filter.Conditions(filters=[part for part in parts if part is not None])


# --- samples and picks ---------------------------------------------------------------------------------------------


def sample_message(pool_id: str, view: SampleView) -> types_pb2.Sample:
    """A sample for the wire."""
    message = types_pb2.Sample(
        name=names.sample_name(pool_id, view.record.id),
        id=view.record.id,
        state=state_message(view.state),
        label=value_message(view.label),
        row=view.row,
    )
    fill_content(message, view.record)
    return message


def fill_content(message: types_pb2.Sample, record: SampleRecord) -> None:
    """Gives a sample what its file holds of it."""
    message.uri = record.uri
    message.payload = record.payload
    message.payload_media_type = record.payload_media_type
    for name, value in record.attributes.items():
        message.attributes[name].CopyFrom(scalar_message(value))


def pick_message(pool_id: str, view: PickView) -> types_pb2.Pick:
    """A pick for the wire."""
    return types_pb2.Pick(
        sample=sample_message(pool_id, view.sample),
        rank=view.rank,
        score=view.score,
        parts=[types_pb2.ScorePart(strategy=strategy, score=score) for strategy, score in view.parts],
        predictions=[
            types_pb2.Prediction(class_name=class_name, probability=probability)
            for class_name, probability in view.predictions
        ],
        exploring=view.exploring,
        numbers=[
            types_pb2.NumberPrediction(target=each.target, value=each.value, deviation=each.deviation)
            for each in view.numbers
        ],
    )


def source_message(source: str) -> types_pb2.PredictionSource.ValueType:
    """Where probabilities come from, for the wire."""
    return _WIRE_SOURCES[source]


def provenance_message(pool_id: str, provenance: Provenance) -> types_pb2.Provenance:
    """A provenance for the wire."""
    return types_pb2.Provenance(
        backbone=names.model_name(pool_id, provenance.backbone),
        head=names.model_name(pool_id, provenance.head),
        prediction_source=source_message(provenance.source),
        embedding_space=provenance.space,
        epoch=provenance.epoch,
        plan_digest=provenance.plan_digest,
        seed=provenance.seed,
        candidates=provenance.candidates,
        named_source=names.source_name(pool_id, provenance.named),
    )


def timing_messages(timings: Timings) -> list[types_pb2.StageTiming]:
    """Time per stage for the wire."""
    return [types_pb2.StageTiming(stage=stage, duration=duration_message(value)) for stage, value in timings]
