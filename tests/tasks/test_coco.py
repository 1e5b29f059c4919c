"""Boxes go out to COCO and come back; documents that are none are refused by image."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.coco import CocoImage, from_coco, to_coco
from tests.tasks.kit import CASES, NAMES

CASE = CASES[TaskKind.BOXES]
DOCUMENT = {
    "images": [{"id": 9, "file_name": "a.jpg", "width": 640, "height": 480}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 18, "bbox": [64, 48, 320, 240], "iscrowd": 0}],
}


@given(st.lists(st.none() | CASE.values, max_size=4), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_come_back_as_they_went(values, width, height):
    images = [CocoImage(f"s{i}", width, height, f"file:///{i}", value) for i, value in enumerate(values)]
    names, samples = from_coco(json.loads(json.dumps(to_coco(CASE.record, images))))
    assert names == NAMES
    said = [(image.sample_id, image.boxes) for image in images if image.boxes is not None]
    assert [sample.file_name for sample in samples] == [sample_id for sample_id, _ in said]
    for (_, boxes), sample in zip(said, samples, strict=True):
        back = CASE.task.check(sample.boxes)
        assert [(b.class_id, b.score, b.attributes) for b in back] == [
            (b.class_id, b.score, b.attributes) for b in boxes
        ]
        for before, after in zip(boxes, back, strict=True):
            assert (after.class_id, after.score, after.attributes) == (before.class_id, before.score, before.attributes)
            for side in ("x", "y", "w", "h"):
                assert getattr(after, side) == pytest.approx(getattr(before, side), abs=1e-12)


def test_a_document_of_others_is_read():
    names, (sample,) = from_coco(DOCUMENT)
    assert names == ("cat", "dog")
    (box,) = CASE.task.check(sample.boxes)
    assert (box.class_id, box.x, box.y, box.w, box.h, box.attributes) == (1, 0.1, 0.1, 0.5, 0.5, ())


def test_boxes_that_stick_out_by_rounding_are_cut_and_others_refused():
    document = copy.deepcopy(DOCUMENT)
    document["annotations"][0]["bbox"] = [320, -0.4, 320.3, 480.6]
    (box,) = CASE.task.check(from_coco(document)[1][0].boxes)
    assert (box.x, box.y, box.w, box.h) == (0.5, 0.0, 0.5, 1.0)
    document["annotations"][0]["bbox"] = [320, 0, 330, 480]
    with pytest.raises(SampleError, match="outside the image"):
        CASE.task.check(from_coco(document)[1][0].boxes)


def test_a_crowd_is_an_attribute():
    document = copy.deepcopy(DOCUMENT)
    document["annotations"][0]["iscrowd"] = 1
    value = CASE.task.check(from_coco(document)[1][0].boxes)
    assert value[0].attributes == (("iscrowd", 1),)
    (annotation,) = to_coco(CASE.record, [CocoImage("a.jpg", 640, 480, "", value)])["annotations"]
    assert annotation["iscrowd"] == 1
    assert "attributes" not in annotation
    assert annotation["bbox"] == pytest.approx([64, 48, 320, 240])


@pytest.mark.parametrize(
    ("part", "change", "word"),
    [
        ("images", None, "list 'images'"),
        ("images", [{"file_name": "a"}], "lacks its id"),
        ("images", [*DOCUMENT["images"], *DOCUMENT["images"]], "have one id"),
        ("images", [{"id": 9, "width": 0, "height": 480}], "in pixels"),
        ("images", [{"id": 9, "width": "640", "height": 480}], "in pixels"),
        ("categories", [{"id": 1}], "lacks its id or name"),
        ("categories", [{"id": 1, "name": "bird"}], "not listed"),
        ("annotations", [{"image_id": 1}], "of no image"),
        ("annotations", [{"image_id": []}], "of no image"),
        ("annotations", [7], "of no image"),
        ("annotations", [{"image_id": 9, "category_id": 18}], "bbox"),
        ("annotations", [{"image_id": 9, "category_id": 18, "bbox": [1, 2, 3]}], "bbox"),
        ("annotations", [{"image_id": 9, "category_id": 18, "bbox": [1, 2, 3, "x"]}], "bbox"),
        ("annotations", [{"image_id": 9, "category_id": [], "bbox": [1, 2, 3, 4]}], "not listed"),
    ],
)
def test_what_is_no_coco_is_refused(part, change, word):
    with pytest.raises(AssayError) as refusal:
        from_coco({**DOCUMENT, part: change})
    assert refusal.value.reason in (Reason.INVALID_ARGUMENT, Reason.INVALID_VALUE)
    assert word in refusal.value.message
