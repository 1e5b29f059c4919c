"""Stretches of a text with a class per sample, which may be none. A value is a tuple of Span in ascending order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from assay.server.core.errors import Reason
from assay.server.core.tasks.base import Column, Refused, Span, TaskMetrics, Value, wrong_task
from assay.server.core.tasks.given import Given, SpanInput, Spans, is_empty_set
from assay.server.core.tasks.matching import Objects
from assay.server.core.tasks.objects import ObjectTask, check_count, check_distinct, name_in
from assay.server.core.tasks.resampling import Grouping, counted, grouped
from assay.server.core.tasks.voting import lower_median

_SCORES = ("micro_f1", "macro_f1")
_LAYOUT = np.dtype([("start", "<i4"), ("end", "<i4"), ("class_id", "<i4")])
_LARGEST = 2**31 - 1


class SpansTask(ObjectTask):
    """The task of stretches of a text per sample. A value is in order of start, end and class."""

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if is_empty_set(given):
            given = Spans()
        if not isinstance(given, Spans):
            raise wrong_task(given, Spans, "all spans of the text; none of them is an answer")
        check_count(len(given.spans), "spans")
        limit = _LARGEST if text_length is None else text_length
        spans = [self._span(each, f"span {place}", limit, retired) for place, each in enumerate(given.spans)]
        check_distinct(spans, [f"span {place}" for place in range(len(spans))])
        value = self.canonical(spans)
        overlap = _first_overlap(value) if self.record.options.disjoint_spans else None
        if overlap:
            a, b = overlap
            raise Refused(
                Reason.INVALID_VALUE,
                f"its spans {a.start} to {a.end} and {b.start} to {b.end} overlap, which the pool's task forbids. "
                "Keep one of them.",
            )
        return value

    def encode(self, value: Value) -> bytes:
        return np.array([(span.start, span.end, span.class_id) for span in value], _LAYOUT).tobytes()

    def decode(self, data: bytes) -> Value:
        rows = np.frombuffer(data, _LAYOUT)  # a ValueError for a length that does not divide
        ids = rows["class_id"]
        if len(rows) and not (0 <= ids.min() <= ids.max() < len(self.classes) and (rows["start"] < rows["end"]).all()):
            raise ValueError("no spans of the task")
        return tuple(Span(class_id, start, end) for start, end, class_id in rows.tolist())

    def agreement(self, a: Value, b: Value) -> float:
        """F1 of the characters with their class: twice as many as both marked, over those that each marked; 1 if
        neither marked any."""
        a_marked, b_marked = _covered(self.resolve(a)), _covered(self.resolve(b))
        either = _length(a_marked) + _length(b_marked)
        return 2 * _shared(a_marked, b_marked) / either if either else 1.0

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """micro_f1 and macro_f1 of spans, where one is right if start, end and class are (as in CoNLL-2003); per class
        precision, recall and F1."""
        if not len(values):
            return TaskMetrics(0, dict.fromkeys(_SCORES))
        said = [set(self.resolve(value)) for value in values]
        predicted = [set(self.resolve(value)) for value in predictions]
        right = [a & b for a, b in zip(said, predicted, strict=True)]
        shown = sorted({span.class_id for each in (*said, *predicted) for span in each})
        places = {class_id: place for place, class_id in enumerate(shown)}
        groupings = [_grouping(each, places) for each in (right, predicted, said)]
        right_RC, predicted_RC, said_RC = grouped(np.ones(len(said), np.int64), groupings, seed)
        names = [self.classes.names[class_id] for class_id in shown]
        return TaskMetrics(len(said), *counted(names, right_RC, predicted_RC, said_RC))

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("spans",)

    def cell(self, value: Value) -> list[dict[str, Any]]:
        return [
            {"class_name": self.classes.names[span.class_id], "start": span.start, "end": span.end} for span in value
        ]

    def given_of(self, cell: Any) -> Given:
        return Spans([SpanInput(name_in(each), each["start"], each["end"]) for each in cell])

    def arrays(self, objects: Sequence[Span]) -> Objects:
        lows = np.array([span.start for span in objects], np.float64)[:, None]
        highs = np.array([span.end for span in objects], np.float64)[:, None]
        return Objects(np.array([span.class_id for span in objects], np.int64), lows, highs)

    def mean(self, objects: Sequence[Span], weights: Sequence[float]) -> Span:
        """Medians of both ends, so that they are ends which somebody marked; the lower of two in the middle."""
        start = lower_median([span.start for span in objects], weights)
        return Span(objects[0].class_id, start, lower_median([span.end for span in objects], weights))

    def canonical(self, objects: Sequence[Span]) -> Value:
        return tuple(sorted(set(objects), key=lambda span: (span.start, span.end, span.class_id)))

    def moved(self, each: Span, class_id: int) -> Span:
        return replace(each, class_id=class_id)

    def may_stand(self, value: Value) -> bool:
        """Whether no two spans overlap, where the task forbids it."""
        return not (self.record.options.disjoint_spans and _first_overlap(value))

    def _span(self, given: SpanInput, place: str, limit: int, retired: bool) -> Span:
        class_id = self.class_of(given.class_name, place, retired)
        start, end = _offset(given.start, place), _offset(given.end, place)
        if not 0 <= start < end:
            raise Refused(
                Reason.INVALID_VALUE,
                f"{place} goes from {start} to {end}: a span has a character or more, from 0 on, and ends behind its "
                "last one.",
            )
        if end > limit:
            raise Refused(
                Reason.INVALID_VALUE,
                f"{place} ends at {end}, behind the end of the text, which has {limit} characters.",
            )
        return Span(class_id, start, end)


def _offset(number: Any, place: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise Refused(Reason.INVALID_VALUE, f"{place} has {number!r:.40} as an end, which is no whole number.")
    return number


def _first_overlap(value: Value) -> tuple[Span, Span] | None:
    """The first two spans that share a character."""
    return next(((before, span) for before, span in pairwise(value) if span.start < before.end), None)


# Of each class the marked stretches, ascending and apart.
_Covered = Mapping[int, Sequence[tuple[int, int]]]


def _covered(value: Value) -> _Covered:
    covered: dict[int, list[tuple[int, int]]] = {}
    for span in value:  # in order of start
        stretches = covered.setdefault(span.class_id, [])
        if stretches and span.start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], span.end))
        else:
            stretches.append((span.start, span.end))
    return covered


def _length(covered: _Covered) -> int:
    return sum(end - start for stretches in covered.values() for start, end in stretches)


def _shared(a: _Covered, b: _Covered) -> int:
    return sum(_shared_stretches(a[class_id], b[class_id]) for class_id in a.keys() & b.keys())


def _shared_stretches(a: Sequence[tuple[int, int]], b: Sequence[tuple[int, int]]) -> int:
    i = j = shared = 0
    while i < len(a) and j < len(b):
        shared += max(0, min(a[i][1], b[j][1]) - max(a[i][0], b[j][0]))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return shared


def _grouping(spans: Iterable[set[Span]], places: Mapping[int, int]) -> Grouping:
    entries = [(row, places[span.class_id]) for row, each in enumerate(spans) for span in each]
    table = np.array(entries, np.int64).reshape(-1, 2)
    return Grouping(table[:, 0], table[:, 1], len(places))
