"""The calls of leases, and the export of labels."""

import csv
import io
import json
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from assay.client import _replies, results
from assay.client._files import arrow_table, pyarrow_for
from assay.client._names import Named, fresh_request_id, id_list, pool_name, resource_name
from assay.client._pools import filter_message
from assay.client._values import given_text, kind_of, seed_number, shown, text, whole
from assay.client._wire import Download, Pages, Unary, download, pages, unary
from assay.client.filters import Filter
from assay.client.plans import PlanLike, plan_to_proto
from assay.client.results import Lease
from assay.client.values import duration_message
from assay.v1 import labeling_pb2, methods

ExportFormat: TypeAlias = Literal["jsonl", "csv", "parquet", "coco"]

_FORMATS = {
    "jsonl": labeling_pb2.EXPORT_FORMAT_JSON_LINES,
    # Written here from JSON Lines.
    "csv": labeling_pb2.EXPORT_FORMAT_JSON_LINES,
    "parquet": labeling_pb2.EXPORT_FORMAT_PARQUET,
    "coco": labeling_pb2.EXPORT_FORMAT_COCO,
}


def next_batch(
    pool: str,
    worker: str,
    size: int,
    *,
    plan: PlanLike | None = None,
    where: Filter | None = None,
    ttl: timedelta | float = 900,
    seed: int = 0,
    request_id: str | None = None,
    include_payload: bool = True,
    predictions: int = 0,
    include_released: bool = False,
) -> Unary[results.Batch]:
    """Pick samples by a plan and lease them to a worker. No sample is ever in two live leases.

    Args:
        pool: id or name.
        worker: who labels.
        size: number of samples; fewer come back only where fewer are left.
        plan: a plan or the name of a preset; the default of the pool's task if not given, which `list_presets` marks:
            for one class a sample "margin", or "random" where nothing predicts yet.
        where: narrows the plan's filter.
        ttl: how long the lease lasts, in seconds or as a timedelta: 1 second to 7 days.
        seed: of all that is random in the plan.
        request_id: idempotency key, made up if not given; a repeated call gets the same lease.
        include_payload: whether picks carry payloads.
        predictions: how many predictions each pick carries, 0 to 100.
        include_released: offer the worker what it gave back before, too.

    Raises:
        PoolExhausted: no sample is left; metadata["released"] counts those that the worker gave back.
        QuotaInfeasible: what is left cannot meet the plan's quotas.
    """
    request = labeling_pb2.NextBatchRequest(
        parent=pool_name(pool),
        worker=text(worker, "worker"),
        size=whole(size, "size"),
        plan=plan_to_proto(plan),
        filter=filter_message(where),
        ttl=duration_message(ttl, "ttl"),
        seed=seed_number(seed),
        request_id=fresh_request_id(request_id),
        omit_payload=not include_payload,
        predictions=whole(predictions, "predictions"),
        include_released=include_released,
    )
    return unary(methods.NEXT_BATCH, request, _replies.batch)


def get_lease(lease: str | Named) -> Unary[results.Lease]:
    """Get a lease by its name "pools/{pool}/leases/{lease}"."""
    request = labeling_pb2.GetLeaseRequest(name=resource_name(lease))
    return unary(methods.GET_LEASE, request, _replies.lease)


def list_leases(pool: str, *, worker: str | None = None) -> Pages[results.Lease]:
    """Live leases, oldest first, fetched page by page."""
    return pages(
        methods.LIST_LEASES,
        labeling_pb2.ListLeasesRequest(parent=pool_name(pool), worker=given_text(worker, "worker")),
        lambda reply: map(_replies.lease, reply.leases),
    )


def renew_lease(lease: Lease, ttl: timedelta | float = 900, *, request_id: str | None = None) -> Unary[results.Lease]:
    """Let a live lease last `ttl` (seconds or a timedelta) from now.

    Raises:
        LeaseExpired: it is too late.
    """
    check_lease(lease)
    request = labeling_pb2.RenewLeaseRequest(
        name=lease.name,
        fencing_token=lease.fencing_token,
        ttl=duration_message(ttl, "ttl"),
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.RENEW_LEASE, request, _replies.lease)


def release_lease(
    lease: Lease,
    sample_ids: Iterable[Any] | None = None,
    reason: str = "",
    exclude: bool = False,
    *,
    offer_again: bool = False,
    request_id: str | None = None,
) -> Unary[results.Lease]:
    """Give samples of a lease back: these, or, where None is given, all that it still holds.

    Others are offered them; this worker is not, unless it asks with `next_batch(..., include_released=True)`, or only
    leaves and has nothing against them: `offer_again`. `exclude`
    sets them aside for everybody, until `set_sample_state(..., "include")`.

    Raises:
        ValueError: an empty list of samples, which the wire would take for all.
    """
    check_lease(lease)
    given = [] if sample_ids is None else id_list(sample_ids, "sample_ids")
    if sample_ids is not None and not given:
        raise ValueError("sample_ids is empty: None releases all that the lease still holds")
    request = labeling_pb2.ReleaseLeaseRequest(
        name=lease.name,
        fencing_token=lease.fencing_token,
        sample_ids=given,
        reason=reason,
        exclude=exclude,
        offer_again=offer_again,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.RELEASE_LEASE, request, _replies.lease)


def export_labels(
    pool: str,
    target: str | PathLike[str] | BinaryIO,
    format: ExportFormat = "jsonl",
    *,
    history: bool = False,
) -> Download[int]:
    """Write all labels to a file, or with `history` all that was said; returns the number of bytes.

    `import_annotations` reads what is written.

    A path is written beside itself and renamed when complete; an open binary file is written to as it is.
    The columns of labels: sample_id; the value, under the name of the task's kind of value (class_name, with
    class_index beside it; class_names, numbers, boxes, spans, json); worker and time of the last that was said and
    counted; annotations, agreement, confidence, decided_by (see `Label`); uri. Those of a history: event, sample_id,
    kind, worker, the value, time and create_time (when it was said, and stored), duration in seconds, confidence,
    comment, external_id, origin, lease, supersedes, undoes (the first event of the action that it undoes); one row for
    each event, in order. CSV is UTF-8 with a head; what is neither text nor number there is JSON. COCO is for
    labels of boxes: an image's file_name is the id of the sample, whose attributes `width` and `height` say its
    size in pixels.
    """
    if format not in _FORMATS:
        raise ValueError(f"{format!r} is none of {', '.join(_FORMATS)}")
    request = _export_request(pool, format, history)
    coded = _CsvLines if format == "csv" else _AsItIs
    if isinstance(target, str | PathLike):
        path = Path(target)
        return download(methods.EXPORT_LABELS, request, lambda: _FileExport(path, coded()))
    file = target
    return download(methods.EXPORT_LABELS, request, lambda: _Export(file, coded()), restartable=False)


def labels_as_arrow(pool: str, *, history: bool = False) -> Download[Any]:
    """All labels, or all that was said, as a table of Arrow; for the columns see `export_labels`. Values are of the
    natural Arrow type of the task: text, lists of text, structs of numbers, lists of structs.

    `table.to_pandas()` makes a frame of it, and `import_annotations` takes either.

    Raises:
        Missing: pyarrow is not installed (`assay[parquet]`).
    """
    pyarrow_for("an Arrow table")
    return download(methods.EXPORT_LABELS, _export_request(pool, "parquet", history), lambda: _Whole(arrow_table))


def labels_as_pandas(pool: str, *, history: bool = False) -> Download[Any]:
    """All labels, or all that was said, as a frame of pandas; for the columns see `export_labels`. Values are text,
    arrays of text, mappings from target to number, or arrays of mappings; JSON is text.

    Raises:
        Missing: pyarrow is not installed (`assay[parquet]`).
        ModuleNotFoundError: pandas is not installed.
    """
    pyarrow_for("a frame of pandas")
    request = _export_request(pool, "parquet", history)
    return download(methods.EXPORT_LABELS, request, lambda: _Whole(lambda data: arrow_table(data).to_pandas()))


def _export_request(pool: str, format: ExportFormat, history: bool) -> labeling_pb2.ExportLabelsRequest:
    return labeling_pb2.ExportLabelsRequest(parent=pool_name(pool), format=_FORMATS[format], history=history)


class _Whole:
    """An export that is read once it is complete."""

    def __init__(self, read: Callable[[bytes], Any]) -> None:
        self._read = read
        self._chunks: list[bytes] = []

    def add(self, message: labeling_pb2.ExportLabelsResponse) -> None:
        self._chunks.append(message.chunk)

    def finish(self) -> Any:
        return self._read(b"".join(self._chunks))

    def discard(self) -> None:
        """Nothing is kept."""


class _AsItIs:
    """The chunks of an export as the server sends them."""

    def begin(self, columns: Sequence[str]) -> bytes:
        return b""

    def feed(self, chunk: bytes) -> bytes:
        return chunk

    def end(self) -> bytes:
        return b""


class _CsvLines:
    """The chunks of an export of JSON Lines as lines of CSV under a head."""

    def __init__(self) -> None:
        self._rest = b""
        self._columns: list[str] = []

    def begin(self, columns: Sequence[str]) -> bytes:
        self._columns = list(columns)
        return self._written([self._columns])

    def feed(self, chunk: bytes) -> bytes:
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return b"".join(map(self._line, filter(None, lines)))

    def end(self) -> bytes:
        last, self._rest = self._rest, b""
        return self._line(last) if last else b""

    def _line(self, line: bytes) -> bytes:
        record = json.loads(line)
        return self._written([[self._field(record[name]) for name in self._columns]])

    @staticmethod
    def _field(cell: Any) -> Any:
        return json.dumps(cell, ensure_ascii=False) if isinstance(cell, list | dict) else cell

    @staticmethod
    def _written(rows: Iterable[Iterable[Any]]) -> bytes:
        written = io.StringIO(newline="")
        csv.writer(written, lineterminator="\n").writerows(rows)
        return written.getvalue().encode()


class _Export:
    """Writes the chunks of an export to an open file."""

    def __init__(self, file: BinaryIO, coded: _AsItIs | _CsvLines) -> None:
        self._file = file
        self._coded = coded
        self._written = 0

    def add(self, message: labeling_pb2.ExportLabelsResponse) -> None:
        if message.columns:
            self._write(self._coded.begin(message.columns))
        self._write(self._coded.feed(message.chunk))

    def finish(self) -> int:
        self._write(self._coded.end())
        return self._written

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._written += len(data)

    def discard(self) -> None:
        """What is written stays: the file belongs to the caller."""


class _FileExport(_Export):
    """Writes the chunks of an export beside a path, which it takes when the export is complete."""

    def __init__(self, path: Path, coded: _AsItIs | _CsvLines) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        super().__init__(self._partial.open("wb"), coded)

    def finish(self) -> int:
        written = super().finish()
        self._file.close()
        self._partial.replace(self._path)
        return written

    def discard(self) -> None:
        self._file.close()
        self._partial.unlink(missing_ok=True)


def check_lease(lease: Lease) -> None:
    """Raises TypeError for what is no lease: a name alone does not say its fencing token."""
    if not (hasattr(lease, "name") and hasattr(lease, "fencing_token")):
        raise TypeError(
            f"lease is a Lease, as in batch.lease or Lease(name, fencing_token), not {shown(lease)}, {kind_of(lease)}"
        )
