"""Annotations out of files and tables: what an export of labels or of their history says, said again."""

import hashlib
import json
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, Final

from assay.client import results
from assay.client._annotations import Origin
from assay.client._files import FileFormat, Table, located, read_table
from assay.client._ingest import MAX_ROWS, MESSAGE_BYTES, AddProgress
from assay.client._labeling import check_lease
from assay.client._names import enum_value, pool_name
from assay.client._values import Place, column, kind_of, optional_texts, shown, text, texts
from assay.client._wire import Series, Unary, unary
from assay.client.errors import AssayError
from assay.client.results import Lease
from assay.client.values import Annotation, Box, Json, Span, annotation_messages
from assay.v1 import annotations_pb2, methods

# Events that the server makes itself, by the policy of the pool.
_DERIVED: Final = "resolve"
# What takes an event back that is then as if it had never been; neither is said again.
_UNDOES: Final = {"resume": "skip"}
# Kinds with a value, and those that give one reason for all.
_VALUED: Final = frozenset({"annotate", "correct", "verdict"})
_REASONED: Final = frozenset({"skip", "withdraw"})
_KINDS: Final = _VALUED | _REASONED | {"retract", _DERIVED, *_UNDOES}

_Message = annotations_pb2.AnnotationInput


@dataclass(frozen=True, slots=True)
class _Stored:
    """What became of one request."""

    stored: int
    unchanged: int
    lease_remaining: int


def import_annotations(
    pool: str,
    source: Any,
    *,
    worker: str | None = None,
    format: FileFormat | None = None,
    origin: Origin = "import",
    correct: bool = False,
    lease: Lease | None = None,
    on_behalf_of: bool = False,
    progress: AddProgress | None = None,
) -> Series[results.ImportResult]:
    """Store what a file or a table says of samples: one that `export_labels` wrote, or one of your own.

    Fields of a record are the sample's id ("sample_id" or "id"); the value, under "label" in the natural type of the
    pool's task, or as an export has it ("class_name", "class_names", "numbers", "boxes", "spans", "json"); and, as
    there are, "worker", "time", "duration" in seconds, "confidence", "comment", "external_id", "origin", and "kind"
    with "annotate", "correct", "withdraw" (with "by", if somebody else did it), "skip", "verdict" or "retract"; of
    these only the first two have a time of their own, the others are of now. Of a history what the server derived
    ("resolve") is left out: labels follow from what was said by the policy of the pool that it goes into; and so are
    skips, corrections, withdrawals and verdicts that were undone, with what brought back what stood before. Numbers of
    events and leases are the server's own, and other ones there.

    Events of one sample keep their order. They are sent in requests of at most 65,536, each stored whole or not at
    all; if one fails, the same import goes on where it ended when it is called again.

    Args:
        pool: id or name.
        source: path of a file (JSON Lines, JSON, CSV, Parquet, Arrow, COCO); a table of pandas, Arrow or polars; a
            mapping from field to column; or records as mappings.
        worker: who says what names no worker.
        format: of a file, if it is not to be told by its content and name.
        origin: of what names none.
        correct: put this in the place of what the same workers said before.
        lease: the lease that holds the samples.
        on_behalf_of: see `annotate`.
        progress: called with the events that were stored or known and all that are to be, after each request.

    Raises:
        AlreadyExists, InvalidArgument, LeaseForeign, ...: see `annotate`; `stored` says how many were stored before.
        TypeError, ValueError: an id or a value that is missing or of no task's type, or no such fields, by record.
    """
    if lease is not None:
        check_lease(lease)
    of_file = isinstance(source, str | PathLike)
    table = read_table(Path(source), format) if of_file else table_of(source)
    where: Callable[[], AbstractContextManager[None]] = (lambda: located(source)) if of_file else nullcontext
    with where():
        events = _Events(table, None if worker is None else text(worker, "worker"), origin, correct)

    requests = _Requests(pool_name(pool), lease, on_behalf_of)
    return Series(lambda: _steps(requests.of(events), where, events, progress))


def _steps(
    calls: Iterator[Unary[_Stored]],
    where: Callable[[], AbstractContextManager[None]],
    events: "_Events",
    progress: AddProgress | None,
) -> Generator[Unary[Any], Any, results.ImportResult]:
    stored = unchanged = remaining = 0
    while True:
        with where():
            call = next(calls, None)
        if call is None:
            return results.ImportResult(stored, unchanged, events.left_out, remaining)
        try:
            done: _Stored = yield call
        except AssayError as error:
            error.note_stored(stored)
            raise
        stored, unchanged = stored + done.stored, unchanged + done.unchanged
        remaining = done.lease_remaining
        if progress is not None:
            progress(stored + unchanged, len(events.ids) - events.left_out)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the events of one request have in common; `reason` of those that have one for all."""

    kind: str
    worker: str
    origin: str
    by: str = ""
    reason: str = ""


class _Requests:
    """Makes the requests of an import."""

    def __init__(self, parent: str, lease: Lease | None, on_behalf_of: bool) -> None:
        self._parent = parent
        self._lease = "" if lease is None else lease.name
        self._token = 0 if lease is None else lease.fencing_token
        self._on_behalf_of = on_behalf_of
        self._makers: Mapping[str, Callable[[_Said, list[_Message]], Unary[_Stored]]] = {
            "annotate": self._annotate,
            "correct": self._annotate,
            "skip": self._skip,
            "withdraw": self._withdraw,
            "verdict": self._review,
            "retract": self._review,
        }

    def of(self, events: "_Events") -> Iterator[Unary[_Stored]]:
        """The calls, one after the other."""
        for number, (said, messages) in enumerate(events.batches()):
            call = self._makers[said.kind](said, messages)
            # Alike whenever the same import is called, so that one that broke off goes on where it did.
            digest = hashlib.blake2b(call.request.SerializeToString(deterministic=True), digest_size=16, salt=b"import")
            digest.update(number.to_bytes(8, "little"))
            call.request.request_id = digest.hexdigest()  # type: ignore[attr-defined]
            yield call

    def _annotate(self, said: _Said, messages: list[_Message]) -> Unary[_Stored]:
        request = annotations_pb2.AnnotateRequest(
            parent=self._parent,
            worker=said.worker,
            annotations=messages,
            correct=said.kind == "correct",
            on_behalf_of=self._on_behalf_of,
            origin=enum_value(annotations_pb2.Origin, said.origin),
            lease=self._lease,
            fencing_token=self._token,
        )
        return unary(
            methods.ANNOTATE, request, lambda reply: _Stored(reply.stored, reply.unchanged, reply.lease_remaining)
        )

    def _skip(self, said: _Said, messages: list[_Message]) -> Unary[_Stored]:
        request = annotations_pb2.SkipSamplesRequest(
            parent=self._parent,
            worker=said.worker,
            sample_ids=[each.sample_id for each in messages],
            reason=said.reason,
            lease=self._lease,
            fencing_token=self._token,
        )
        return unary(
            methods.SKIP_SAMPLES, request, lambda reply: _Stored(reply.skipped, reply.unchanged, reply.lease_remaining)
        )

    def _review(self, said: _Said, messages: list[_Message]) -> Unary[_Stored]:
        retracts = said.kind == "retract"
        request = annotations_pb2.ReviewSamplesRequest(parent=self._parent, worker=said.worker)
        for each in messages:
            if retracts:
                request.reviews.add(sample_id=each.sample_id, retract=True, comment=each.comment)
            else:
                request.reviews.add(sample_id=each.sample_id, value=each.value, comment=each.comment)
        return unary(methods.REVIEW_SAMPLES, request, lambda reply: _Stored(reply.decided, reply.unchanged, 0))

    def _withdraw(self, said: _Said, messages: list[_Message]) -> Unary[_Stored]:
        request = annotations_pb2.WithdrawAnnotationsRequest(
            parent=self._parent,
            worker=said.by or said.worker,
            annotator=said.worker if said.by else "",
            sample_ids=[each.sample_id for each in messages],
            reason=said.reason,
        )
        return unary(methods.WITHDRAW_ANNOTATIONS, request, lambda reply: _Stored(reply.withdrawn, 0, 0))


class _Events:
    """The events of a table, in requests. `left_out` counts those that are not said again.

    Raises:
        TypeError, ValueError: a field that cannot be read; nothing at all; two answers of a worker for one sample where
            nothing says that the later one corrects.
    """

    def __init__(self, table: Table, worker: str | None, origin: Origin, correct: bool) -> None:
        self._table = table
        self.ids = texts(table.required("id", "sample_id"), Place("id"))
        if not self.ids:
            raise ValueError("there are no records")
        self._said = self._common(worker, origin, correct)
        self._rows = self._kept()
        self.left_out = len(self.ids) - len(self._rows)
        self._arm, self._read = _value_reader(table)
        self._check_once()

    def batches(self) -> Iterator[tuple[_Said, list[_Message]]]:
        """What is said, in requests of events on distinct samples: of one sample an earlier one always comes first."""
        for start in range(0, len(self._rows), MAX_ROWS):
            rows = self._rows[start : start + MAX_ROWS]
            messages = dict(zip(rows, self._messages(rows), strict=True))
            for said, members in self._groups(rows):
                yield from ((said, part) for part in _parts([messages[row] for row in members]))

    def _groups(self, rows: Iterable[int]) -> list[tuple[_Said, list[int]]]:
        groups: dict[tuple[int, _Said], list[int]] = {}
        seen: dict[str, int] = {}
        for row in rows:
            rank = seen[self.ids[row]] = seen.get(self.ids[row], -1) + 1
            groups.setdefault((rank, self._said[row]), []).append(row)
        return [(said, members) for (_, said), members in sorted(groups.items(), key=lambda group: group[0][0])]

    def _common(self, worker: str | None, origin: Origin, correct: bool) -> list[_Said]:
        columns = (self._texts(name) for name in ("kind", "worker", "origin", "by", "comment"))
        known: dict[_Said, _Said] = {}
        found = []
        for row, (kind, who, whence, by, comment) in enumerate(zip(*columns, strict=True)):
            kind = kind or "annotate"
            where = f"record {row} (id {self.ids[row]!r})"
            if kind not in _KINDS:
                raise ValueError(f"{where} is of the kind {kind!r}; known are {', '.join(sorted(_KINDS))}")
            who = who or worker
            if who is None and kind != _DERIVED:
                raise ValueError(f"{where} names no worker: say who it was, with worker")
            said = _Said(
                "correct" if correct and kind == "annotate" else kind,
                who or "",
                (whence or origin) if kind in _VALUED else "",
                by or "",
                (comment or "") if kind in _REASONED else "",
            )
            found.append(known.setdefault(said, said))
        return found

    def _kept(self) -> list[int]:
        """Records that are said again: neither what follows from others, nor what was taken back as if it had never
        been."""
        standing: dict[tuple[str, str, str], int] = {}
        gone = self._brought_back()
        for row, said in enumerate(self._said):
            if said.kind in _UNDOES:
                gone.add(row)
                gone.add(standing.pop((self.ids[row], said.worker, _UNDOES[said.kind]), row))
            elif said.kind == _DERIVED:
                gone.add(row)
            else:
                standing[self.ids[row], said.worker, said.kind] = row
        return [row for row in range(len(self.ids)) if row not in gone]

    def _brought_back(self) -> set[int]:
        """Records by which an undo says again what was said before, and those that it undid: what is left is as old as
        it was, where what is said again would be newer than what others said meanwhile."""
        if "undoes" not in self._table.columns:
            return set()
        events, superseded, undone = (
            [_number(cell, name, self.ids[row]) for row, cell in enumerate(self._details(name, range(len(self.ids))))]
            for name in ("event", "supersedes", "undoes")
        )
        rows = {event: row for row, event in enumerate(events) if event is not None}
        found = set()
        for row, (said, before, action) in enumerate(zip(self._said, superseded, undone, strict=True)):
            if action is not None and said.kind in _VALUED and before in rows:
                found |= {row, rows[before]}
        return found

    def _check_once(self) -> None:
        if "kind" in self._table.columns:
            return
        seen: set[tuple[str, str]] = set()
        for row, sample_id in enumerate(self.ids):
            pair = (sample_id, self._said[row].worker)
            if pair in seen:
                raise ValueError(
                    f"record {row} (id {sample_id!r}): {pair[1]!r} labeled the sample twice, and nothing says which "
                    "answer counts"
                )
            seen.add(pair)

    def _texts(self, name: str) -> list[str | None]:
        held = self._table.columns.get(name)
        if held is None:
            return [None] * len(self.ids)
        return [each or None for each in optional_texts(held, Place(name, self.ids), empty=True)]

    def _messages(self, rows: Sequence[int]) -> list[_Message]:
        """The messages of records; of one without a value, its sample alone."""
        window = range(rows[0], rows[-1] + 1)
        names = ("comment", "external_id", "time", *self._numeric())
        columns = {name: self._details(name, window) for name in names}
        values = _window(self._table.columns[self._arm], self._arm, window)
        place = Place(self._arm, self.ids)
        valued = [row for row in rows if self._said[row].kind in _VALUED]
        annotations = []
        for row in valued:
            here = {name: cells[row - window.start] for name, cells in columns.items()}
            value = values[row - window.start]
            if value is None:
                raise ValueError(f"{place.at(row)} is missing")
            annotations.append(
                Annotation(
                    self.ids[row],
                    self._read(value, place.at(row)),
                    external_id=here["external_id"] or None,
                    comment=here["comment"] or "",
                    confidence=_number(here.get("confidence"), "confidence", self.ids[row]),
                    duration=_number(here.get("duration"), "duration", self.ids[row]),
                    time=_time(here["time"], f"the time of {place.at(row)}"),
                )
            )
        messages = dict(zip(valued, annotation_messages(annotations, self._arm) if annotations else [], strict=True))
        return [messages.get(row) or _Message(sample_id=self.ids[row]) for row in rows]

    def _numeric(self) -> tuple[str, ...]:
        # The confidence of a label that was decided is that of all who annotated, and nobody's own.
        return ("duration",) if "decided_by" in self._table.columns else ("duration", "confidence")

    def _details(self, name: str, window: range) -> list[Any]:
        held = self._table.columns.get(name)
        return [None] * len(window) if held is None else _window(held, name, window)


def _held(values: Any, name: str) -> list[Any]:
    return [each or None if isinstance(each, str) else each for each in column(values, name)]


def _window(values: Any, name: str, window: range) -> list[Any]:
    return _held(values[window.start : window.stop], name)


def _parts(
    messages: Sequence[annotations_pb2.AnnotationInput],
) -> Iterator[list[annotations_pb2.AnnotationInput]]:
    """Messages in parts that a request has room for."""
    part: list[annotations_pb2.AnnotationInput] = []
    size = 0
    for message in messages:
        more = message.ByteSize() + 8
        if part and size + more > MESSAGE_BYTES:
            yield part
            part, size = [], 0
        part.append(message)
        size += more
    if part:
        yield part


# --- cells -----------------------------------------------------------------------------------------------------------


def _number(cell: Any, name: str, sample_id: str) -> float | None:
    if isinstance(cell, str):
        try:
            return float(cell)
        except ValueError:
            raise ValueError(f"the {name} of {sample_id!r} is {shown(cell)}, and no number") from None
    return None if cell is None else cell


def _time(cell: Any, what: str) -> datetime | None:
    if isinstance(cell, str):
        try:
            return datetime.fromisoformat(cell)
        except ValueError:
            raise ValueError(f"{what} is {shown(cell)}: write it as 2026-01-31T12:00:00Z") from None
    return None if cell is None else cell


Reader = Callable[[Any, str], Any]


def _value_reader(table: Table) -> tuple[str, Reader]:
    """The column of values, and how a cell of it is read. Raises ValueError: there is none."""
    for name, read in _READERS.items():
        if name in table.columns:
            return name, read
    table.required(*_READERS)
    raise AssertionError("required raises for a column that is not there")


def _parsed(cell: Any, where: str) -> Any:
    """JSON in a cell of CSV."""
    if not isinstance(cell, str):
        return cell
    try:
        return json.loads(cell)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is {shown(cell)}, which is no JSON: {error}") from None


def entries(cell: Any, where: str) -> list[Any]:
    """The entries of a list in a cell, also as JSON. Raises ValueError or TypeError for what is none."""
    parsed = _parsed(cell, where)
    if isinstance(parsed, str | bytes | Mapping) or not hasattr(parsed, "__iter__"):
        raise TypeError(f"{where} is {shown(cell)}, {kind_of(cell)}; a list is needed")
    return column(parsed, where)


def _names(cell: Any, where: str) -> Any:
    return entries(cell, where)


def _numbers(cell: Any, where: str) -> Any:
    parsed = _parsed(cell, where)
    if not isinstance(parsed, Mapping):
        raise TypeError(f"{where} is {shown(cell)}, {kind_of(cell)}; a mapping from target to number is needed")
    return parsed


def boxes_of(cell: Any, where: str) -> list[Box]:
    """The boxes in a cell. Raises ValueError or TypeError for what are none."""
    return [_box(object_of(each, where), where) for each in entries(cell, where)]


def object_of(each: Any, where: str) -> Mapping[str, Any]:
    """An object in a cell. Raises TypeError for what is none."""
    if not isinstance(each, Mapping):
        raise TypeError(f"{where} holds {shown(each)}, {kind_of(each)}; an object is needed")
    return each


def _box(each: Mapping[str, Any], where: str) -> Box:
    attributes = _parsed(each.get("attributes"), where) or {}
    return Box(
        one_of(each, where, "class_name"),
        one_of(each, where, "x"),
        one_of(each, where, "y"),
        one_of(each, where, "w", "width"),
        one_of(each, where, "h", "height"),
        _given(each.get("score")),
        # A table gives every box the attributes that any has.
        {name: fact for name, fact in attributes.items() if fact is not None},
    )


def _given(number: Any) -> Any:
    """None for NaN, which pandas has for what is missing."""
    return None if isinstance(number, float) and number != number else number


def one_of(each: Mapping[str, Any], where: str, *names: str) -> Any:
    """The first of these fields that an object has. Raises ValueError where it has none."""
    for name in names:
        if name in each:
            return each[name]
    raise ValueError(f"{where} holds {shown(dict(each))}, which has no {names[-1]!r}")


def spans_of(cell: Any, where: str) -> list[Span]:
    """The spans in a cell. Raises ValueError or TypeError for what are none."""
    return [
        Span(*(one_of(object_of(each, where), where, name) for name in ("class_name", "start", "end")))
        for each in entries(cell, where)
    ]


def _json(cell: Any, where: str) -> Any:
    return Json(_parsed(cell, where))


def _as_it_is(cell: Any, _where: str) -> Any:
    return cell


# An export calls its values by their arm of the wire's Value; "label" is a column of one's own.
_READERS: Final[Mapping[str, Reader]] = {
    "label": _as_it_is,
    "class_name": _as_it_is,
    "class_names": _names,
    "numbers": _numbers,
    "boxes": boxes_of,
    "spans": spans_of,
    "json": _json,
}


def table_of(source: Any) -> Table:
    """A table of pandas, Arrow or polars, a mapping from field to column, or records, as columns.

    Raises:
        TypeError: none of these.
        ValueError: columns of different lengths.
    """
    if hasattr(source, "column_names") and hasattr(source, "num_rows"):
        return Table({name: source.column(name) for name in source.column_names}, source.num_rows)
    if isinstance(source, Mapping):
        columns = {str(name): column(values, str(name)) for name, values in source.items()}
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"columns of different lengths: {lengths}")
        return Table(columns, next(iter(lengths.values()), 0))
    if hasattr(source, "columns") and len(getattr(source, "shape", ())) == 2:
        return Table({str(name): source[name] for name in source.columns}, len(source))
    records = list(source) if isinstance(source, Iterable) and not isinstance(source, str | bytes) else [source]
    for row, record in enumerate(records):
        if not isinstance(record, Mapping):
            raise TypeError(
                f"source is a path, a table or a list of records, not {kind_of(source)}"
                + (f" with {kind_of(record)} at {row}" if records and records[0] is not source else "")
            )
    return Table.of_records(records)
