"""Ingest: columns cut into messages that a server takes, and the calls that stream them."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.client import _replies, results
from assay.client._arrays import float_rows, matrix, named_arrays, named_tensor
from assay.client._names import enum_value, fresh_request_id, id_list, pool_name
from assay.client._wire import Upload
from assay.client.filters import AttributeScalar
from assay.client.results import AttributeValues, SampleBatch
from assay.v1 import pools_pb2

OnConflict: TypeAlias = Literal["error", "skip", "replace"]
AddProgress: TypeAlias = Callable[[int, int], None]
Payload: TypeAlias = str | bytes | Mapping[str, Any] | None

_PATH = "/assay.v1.Pools/AddSamples"
MAX_ROWS = 65_536
MESSAGE_BYTES = 16 * 1024 * 1024
# What tags, lengths and list entries add to the bare values of one sample, with room to spare.
_ROW_OVERHEAD = 16


def add_samples(
    pool: str,
    ids: Sequence[str],
    *,
    embeddings: ArrayLike | None = None,
    inputs: Mapping[str, ArrayLike] | None = None,
    uris: Sequence[str] | None = None,
    payloads: Sequence[Payload] | None = None,
    media_type: str | None = None,
    attributes: Mapping[str, AttributeValues] | None = None,
    labels: Sequence[str | None] | None = None,
    predictions: ArrayLike | None = None,
    on_conflict: OnConflict = "error",
    request_id: str | None = None,
    batch_size: int | None = None,
    progress: AddProgress | None = None,
) -> Upload[results.AddResult]:
    """Add samples, column by column. Returns when all are durable.

    Args:
        pool: id or name.
        ids: distinct.
        embeddings: matrix, one row per id; exactly one of embeddings and inputs is given. A memory-mapped array is
            read piece by piece.
        inputs: named model inputs that the server embeds with the active backbone; the first axis is the samples.
        uris: where each raw sample lives.
        payloads: what a person looks at to label it: text, bytes or JSON objects, up to 64 KiB each.
        media_type: of all payloads; text and JSON are recognised.
        attributes: scalars by name for filters; None where a sample lacks it.
        labels: class names; None where a sample has none.
        predictions: class probabilities of your own model, one row per id.
        on_conflict: what to do with ids that the pool already has.
        request_id: idempotency key; made up if not given. Sent again after a failure, it continues where it broke.
        batch_size: most samples per message, up to 65,536; messages are kept to about 16 MiB in any case.
        progress: called with the samples sent and all samples, from another thread.

    Raises:
        AssayError: its `stored` says how many samples are stored.
    """
    batch = SampleBatch(
        id_list(ids), embeddings, inputs, uris, payloads, media_type, attributes or {}, labels, predictions
    )
    columns = _columns(batch)
    return _upload(pool, lambda: iter([columns]), on_conflict, request_id, batch_size, progress, len(columns.ids), True)


def add_batches(
    pool: str,
    batches: Iterable[SampleBatch],
    *,
    on_conflict: OnConflict = "error",
    request_id: str | None = None,
    batch_size: int | None = None,
    progress: AddProgress | None = None,
) -> Upload[results.AddResult]:
    """Add samples from a streaming source. Returns when all are durable.

    A source that can be iterated again (a list, or an object whose __iter__ starts over) is sent again if the
    connection breaks; a generator is not. `progress` is called with a total of 0. See `add_samples` for the rest.
    """
    restartable = iter(batches) is not batches
    return _upload(pool, lambda: map(_columns, batches), on_conflict, request_id, batch_size, progress, 0, restartable)


def _upload(
    pool: str,
    source: Callable[[], Iterator["_Columns"]],
    on_conflict: OnConflict,
    request_id: str | None,
    batch_size: int | None,
    progress: AddProgress | None,
    total: int,
    restartable: bool,
) -> Upload[results.AddResult]:
    rows = MAX_ROWS if batch_size is None else batch_size
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"batch_size is from 1 to {MAX_ROWS:,}, not {batch_size}")
    header = pools_pb2.AddSamplesHeader(
        pool=pool_name(pool),
        on_conflict=enum_value(pools_pb2.OnConflict, on_conflict),
        request_id=fresh_request_id(request_id),
    )

    def messages() -> Iterator[pools_pb2.AddSamplesRequest]:
        first = pools_pb2.AddSamplesRequest(header=header)
        return chain([first], _batch_messages(source(), rows, progress, total))

    return Upload(_PATH, messages, pools_pb2.AddSamplesResponse, _replies.added, restartable)


def _batch_messages(
    source: Iterable["_Columns"], rows: int, progress: AddProgress | None, total: int
) -> Iterator[pools_pb2.AddSamplesRequest]:
    sent = 0
    for columns in source:
        for part in cut(columns.row_bytes(), rows, MESSAGE_BYTES):
            yield pools_pb2.AddSamplesRequest(batch=columns.message(part))
            sent += part.stop - part.start
            if progress is not None:
                progress(sent, total)


def cut(row_bytes_N: NDArray[np.int64], rows: int, limit: int) -> Iterator[slice]:
    """Consecutive slices of at most `rows` rows and `limit` bytes; a row above the limit gets one of its own."""
    ends_N = np.cumsum(row_bytes_N)
    start, size = 0, len(row_bytes_N)
    while start < size:
        before = int(ends_N[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends_N, before + limit, side="right"))
        stop = min(max(fitting, start + 1), start + rows, size)
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True, slots=True)
class _AttributeColumn:
    """One attribute: the field of its type, a value for every sample, and which samples have it (None: all)."""

    name: str
    field: Literal["strings", "doubles", "int64s", "bools"]
    values: Sequence[AttributeScalar]
    present: Sequence[bool] | None

    def message(self, part: slice) -> pools_pb2.AttributeColumn:
        column = pools_pb2.AttributeColumn(name=self.name, present=self.present[part] if self.present else ())
        field = getattr(column, self.field)
        field.values.extend(self.values[part])
        return column


@dataclass(frozen=True, slots=True)
class _Columns:
    """A checked batch: every column has one entry per id or is None."""

    ids: Sequence[str]
    embeddings: NDArray[Any] | None
    inputs: Mapping[str, NDArray[Any]]
    uris: Sequence[str] | None
    payloads: Sequence[bytes] | None
    media_type: str
    attributes: Sequence[_AttributeColumn]
    labels: Sequence[str] | None
    predictions: NDArray[Any] | None

    def row_bytes(self) -> NDArray[np.int64]:
        """About how many bytes each sample takes in a message."""
        arrays = [array for array in (self.embeddings, self.predictions, *self.inputs.values()) if array is not None]
        fixed = _ROW_OVERHEAD + sum(array.itemsize * int(np.prod(array.shape[1:])) for array in arrays)
        fixed += sum(10 for column in self.attributes if column.field != "strings")
        sizes_N = np.full(len(self.ids), fixed, dtype=np.int64)
        texts = [column for column in (self.ids, self.uris, self.labels) if column is not None]
        texts += [cast(Sequence[str], column.values) for column in self.attributes if column.field == "strings"]
        for text in texts:
            # Four bytes is the most that UTF-8 needs for a character.
            sizes_N += 4 * np.fromiter(map(len, text), np.int64, len(text)) + 4
        if self.payloads is not None:
            sizes_N += np.fromiter(map(len, self.payloads), np.int64, len(self.payloads)) + 4
        return sizes_N

    def message(self, part: slice) -> pools_pb2.SampleBatch:
        return pools_pb2.SampleBatch(
            ids=self.ids[part],
            embeddings=None if self.embeddings is None else matrix(self.embeddings[part]),
            inputs=[named_tensor(name, values[part]) for name, values in self.inputs.items()],
            uris=self.uris[part] if self.uris else (),
            payloads=self.payloads[part] if self.payloads else (),
            payload_media_type=self.media_type,
            attributes=[column.message(part) for column in self.attributes],
            labels=self.labels[part] if self.labels else (),
            predictions=None if self.predictions is None else matrix(self.predictions[part]),
        )


def _columns(batch: SampleBatch) -> _Columns:
    """Check a batch's types and lengths, so that what is wrong is said before anything is sent.

    Raises:
        ValueError: a column of another length or of mixed types, a type that does not travel, or not exactly one of
            embeddings and inputs.
    """
    ids = id_list(batch.ids)
    if (batch.embeddings is None) == (batch.inputs is None):
        raise ValueError("give either embeddings or inputs")
    payloads, media_type = _payload_column(batch.payloads, batch.media_type)
    columns = _Columns(
        ids=ids,
        embeddings=None if batch.embeddings is None else float_rows(batch.embeddings, "embeddings"),
        inputs=named_arrays(batch.inputs or {}),
        uris=None if batch.uris is None else id_list(batch.uris),
        payloads=payloads,
        media_type=media_type,
        attributes=_attribute_columns(batch),
        labels=None if batch.labels is None else [label or "" for label in batch.labels],
        predictions=None if batch.predictions is None else float_rows(batch.predictions, "predictions"),
    )
    _check_lengths(columns)
    return columns


def _attribute_columns(batch: SampleBatch) -> Sequence[_AttributeColumn]:
    columns = [attribute_column(name, values) for name, values in batch.attributes.items()]
    return [column for column in columns if column is not None]


def _check_lengths(columns: _Columns) -> None:
    sized = {
        "embeddings": columns.embeddings,
        "uris": columns.uris,
        "payloads": columns.payloads,
        "labels": columns.labels,
        "predictions": columns.predictions,
        **{f"input {name!r}": values for name, values in columns.inputs.items()},
        **{f"attribute {column.name!r}": column.values for column in columns.attributes},
    }
    for what, values in sized.items():
        if values is not None and len(values) != len(columns.ids):
            raise ValueError(f"{what} has {len(values)} entries for {len(columns.ids)} ids")


def _payload_column(payloads: Sequence[Payload] | None, media_type: str | None) -> tuple[Sequence[bytes] | None, str]:
    if payloads is None:
        return None, ""
    kinds = {_payload_kind(payload) for payload in payloads if payload is not None}
    if len(kinds) > 1 and media_type is None:
        raise ValueError(f"payloads mix {', '.join(sorted(kinds))}: give one kind, or name the media_type")
    inferred = next(iter(kinds), "")
    return [_payload_bytes(payload) for payload in payloads], inferred if media_type is None else media_type


def _payload_kind(payload: str | bytes | Mapping[str, Any]) -> str:
    if isinstance(payload, str):
        return "text/plain"
    return "application/octet-stream" if isinstance(payload, bytes) else "application/json"


def _payload_bytes(payload: Payload) -> bytes:
    if payload is None:
        return b""
    if isinstance(payload, bytes):
        return payload
    text = payload if isinstance(payload, str) else json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return text.encode()


def attribute_column(name: str, values: AttributeValues) -> _AttributeColumn | None:
    """One attribute as a column of one type; None where no sample has it. Whole numbers beside others become floats.

    Raises:
        ValueError: values of mixed types, or of a type that no attribute has.
    """
    plain = values.tolist() if isinstance(values, np.ndarray) else [_plain(value) for value in values]
    kinds = {type(value) for value in plain if value is not None}
    if not kinds:
        return None
    if kinds == {int, float}:
        kinds, plain = {float}, [None if value is None else float(value) for value in plain]
    if len(kinds) != 1 or not kinds <= _ATTRIBUTE_FIELDS.keys():
        raise ValueError(f"attribute {name!r} mixes {', '.join(sorted(kind.__name__ for kind in kinds))}")
    kind = kinds.pop()
    present = None if None not in plain else [value is not None for value in plain]
    return _AttributeColumn(
        name, _ATTRIBUTE_FIELDS[kind], [kind() if value is None else value for value in plain], present
    )


_ATTRIBUTE_FIELDS: Mapping[type, Literal["strings", "doubles", "int64s", "bools"]] = {
    str: "strings",
    float: "doubles",
    int: "int64s",
    bool: "bools",
}


def _plain(value: object) -> Any:
    return value.item() if isinstance(value, np.generic) else value
