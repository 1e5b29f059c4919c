"""Checks of pools to create and of batches to add."""

import json
import re
from collections.abc import Mapping, Sequence

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.limits import MAX_ANNOTATIONS, MAX_ID_BYTES, MAX_METADATA, MAX_TEXT_BYTES, MAX_URI_BYTES, Limits
from assay.server.core.pools.labels import labels_of
from assay.server.core.pools.messages import IngestBatch, PoolSpec
from assay.server.core.records.annotations import Policy
from assay.server.core.records.samples import AttributeColumn, SampleColumns
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.base import Task
from assay.server.core.tasks.editing import check_task

_OF_SEVERAL = (Policy.MAJORITY, Policy.UNANIMOUS, Policy.WEIGHTED)
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def pool_spec(spec: PoolSpec, limits: Limits) -> None:
    """A pool to create. Raises AssayError(INVALID_NAME | INVALID_ARGUMENT | INVALID_TASK | POLICY_INFEASIBLE |
    TOO_LARGE)."""
    checks.name(spec.pool_id, "pool")
    check_task(spec.task, limits.max_classes)
    annotations_per_sample(spec.annotations_per_sample)
    policy(spec.policy, spec.annotations_per_sample)
    metadata(spec.metadata)
    if not 0 <= spec.dimension <= limits.max_dimension:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"The dimension is 0 (open) to {limits.max_dimension}, not {spec.dimension}."
        )


def annotations_per_sample(count: int) -> None:
    """How many answers are wanted of a sample. Raises AssayError(INVALID_ARGUMENT)."""
    if not 1 <= count <= MAX_ANNOTATIONS:
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"Of a sample 1 to {MAX_ANNOTATIONS} annotations are wanted, not {count}.",
            field="annotations_per_sample",
        )


def policy(chosen: Policy, annotations_per_sample: int) -> None:
    """Raises AssayError(POLICY_INFEASIBLE) for a policy that needs several annotators where a sample has one."""
    if chosen in _OF_SEVERAL and annotations_per_sample < 2:
        raise AssayError(
            Reason.POLICY_INFEASIBLE,
            f"Policy {chosen.value!r} compares annotators, and annotations_per_sample is {annotations_per_sample}. Ask "
            "for 2 or more annotations of each sample, or choose 'latest' or 'reviewed'.",
            policy=chosen.value,
            annotations_per_sample=annotations_per_sample,
        )


def metadata(texts: Mapping[str, str]) -> None:
    """A user's own texts by name. Raises AssayError(TOO_LARGE | INVALID_NAME)."""
    if len(texts) > MAX_METADATA:
        raise AssayError(Reason.TOO_LARGE, f"A pool keeps at most {MAX_METADATA} metadata, not {len(texts)}.")
    for name, value in texts.items():
        if not 1 <= len(name.encode()) <= MAX_ID_BYTES or checks.CONTROL.search(name):
            raise AssayError(
                Reason.INVALID_NAME,
                f"{name[:100]!r} is no name of metadata: 1 to {MAX_ID_BYTES} bytes without control characters.",
                name=name,
            )
        checks.text(value, f"Metadata {name[:100]!r}", MAX_TEXT_BYTES)


def batch(given: IngestBatch, task: Task, kinds: Mapping[str, str], limits: Limits) -> None:
    """All of a batch but its embeddings. Raises AssayError, naming what is wrong and where."""
    columns = given.columns
    checks.ids(columns.ids, limits.max_batch_rows)
    count = len(columns.ids)
    if (given.embeddings_ND is None) == (not columns.inputs):
        raise AssayError(Reason.INVALID_ARGUMENT, "A batch has either embeddings or named inputs, and not both.")
    if given.embeddings_ND is not None:
        _same_count("embeddings", len(given.embeddings_ND), count)
    if given.labels is not None:
        _same_count("labels", len(given.labels), count)
        labels_of(given, task)
    if columns.predictions_NC is not None:
        if task.record.kind is not TaskKind.CLASSIFICATION:
            raise AssayError(
                Reason.WRONG_TASK,
                f"Predictions that come with samples are probabilities of one class each, and the pool's task is "
                f"{task.record.kind}. Add the samples without them, then send them by UpdatePredictions.",
                task=task.record.kind,
            )
        _same_count("predictions", len(columns.predictions_NC), count)
        checks.probabilities(columns.predictions_NC, len(task.record.classes))
    contents(columns, kinds, limits)


def contents(columns: SampleColumns, kinds: Mapping[str, str], limits: Limits) -> None:
    """Uris, payloads and attributes of samples. Raises AssayError, naming what is wrong and where."""
    count = len(columns.ids)
    if columns.uris is not None:
        _same_count("uris", len(columns.uris), count)
        _texts("uris", columns.uris, MAX_URI_BYTES)
    if columns.payloads is not None:
        _same_count("payloads", len(columns.payloads), count)
        _payloads(columns.payloads, limits.max_payload_bytes)
    checks.text(columns.payload_media_type, "payload_media_type", MAX_ID_BYTES)
    if columns.payloads is not None and _is_json(columns.payload_media_type):
        _json(columns.payloads)
    attributes(columns, kinds, limits)


def _same_count(what: str, got: int, expected: int) -> None:
    if got != expected:
        raise AssayError(Reason.INVALID_ARGUMENT, f"The batch has {expected} ids but {got} {what}.", column=what)


def _texts(what: str, values: Sequence[str], most: int) -> None:
    if max(map(len, values)) * 4 <= most:
        return
    for position, value in enumerate(values):
        if len(value.encode()) > most:
            raise SampleError(Reason.TOO_LARGE, position, f"its entry of {what} is longer than {most} bytes.")


def _payloads(values: Sequence[bytes], most: int) -> None:
    if max(map(len, values)) > most:
        position = next(i for i, value in enumerate(values) if len(value) > most)
        raise SampleError(
            Reason.TOO_LARGE,
            position,
            f"its payload has {len(values[position])} bytes; at most {most} are kept. Keep the sample elsewhere and "
            "give its uri.",
        )


def _is_json(media_type: str) -> bool:
    """Whether payloads of this media type are JSON documents (RFC 6839, section 3.1; WHATWG MIME Sniffing, 4.6)."""
    essence = media_type.partition(";")[0].strip().lower()
    return essence in ("application/json", "text/json") or essence.endswith("+json")


def _json(payloads: Sequence[bytes]) -> None:
    """Raises SampleError(INVALID_ARGUMENT) for a payload that is neither JSON in UTF-8 (RFC 8259) nor empty."""
    for row, payload in enumerate(payloads):
        try:
            if payload:
                json.loads(payload.decode(), parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise SampleError(
                Reason.INVALID_ARGUMENT,
                row,
                f"its payload is no JSON ({error}). Send JSON, or another payload_media_type.",
            ) from None


def _refuse_constant(word: str) -> None:
    raise ValueError(f"{word} is no value of JSON")


def attributes(columns: SampleColumns, kinds: Mapping[str, str], limits: Limits) -> None:
    """Attributes of a batch. Raises AssayError(INVALID_NAME | ATTRIBUTE_TYPE_MISMATCH | NOT_FINITE | TOO_LARGE |
    INVALID_ARGUMENT)."""
    count = len(columns.ids)
    if len(kinds.keys() | columns.attributes.keys()) > limits.max_attributes:
        raise AssayError(Reason.TOO_LARGE, f"A pool has at most {limits.max_attributes} attributes.")
    for attribute, column in columns.attributes.items():
        if not _ATTRIBUTE.fullmatch(attribute):
            raise AssayError(
                Reason.INVALID_NAME,
                f"{attribute!r} is no attribute name: a letter or '_', then up to 63 letters, digits or '_'.",
                name=attribute,
            )
        _same_count(f"values of attribute {attribute!r}", len(column.values), count)
        if column.present_N is not None:
            _same_count(f"presence flags of attribute {attribute!r}", len(column.present_N), count)
        if kinds.get(attribute, column.kind) != column.kind:
            raise checks.wrong_kind(attribute, kinds[attribute], column.kind)
        _attribute_values(attribute, column)


def _attribute_values(attribute: str, column: AttributeColumn) -> None:
    if column.kind == "string":
        _texts(f"attribute {attribute!r}", [str(value) for value in column.values], MAX_TEXT_BYTES)
    elif column.kind == "double":
        bad_N = ~np.isfinite(np.asarray(column.values, np.float64))
        if column.present_N is not None:
            bad_N &= column.present_N
        if bad_N.any():
            row = int(np.flatnonzero(bad_N)[0])
            raise SampleError(
                Reason.NOT_FINITE, row, f"its attribute {attribute!r} is {column.values[row]}.", name=attribute
            )
