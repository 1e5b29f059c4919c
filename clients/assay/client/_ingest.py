"""Ingest: columns cut into messages that a server takes, and the calls that stream them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from assay.client import _replies, results
from assay.client._arrays import float_rows, matrix, named_arrays, named_tensor
from assay.client._attributes import AttributeColumn, attribute_columns
from assay.client._names import enum_value, fresh_request_id, pool_name
from assay.client._payloads import payload_column
from assay.client._values import Place, optional_texts, texts, whole
from assay.client._wire import Upload, upload
from assay.client.results import SampleBatch
from assay.client.values import value_column, value_message, value_size
from assay.v1 import methods, pools_pb2

OnConflict: TypeAlias = Literal["error", "skip", "replace"]
AddProgress: TypeAlias = Callable[[int, int], None]

MAX_ROWS = 65_536
MESSAGE_BYTES = 16 * 1024 * 1024
# What tags, lengths and list entries add to the bare values of one sample, with room to spare.
_ROW_OVERHEAD = 16


def add_samples(
    pool: str,
    ids: Any,
    *,
    embeddings: Any = None,
    inputs: Mapping[str, Any] | None = None,
    uris: Any = None,
    payloads: Any = None,
    media_type: str | None = None,
    attributes: Any = None,
    labels: Any = None,
    predictions: Any = None,
    on_conflict: OnConflict = "error",
    request_id: str | None = None,
    batch_size: int | None = None,
    progress: AddProgress | None = None,
) -> Upload[results.AddResult]:
    """Add samples, column by column. Returns when all are durable.

    A column is a list, a numpy array, a Series or Index of pandas, an Arrow array, a column of polars or a torch
    tensor; what numpy, pandas or Arrow write for a missing value (None, NaN, NA, NaT, null, masked) is absent. Text may
    come as whole numbers, UUIDs, paths or UTF-8 bytes: the label 0 is the class "0".

    Args:
        pool: id or name.
        ids: distinct.
        embeddings: matrix, data frame or column of vectors, one row per id; exactly one of embeddings and inputs is
            given. A memory-mapped array is read piece by piece.
        inputs: named model inputs that the server embeds with the active backbone; the first axis is the samples.
        uris: where each raw sample lives; None where that is not known.
        payloads: what a person looks at to label it: text, bytes, or what JSON can say, up to 64 KiB each; None where a
            sample has none.
        media_type: of all payloads; text and JSON are recognised.
        attributes: columns of scalars by name, or a data frame, for filters; None where a sample lacks it.
        labels: values in the natural type of the pool's task (see `assay.client.values`), such as class names;
            None where a sample has none.
        predictions: class probabilities of your own model, one row per id.
        on_conflict: what to do with ids that the pool already has: "error" refuses the batch, "skip" keeps the old
            sample, "replace" puts the new one in its place. Replacing drops all that the old one had: its attributes,
            its payload and its label, unless this call gives them again; the result counts the labels and attributes
            that were lost. `update_samples` changes a part of a sample.
        request_id: idempotency key; made up if not given. Sent again after a failure, it continues where it broke.
        batch_size: most samples per message, up to 65,536; messages are kept to about 16 MiB in any case.
        progress: called with the samples sent and all samples, from another thread.

    Raises:
        AssayError: its `stored` says how many samples are stored at least; where a sample is to blame, its metadata
            name the `row` of this call, from 0, and the `id`.
        TypeError, ValueError: a column that cannot be read, named with the row and id; nothing was sent.
    """
    batch = SampleBatch(ids, embeddings, inputs, uris, payloads, media_type, attributes, labels, predictions)
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
    return _upload(pool, lambda: _read(batches), on_conflict, request_id, batch_size, progress, 0, restartable)


def _read(batches: Iterable[SampleBatch]) -> Iterator["_Columns"]:
    """Batches of a stream, checked one by one; errors count rows over all of them."""
    first = 0
    for batch in batches:
        columns = _columns(batch, first)
        yield columns
        first += len(columns.ids)


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
    rows = MAX_ROWS if batch_size is None else whole(batch_size, "batch_size")
    if not 1 <= rows <= MAX_ROWS:
        raise ValueError(f"batch_size is from 1 to {MAX_ROWS:,}, not {batch_size}")
    header = pools_pb2.UploadSamplesHeader(
        parent=pool_name(pool),
        on_conflict=enum_value(pools_pb2.OnConflict, on_conflict),
        request_id=fresh_request_id(request_id),
    )

    def messages() -> Iterator[pools_pb2.UploadSamplesRequest]:
        first = pools_pb2.UploadSamplesRequest(header=header)
        return chain([first], _batch_messages(source(), rows, progress, total))

    return upload(methods.UPLOAD_SAMPLES, messages, _replies.added, restartable, counted=True)


def _batch_messages(
    source: Iterable["_Columns"], rows: int, progress: AddProgress | None, total: int
) -> Iterator[pools_pb2.UploadSamplesRequest]:
    sent = 0
    for columns in source:
        for part in cut(columns.row_bytes(), rows, MESSAGE_BYTES):
            yield pools_pb2.UploadSamplesRequest(batch=columns.message(part))
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
class _Columns:
    """A checked batch: every column has one entry per id or is None."""

    ids: Sequence[str]
    embeddings: NDArray[Any] | None
    inputs: Mapping[str, NDArray[Any]]
    uris: Sequence[str] | None
    payloads: Sequence[bytes] | None
    media_type: str
    attributes: Sequence[AttributeColumn]
    labels: Sequence[Any] | None
    predictions: NDArray[Any] | None

    def row_bytes(self) -> NDArray[np.int64]:
        """About how many bytes each sample takes in a message."""
        arrays = [array for array in (self.embeddings, self.predictions, *self.inputs.values()) if array is not None]
        fixed = _ROW_OVERHEAD + sum(array.itemsize * int(np.prod(array.shape[1:])) for array in arrays)
        fixed += sum(10 for column in self.attributes if column.field != "strings")
        sizes_N = np.full(len(self.ids), fixed, dtype=np.int64)
        texts = [column for column in (self.ids, self.uris) if column is not None]
        texts += [cast(Sequence[str], column.values) for column in self.attributes if column.field == "strings"]
        for text in texts:
            # Four bytes is the most that UTF-8 needs for a character.
            sizes_N += 4 * np.fromiter(map(len, text), np.int64, len(text)) + 4
        if self.labels is not None:
            sizes_N += np.fromiter(map(value_size, self.labels), np.int64, len(self.labels))
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
            labels=map(value_message, self.labels[part]) if self.labels else (),
            predictions=None if self.predictions is None else matrix(self.predictions[part]),
        )


def _columns(batch: SampleBatch, first: int = 0) -> _Columns:
    """Check a batch's types and lengths, so that what is wrong is said before anything is sent. `first` samples of the
    same upload come before it.

    Raises:
        ValueError: a column of another length or of mixed types, a type that does not travel, or not exactly one of
            embeddings and inputs.
        TypeError: a value of a type that its column cannot take.
    """
    ids = texts(batch.ids, Place("ids", first=first))
    if (batch.embeddings is None) == (batch.inputs is None):
        raise ValueError("give either embeddings or inputs")

    def place(what: str) -> Place:
        return Place(what, ids, first)

    payloads, media_type = payload_column(batch.payloads, batch.media_type, place("payloads"))
    uris = None if batch.uris is None else optional_texts(batch.uris, place("uris"), empty=True)
    labels = None if batch.labels is None else value_column(batch.labels, place("labels"))
    columns = _Columns(
        ids=ids,
        embeddings=None if batch.embeddings is None else float_rows(batch.embeddings, "embeddings", ids, first),
        inputs={} if batch.inputs is None else named_arrays(batch.inputs),
        uris=_or_empty(uris),
        payloads=payloads,
        media_type=media_type,
        attributes=attribute_columns(batch.attributes, ids, first),
        labels=labels,
        predictions=None if batch.predictions is None else float_rows(batch.predictions, "predictions", ids, first),
    )
    _check_lengths(columns)
    return columns


def _or_empty(values: Sequence[str | None] | None) -> Sequence[str] | None:
    """A column of the wire, where an empty text stands for none."""
    return None if values is None else ["" if value is None else value for value in values]


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
