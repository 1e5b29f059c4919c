"""What single tasks say of single values: places, limits, canonical forms, and what agreement and consensus come to."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import Reason, SampleError
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskOptions, TaskRecord
from assay.server.core.tasks.base import Box, Span
from assay.server.core.tasks.given import Boxes, BoxInput, ClassNames, JsonText, Numbers, SpanInput, Spans
from assay.server.core.tasks.matching import overlapping
from assay.server.core.tasks.registry import task_of
from tests.tasks.kit import CASES, DISJOINT

CLASSES, SETS, NUMBERS, BOXES, SPANS, FREE = (case.task for case in CASES.values())


def _box(x, y, w=0.2, h=0.2, class_id=0, **more):
    return Box(class_id, x, y, w, h, **more)


# --- classification


def test_a_column_of_names_is_one_array():
    codes = CLASSES.check_all(["dog", "cat", "dog"])
    assert codes.dtype == np.int32
    assert codes.tolist() == [1, 0, 1]
    assert b"".join(CLASSES.encode(int(code)) for code in codes) == codes.astype("<i4").tobytes()


def test_a_tie_is_nobodys():
    assert CLASSES.consensus([0, 1]).value is None
    assert CLASSES.consensus([0, 1, 1]).value == 1
    assert CLASSES.consensus([0, 1, 1, 2]).value == 1
    assert CLASSES.consensus([0, 1], [1.0, 1.5]).value == 1
    three = CLASSES.consensus([0, 0, 1])
    assert (three.confidence, three.agreement) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    # Sums of weights in another order differ by rounding, and are the same.
    assert CLASSES.consensus([0, 0, 1, 1], [0.1, 0.2, 0.2, 0.1]).value is None
    assert CLASSES.consensus([0, 0, 0, 1], [0.1, 0.1, 0.1, 0.3]).value is None


# --- sets


def test_sets_are_voted_on_class_by_class():
    assert SETS.consensus([(0,), (0, 1), (0, 2)]).value == (0,)
    assert SETS.consensus([(), (), (1,)]).value == ()
    assert SETS.consensus([(0,), (0, 1)]).value is None
    assert SETS.consensus([(0,), (0, 1)], [1.0, 2.0]).value == (0, 1)
    assert SETS.agreement((0, 1), (1, 2)) == pytest.approx(1 / 3)
    assert SETS.agreement((), (1,)) == 0
    assert SETS.check(ClassNames(["dog", "cat"])) == (0, 1)
    assert SETS.targets([(), (0, 3)]).tolist() == [[False] * 5, [True, False, False, True, False]]


# --- numbers


def test_numbers_agree_by_range_or_by_size():
    age, shift, price = (30.0, 1.0, 10.0), (42.0, 1.0, 10.0), (30.0, -1.0, 5.0)
    assert NUMBERS.agreement(age, shift) == pytest.approx(1 - 0.1 / 3)
    assert NUMBERS.agreement(age, price) == pytest.approx((1 + 0 + 0.5) / 3)
    assert NUMBERS.agreement((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)) == 1
    assert NUMBERS.agreement((0.0, 1.7e308, 0.0), (0.0, -1.7e308, 0.0)) == pytest.approx(2 / 3)


def test_numbers_have_a_consensus_where_most_are_near_their_median():
    task = task_of(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x", 0.0, 100.0),)))
    assert task.consensus([(10.0,), (12.0,), (90.0,)]).value == (12.0,)
    assert task.consensus([(48.0,), (52.0,)]).value == (50.0,)
    apart = task.consensus([(0.0,), (100.0,)])
    assert (apart.value, apart.confidence, apart.agreement) == (None, 0, 0)
    assert task.consensus([(0.0,), (100.0,)], [1.0, 3.0]).value == (100.0,)
    assert task.consensus([(0.0,), (20.0,), (40.0,), (60.0,)]).value is None


def test_the_sign_of_zero_does_not_count():
    assert NUMBERS.encode(NUMBERS.check(Numbers({"age": -0.0, "shift": -0.0, "price": 0.0}))) == bytes(24)


# --- boxes


def test_boxes_are_matched_by_class_and_overlap():
    near = [_box(0.1, 0.1), _box(0.6, 0.6)], [_box(0.12, 0.1), _box(0.6, 0.6, class_id=1)]
    assert BOXES.agreement(tuple(near[0]), tuple(near[1])) == pytest.approx(0.5)
    assert BOXES.agreement((), (_box(0, 0),)) == 0
    assert BOXES.agreement((), ()) == 1


def test_the_largest_overlaps_are_matched_first():
    # b1 overlaps both of a's; taking it for a0, as the order would have it, leaves b0 for nobody.
    a = (_box(0.10, 0.1), _box(0.14, 0.1))
    b = (_box(0.07, 0.1), _box(0.14, 0.1))
    assert BOXES.agreement(a, b) == 1


def test_boxes_of_most_people_are_kept_and_averaged():
    drawn = [(_box(0.1, 0.1, score=0.5),), (_box(0.12, 0.1),), (_box(0.5, 0.5),)]
    consensus = BOXES.consensus(drawn)
    (box,) = consensus.value
    assert (box.x, box.y, box.w, box.h, box.score) == (pytest.approx(0.11), 0.1, 0.2, 0.2, 0.5)
    assert consensus.confidence == pytest.approx(2 / 3)
    assert BOXES.consensus(drawn[1:]).value is None
    assert BOXES.consensus([(), (), (_box(0, 0),)]).value == ()


def test_one_person_has_one_box_of_a_thing():
    twice = (_box(0.1, 0.1), _box(0.11, 0.1))
    (box,) = BOXES.consensus([twice, (), (_box(0.1, 0.1),)]).value
    assert (box.x, box.y) == (0.1, 0.1)


def test_attributes_are_what_most_say_and_one_is_not_true():
    yes, no = _box(0, 0, attributes=(("hard", True),)), _box(0, 0, attributes=(("hard", 1),))
    assert not BOXES.equal((yes,), (no,))
    (box,) = BOXES.consensus([(yes,), (yes,), (no,)]).value
    assert box.attributes[0][1] is True
    (both,) = BOXES.consensus([(yes,), (no,), (_box(0, 0),)]).value
    assert both.attributes == ()


def test_an_empty_list_says_that_there_is_nothing():
    nothing = ClassNames([])
    assert (SETS.check(nothing), BOXES.check(nothing), SPANS.check(nothing)) == ((), (), ())
    for task in (CLASSES, NUMBERS, FREE):
        with pytest.raises(SampleError):
            task.check(nothing)
    for task in (BOXES, SPANS):
        with pytest.raises(SampleError):
            task.check(ClassNames(["cat"]))


def test_a_box_may_stick_out_by_rounding():
    width = float(np.float32(0.9))
    assert BOXES.check(Boxes([BoxInput("cat", 1 - width, 0, width + 1e-8, 1)]))


def test_ten_thousand_boxes_are_matched_without_all_their_pairs():
    # 100 million pairs; those looked at are the neighbours. A loop over all would take minutes.
    side = 1 / 128
    a = tuple(_box(i * side, j * side, side, side) for i in range(100) for j in range(100))
    b = tuple(_box(box.x + side / 8, box.y, side, side) for box in a)
    assert BOXES.agreement(a, b) == 1
    assert len(BOXES.consensus([a, b, a]).value) == 10_000


def test_ten_thousand_boxes_on_one_spot_fit_in_memory():
    spot = tuple(_box(0.1, 0.1, score=i / 10_000) for i in range(10_000))
    assert 0 < BOXES.agreement(spot, spot[1:]) <= 1


@given(
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2, st.integers(0, 1)), max_size=8),
    st.lists(st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 12)] * 2, st.integers(0, 1)), max_size=8),
    st.sampled_from([0.1, 0.5, 0.9, 1.0]),
)
def test_overlaps_are_those_of_the_definition(a, b, least):
    a, b = ([_box(x / 24, y / 24, w / 24, h / 24, c) for x, y, w, h, c in each] for each in (a, b))
    pairs = overlapping(BOXES.arrays(a), BOXES.arrays(b), least)
    found = dict(zip(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True), pairs.iou.tolist(), strict=True))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            iou = _iou(one, other) if one.class_id == other.class_id else 0.0
            if iou >= least + 1e-9:
                assert found.pop((i, j)) == pytest.approx(iou)
            elif iou <= least - 1e-9:
                assert (i, j) not in found
    assert all(iou == pytest.approx(least) for iou in found.values())


def _iou(a, b):
    w = max(0.0, min(a.x + a.w, b.x + b.w) - max(a.x, b.x))
    h = max(0.0, min(a.y + a.h, b.y + b.h) - max(a.y, b.y))
    return w * h / (a.w * a.h + b.w * b.h - w * h)


# --- spans


def test_a_span_lies_within_a_text_whose_length_is_known():
    given_value = Spans([SpanInput("cat", 0, 5)])
    assert SPANS.check(given_value, text_length=5) == (Span(0, 0, 5),)
    with pytest.raises(SampleError, match="which has 4 characters") as refusal:
        SPANS.check_all([given_value, given_value], [5, 4])
    assert (refusal.value.reason, refusal.value.row) == (Reason.INVALID_VALUE, 1)


def test_spans_may_overlap_unless_the_task_forbids_it():
    nested = Spans([SpanInput("cat", 0, 5), SpanInput("dog", 4, 9)])
    assert len(SPANS.check(nested)) == 2
    with pytest.raises(SampleError, match="0 to 5 and 4 to 9 overlap"):
        task_of(DISJOINT).check(nested)
    assert len(task_of(DISJOINT).check(Spans([SpanInput("cat", 0, 4), SpanInput("dog", 4, 9)]))) == 2


def test_spans_agree_by_their_characters():
    assert SPANS.agreement((Span(0, 0, 10),), (Span(0, 5, 10),)) == pytest.approx(2 * 5 / 15)
    assert SPANS.agreement((Span(0, 0, 10),), (Span(1, 0, 10),)) == 0
    assert SPANS.agreement((Span(0, 0, 4), Span(0, 2, 6)), (Span(0, 0, 6),)) == 1


def test_spans_of_most_people_are_kept_with_ends_that_somebody_marked():
    marked = [(Span(0, 0, 10),), (Span(0, 1, 10),), (Span(0, 1, 9), Span(1, 20, 25))]
    assert SPANS.consensus(marked).value == (Span(0, 1, 10),)
    assert SPANS.consensus(marked[1:]).value is None


def test_a_consensus_that_the_task_forbids_is_none():
    marked = [(Span(0, 0, 8),), (Span(0, 0, 6), Span(1, 6, 9)), (Span(0, 0, 7), Span(1, 7, 9))]
    assert SPANS.consensus(marked).value == (Span(0, 0, 7), Span(1, 6, 9))
    assert task_of(DISJOINT).consensus(marked).value is None
    assert task_of(DISJOINT).consensus([marked[1], marked[1], marked[2]]).value == marked[1]


# --- freeform


def test_equal_json_has_one_text():
    a = FREE.check(JsonText('{"b": [1, 2.50], "a": "\\u00fc"}'))
    assert a == FREE.check(JsonText(' {"a":"ü","b":[1,2.5]}'))
    assert a == '{"a":"ü","b":[1,2.5]}'
    assert FREE.check(JsonText("1")) != FREE.check(JsonText("1.0"))
    assert FREE.check(JsonText("[" * 64 + "]" * 64))


def test_a_decision_that_someone_tampered_with_is_not_read():
    for task, data in (
        (CLASSES, b"\x00"),
        (CLASSES, (99).to_bytes(4, "little")),
        (SETS, b"\x01\x00\x00\x00\x00\x00\x00\x00"),
        (SETS, b"\x01\x00"),
        (NUMBERS, bytes(8)),
        (BOXES, b"\x01\x00\x00\x00"),
        (BOXES, b""),
        (SPANS, bytes(12)),
        (FREE, b'{"a": 1}'),
        (FREE, b"\xff"),
    ):
        with pytest.raises(ValueError, match=r"."):
            task.decode(data)


def test_options_of_the_task_say_what_is_the_same():
    strict = task_of(TaskRecord.of_classes(TaskKind.BOXES, ["a"], TaskOptions(match_iou=0.95)))
    a, b = (_box(0.1, 0.1),), (_box(0.12, 0.1),)
    assert strict.agreement(a, b) == 0
    assert BOXES.agreement(a, b) == 1
