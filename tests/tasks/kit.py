"""A record, values as callers give them, and hostile ones, for each task: what the conformance suite runs over.

A task of one's own is added to CASES and passes.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import strategies as st

from assay.server.core.errors import Reason
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskOptions, TaskRecord
from assay.server.core.tasks.given import Boxes, BoxInput, ClassNames, JsonText, Numbers, SpanInput, Spans
from assay.server.core.tasks.registry import task_of
from tests.docs.pages import ROOT, blocks

NAMES = ("cat", "dog", "Katze", "naïve", "rare")
TARGETS = (TargetRecord("age", 0.0, 120.0), TargetRecord("shift"), TargetRecord("price", 0.0))
DEEP = "[" * 65 + "]" * 65
HUGE = JsonText(json.dumps("x" * (1 << 20)))


@dataclass(frozen=True)
class Case:
    """A task under test.

    Attributes:
        record: the task.
        given: strategy of what callers give.
        hostile: what is refused, with the reason and a word of the message.
        forgives: whether people may agree wholly who did not say exactly the same.
        make: what makes the task of its record.
    """

    record: TaskRecord
    given: st.SearchStrategy
    hostile: tuple[tuple[object, Reason, str], ...]
    forgives: bool = False
    make: Callable = task_of

    @property
    def task(self):
        return self.make(self.record)

    @property
    def values(self):
        return self.given.map(self.task.check)


def _number(low, high):
    return st.floats(low, high, allow_nan=False)


def _box_of(class_name, corners, score, attributes):
    (x, x2), (y, y2) = corners
    return BoxInput(class_name, x, y, x2 - x, y2 - y, score, attributes)


_ENDS = st.lists(st.integers(0, 64), min_size=2, max_size=2, unique=True).map(
    lambda ends: [e / 64 for e in sorted(ends)]
)
_FACTS = st.dictionaries(
    st.sampled_from(["hard", "note"]), st.one_of(st.booleans(), st.integers(0, 1), st.text(max_size=3)), max_size=2
)
_BOX = st.builds(
    _box_of, st.sampled_from(NAMES), st.tuples(_ENDS, _ENDS), st.none() | _number(0, 1), st.just({}) | _FACTS
)
_SPAN = st.builds(
    lambda name, ends: SpanInput(name, *sorted(ends)),
    st.sampled_from(NAMES),
    st.lists(st.integers(0, 30), min_size=2, max_size=2, unique=True),
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(st.text(max_size=3), parts, max_size=3),
    max_leaves=8,
)
_OTHERS = (None, "cat", ClassNames(["cat"]), Numbers({"age": 1.0}), Boxes(), Spans(), JsonText("1"))


def _of_others(form):
    return tuple((given, Reason.WRONG_TASK, "value is") for given in _OTHERS if not isinstance(given, form))


def _box(**changes):
    return Boxes([BoxInput(**{"class_name": "cat", "x": 0.25, "y": 0.25, "w": 0.5, "h": 0.5, **changes})])


def _span(start, end, name="cat"):
    return Spans([SpanInput(name, start, end)])


def _numbers(**changes):
    return Numbers({"age": 30.0, "shift": -1.0, "price": 2.0, **changes})


_HEAVY = Boxes([BoxInput("cat", 0, 0, 1, 1, i / 100, {f"a{k}": "x" * 4000 for k in range(4)}) for i in range(100)])
_CLASSES = TaskRecord.of_classes(TaskKind.CLASSIFICATION, NAMES)

CASES = {
    TaskKind.CLASSIFICATION: Case(
        _CLASSES,
        st.sampled_from(NAMES),
        (
            ("Cat", Reason.UNKNOWN_CLASS, "'cat' meant"),
            ("nai\u0308ve", Reason.UNKNOWN_CLASS, "NFC"),
            ("", Reason.UNKNOWN_CLASS, "classes are"),
            *_of_others(str),
        ),
    ),
    TaskKind.MULTILABEL: Case(
        TaskRecord.of_classes(TaskKind.MULTILABEL, NAMES),
        st.lists(st.sampled_from(NAMES), unique=True).map(ClassNames),
        (
            (ClassNames(["cat", "bird"]), Reason.UNKNOWN_CLASS, "'bird'"),
            (ClassNames(["cat", "dog", "cat"]), Reason.INVALID_VALUE, "'cat' is in its set twice"),
            *_of_others(ClassNames),
        ),
    ),
    TaskKind.REGRESSION: Case(
        TaskRecord(TaskKind.REGRESSION, targets=TARGETS),
        st.builds(_numbers, age=_number(0, 120), shift=_number(-1e9, 1e9), price=_number(0, 1e300)),
        (
            (_numbers(age=math.nan), Reason.NOT_FINITE, "'age'"),
            (_numbers(shift=math.inf), Reason.NOT_FINITE, "'shift'"),
            (_numbers(shift=10**400), Reason.NOT_FINITE, "'shift'"),
            (_numbers(age=120.5), Reason.INVALID_VALUE, "outside the range 0.0 to 120.0"),
            (_numbers(price=-0.01), Reason.INVALID_VALUE, "outside the range"),
            (_numbers(age=True), Reason.INVALID_VALUE, "no number"),
            (_numbers(age="30"), Reason.INVALID_VALUE, "no number"),
            (_numbers(height=1.0), Reason.INVALID_VALUE, "'height' is no number of the pool"),
            (Numbers({"age": 30.0, "shift": 0.0}), Reason.INVALID_VALUE, "'price' is missing"),
            *_of_others(Numbers),
        ),
        forgives=True,  # what a float cannot tell from 1
    ),
    TaskKind.BOXES: Case(
        TaskRecord.of_classes(TaskKind.BOXES, NAMES),
        st.lists(_BOX, max_size=5, unique_by=lambda box: (box.class_name, box.x, box.y, box.w, box.h)).map(Boxes),
        (
            (_box(class_name="bird"), Reason.UNKNOWN_CLASS, "box 0"),
            (_box(x=math.nan), Reason.NOT_FINITE, "box 0"),
            (_box(w=math.inf), Reason.NOT_FINITE, "box 0"),
            (_box(x=-0.1), Reason.INVALID_VALUE, "outside 0 to 1"),
            (_box(x=0.6), Reason.INVALID_VALUE, "outside the image"),
            (_box(x=120, y=40, w=60, h=60), Reason.INVALID_VALUE, "divide pixels"),
            (_box(w=0.0), Reason.INVALID_VALUE, "no area"),
            (_box(h=1e-30), Reason.INVALID_VALUE, "no area"),
            (_box(w="0.5"), Reason.INVALID_VALUE, "no number"),
            (_box(score=1.5), Reason.INVALID_VALUE, "as score"),
            (_box(score=math.nan), Reason.NOT_FINITE, "as score"),
            (_box(attributes={"": 1}), Reason.INVALID_VALUE, "attribute"),
            (_box(attributes={"a": math.nan}), Reason.NOT_FINITE, "'a'"),
            (_box(attributes={"a": "x" * 5000}), Reason.INVALID_VALUE, "'a'"),
            (_box(attributes={"a": "\ud800"}), Reason.INVALID_VALUE, "'a'"),
            (_box(attributes={"a": [1]}), Reason.INVALID_VALUE, "'a'"),
            (_box(attributes={f"a{i}": 1 for i in range(65)}), Reason.TOO_LARGE, "attributes"),
            (Boxes(_box().boxes * 2), Reason.INVALID_VALUE, "box 1 is the same as box 0"),
            (Boxes(_box().boxes * 10_001), Reason.TOO_LARGE, "10,001 boxes"),
            (_HEAVY, Reason.TOO_LARGE, "bytes with their attributes"),
            *_of_others(Boxes),
        ),
        forgives=True,
    ),
    TaskKind.SPANS: Case(
        TaskRecord.of_classes(TaskKind.SPANS, NAMES),
        st.lists(_SPAN, max_size=5, unique=True).map(Spans),
        (
            (_span(0, 5, "bird"), Reason.UNKNOWN_CLASS, "span 0"),
            (_span(3, 3), Reason.INVALID_VALUE, "goes from 3 to 3"),
            (_span(5, 3), Reason.INVALID_VALUE, "goes from 5 to 3"),
            (_span(-1, 3), Reason.INVALID_VALUE, "from 0 on"),
            (_span(0, 2**31), Reason.INVALID_VALUE, "behind the end"),
            (_span(0, 1.5), Reason.INVALID_VALUE, "no whole number"),
            (_span(0, True), Reason.INVALID_VALUE, "no whole number"),
            (Spans(_span(0, 3).spans * 2), Reason.INVALID_VALUE, "span 1 is the same as span 0"),
            (Spans(_span(0, 3).spans * 10_001), Reason.TOO_LARGE, "10,001 spans"),
            *_of_others(Spans),
        ),
        forgives=True,
    ),
    TaskKind.FREEFORM: Case(
        TaskRecord(TaskKind.FREEFORM),
        _JSON.map(lambda value: JsonText(json.dumps(value))),
        (
            (JsonText(""), Reason.INVALID_VALUE, "no JSON"),
            (JsonText("{'a': 1}"), Reason.INVALID_VALUE, "no JSON"),
            (JsonText("NaN"), Reason.INVALID_VALUE, "NaN"),
            (JsonText("[1e999]"), Reason.INVALID_VALUE, "no JSON"),
            (JsonText('{"a": 1, "a": 2}'), Reason.INVALID_VALUE, "'a' twice"),
            (JsonText('"\\ud800"'), Reason.INVALID_VALUE, "no JSON"),
            (JsonText(DEEP), Reason.INVALID_VALUE, "deeper than 64"),
            (JsonText("[" * 100_000), Reason.INVALID_VALUE, "no JSON"),
            (JsonText("1" * 5000), Reason.INVALID_VALUE, "no JSON"),
            (HUGE, Reason.TOO_LARGE, "bytes"),
            (JsonText(json.dumps("ü" * 600_000, ensure_ascii=False)), Reason.TOO_LARGE, "bytes"),
            *_of_others(JsonText),
        ),
    ),
}


def _documented():
    """The task that the page walks through, as the page has it."""
    names = {"__name__": "ranking"}
    (block,) = blocks(ROOT / "docs" / "your-own-task.md")
    exec(block.text, names)
    ranked = names["Ranked"]
    hostile = (
        (ranked(["a", "b"]), Reason.INVALID_VALUE, "each of the classes once"),
        (ranked(["a", "b", "b"]), Reason.INVALID_VALUE, "each of the classes once"),
        (ranked(["a", "b", "d"]), Reason.UNKNOWN_CLASS, "'d'"),
        *_of_others(ranked),
    )
    record = TaskRecord.of_classes(TaskKind.CLASSIFICATION, "abc")
    return Case(record, st.permutations("abc").map(ranked), hostile, make=names["Ranking"])


EVERY_CASE = {**CASES, "documented": _documented()}
DISJOINT = TaskRecord.of_classes(TaskKind.SPANS, NAMES, TaskOptions(disjoint_spans=True))
