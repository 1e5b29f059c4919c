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

from assay.client import _replies, results
from assay.client._annotations import Origin
from assay.client._files import FileFormat, Table, located, read_table
from assay.client._ingest import MAX_ROWS, MESSAGE_BYTES
from assay.client._labeling import check_lease
from assay.client._names import enum_value, pool_name
from assay.client._values import Place, column, kind_of, optional_texts, shown, text, texts
from assay.client._wire import Series, Unary, unary
from assay.client.errors import AssayError
from assay.client.results import Lease
from assay.client.values import Annotation, Box, Json, Span, annotation_messages
from assay.v1 import annotations_pb2, methods

# Events that the server makes itself, by the policy of the pool.
_DERIVED: Final = frozenset({"resolve"})
_SAID: Final = frozenset({"annotate", "correct"})


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
) -> Series[results.ImportResult]:
    """Store what a file or a table says of samples: one that `export_labels` wrote, or one of your own.

    Fields of a record are the sample's id ("sample_id" or "id"); the value, under "label" in the natural type of the
    pool's task, or as an export has it ("class_name", "class_names", "numbers", "boxes", "spans", "json"); and, as
    there are, "worker", "time", "duration" in seconds, "confidence", "comment", "external_id", "origin", and "kind"
    with "annotate" or "correct". Of a history what the server derived ("resolve") is left out: labels follow from what
    was said by the policy of the pool that it goes into. Numbers of events and leases are the server's own, and other
    ones there.

    Events of one sample keep their order. They are sent in requests of at most 65,536, each stored whole or not at
    all; if one fails, the same import goes on where it ended when it is called again.

    Args:
        pool: id or name.
        source: path of a file (JSON Lines, JSON, CSV, Parquet, Arrow); a table of pandas, Arrow or polars; a mapping
            from field to column; or records as mappings.
        worker: who says what names no worker.
        format: of a file, if it is not to be told by its content and name.
        origin: of what names none.
        correct: put this in the place of what the same workers said before.
        lease: the lease that holds the samples.
        on_behalf_of: see `annotate`.

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

    def requests() -> Iterator[annotations_pb2.AnnotateRequest]:
        for number, (said, messages) in enumerate(events.batches()):
            request = annotations_pb2.AnnotateRequest(
                parent=pool_name(pool),
                worker=said.worker,
                annotations=messages,
                lease="" if lease is None else lease.name,
                fencing_token=0 if lease is None else lease.fencing_token,
                correct=said.kind == "correct",
                on_behalf_of=on_behalf_of,
                origin=enum_value(annotations_pb2.Origin, said.origin),
            )
            # Alike whenever the same import is called, so that one that broke off goes on where it did.
            digest = hashlib.blake2b(request.SerializeToString(deterministic=True), digest_size=16, salt=b"import")
            digest.update(number.to_bytes(8, "little"))
            request.request_id = digest.hexdigest()
            yield request

    return Series(lambda: _steps(requests(), where, events.derived))


def _steps(
    requests: Iterator[annotations_pb2.AnnotateRequest],
    where: Callable[[], AbstractContextManager[None]],
    derived: int,
) -> Generator[Unary[Any], Any, results.ImportResult]:
    stored = unchanged = 0
    last: results.AnnotateResult | None = None
    while True:
        with where():
            request = next(requests, None)
        if request is None:
            break
        try:
            last = yield unary(methods.ANNOTATE, request, _replies.annotated)
        except AssayError as error:
            error.note_stored(stored)
            raise
        assert last is not None
        stored, unchanged = stored + last.stored, unchanged + last.unchanged
    return results.ImportResult(stored, unchanged, derived, last.lease_remaining if last else 0)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the events of one request have in common."""

    kind: str
    worker: str
    origin: str


class _Events:
    """The events of a table, in requests. `derived` counts those that the server derives itself.

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
        self.derived = sum(said.kind in _DERIVED for said in self._said)
        self._arm, self._read = _value_reader(table)
        self._check_once()

    def batches(self) -> Iterator[tuple[_Said, list[annotations_pb2.AnnotationInput]]]:
        """What is said, in requests of events on distinct samples: of one sample an earlier one always comes first."""
        for start in range(0, len(self.ids), MAX_ROWS):
            window = range(start, min(start + MAX_ROWS, len(self.ids)))
            messages = dict(zip(self._told(window), self._messages(window), strict=True))
            for said, rows in self._groups(messages):
                yield from ((said, part) for part in _parts([messages[row] for row in rows]))

    def _told(self, window: range) -> list[int]:
        return [row for row in window if self._said[row].kind in _SAID]

    def _groups(self, rows: Iterable[int]) -> list[tuple[_Said, list[int]]]:
        groups: dict[tuple[int, _Said], list[int]] = {}
        seen: dict[str, int] = {}
        for row in rows:
            rank = seen[self.ids[row]] = seen.get(self.ids[row], -1) + 1
            groups.setdefault((rank, self._said[row]), []).append(row)
        return [(said, members) for (_, said), members in sorted(groups.items(), key=lambda group: group[0][0])]

    def _common(self, worker: str | None, origin: Origin, correct: bool) -> list[_Said]:
        workers = self._texts("worker")
        kinds = self._texts("kind")
        origins = self._texts("origin")
        known: dict[_Said, _Said] = {}
        found = []
        for row, sample_id in enumerate(self.ids):
            kind = kinds[row] or "annotate"
            where = f"record {row} (id {sample_id!r})"
            if kind not in _SAID | _DERIVED:
                raise ValueError(f"{where} is of the kind {kind!r}; what is read is {', '.join(sorted(_SAID))}")
            who = workers[row] or worker
            if who is None and kind not in _DERIVED:
                raise ValueError(f"{where} names no worker: say who it was, with worker")
            said = _Said("correct" if correct and kind == "annotate" else kind, who or "", origins[row] or origin)
            found.append(known.setdefault(said, said))
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

    def _messages(self, window: range) -> list[annotations_pb2.AnnotationInput]:
        told = self._told(window)
        columns = {name: self._details(name, window) for name in ("comment", "external_id", *self._numeric(), "time")}
        values = _window(self._table.columns[self._arm], self._arm, window)
        place = Place(self._arm, self.ids)
        annotations = []
        for row in told:
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
        return annotation_messages(annotations, self._arm)

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


def _entries(cell: Any, where: str) -> list[Any]:
    parsed = _parsed(cell, where)
    if isinstance(parsed, str | bytes | Mapping) or not hasattr(parsed, "__iter__"):
        raise TypeError(f"{where} is {shown(cell)}, {kind_of(cell)}; a list is needed")
    return column(parsed, where)


def _names(cell: Any, where: str) -> Any:
    return _entries(cell, where)


def _numbers(cell: Any, where: str) -> Any:
    parsed = _parsed(cell, where)
    if not isinstance(parsed, Mapping):
        raise TypeError(f"{where} is {shown(cell)}, {kind_of(cell)}; a mapping from target to number is needed")
    return parsed


def _boxes(cell: Any, where: str) -> Any:
    return [_box(_object(each, where), where) for each in _entries(cell, where)]


def _object(each: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(each, Mapping):
        raise TypeError(f"{where} holds {shown(each)}, {kind_of(each)}; an object is needed")
    return each


def _box(each: Mapping[str, Any], where: str) -> Box:
    attributes = _parsed(each.get("attributes"), where) or {}
    return Box(
        _of(each, where, "class_name"),
        _of(each, where, "x"),
        _of(each, where, "y"),
        _of(each, where, "w", "width"),
        _of(each, where, "h", "height"),
        _given(each.get("score")),
        # A table gives every box the attributes that any has.
        {name: fact for name, fact in attributes.items() if fact is not None},
    )


def _given(number: Any) -> Any:
    """None for NaN, which pandas has for what is missing."""
    return None if isinstance(number, float) and number != number else number


def _of(each: Mapping[str, Any], where: str, *names: str) -> Any:
    for name in names:
        if name in each:
            return each[name]
    raise ValueError(f"{where} holds {shown(dict(each))}, which has no {names[-1]!r}")


def _spans(cell: Any, where: str) -> Any:
    return [
        Span(*(_of(_object(each, where), where, name) for name in ("class_name", "start", "end")))
        for each in _entries(cell, where)
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
    "boxes": _boxes,
    "spans": _spans,
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
