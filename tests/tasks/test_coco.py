"""Boxes go out to COCO and come back; documents that are none are refused by image."""

import copy
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.client._coco import coco_records
from assay.server.core.errors import SampleError
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.coco import CocoImage, coco_chunks
from tests.tasks.kit import CASES, NAMES

CASE = CASES[TaskKind.BOXES]


def written(*pages):
    """The document of some pages of images."""
    return json.loads("".join(coco_chunks(CASE.record, lambda: pages)))


def read(document):
    """The values of a document."""
    (column,) = CASE.task.export_columns
    return CASE.task.check_all(CASE.task.read_export({column: [each["boxes"] for each in coco_records(document)]}))


DOCUMENT = {
    "images": [{"id": 9, "file_name": "a.jpg", "width": 640, "height": 480}],
    "categories": [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}],
    "annotations": [{"id": 1, "image_id": 9, "category_id": 18, "bbox": [64, 48, 320, 240], "iscrowd": 0}],
}


@given(st.lists(CASE.values, max_size=4), st.integers(1, 5000), st.integers(1, 5000), st.integers(0, 4))
def test_boxes_come_back_as_they_went(values, width, height, cut):
    images = [CocoImage(f"s{i}", width, height, f"file:///{i}", value) for i, value in enumerate(values)]
    document = written(images[:cut], images[cut:])
    assert [each["name"] for each in document["categories"]] == list(NAMES)
    assert [each["id"] for each in document["annotations"]] == list(range(1, sum(map(len, values)) + 1))
    records = coco_records(document)
    assert [(each["sample_id"], each["uri"]) for each in records] == [(each.sample_id, each.uri) for each in images]
    for boxes, back in zip(values, read(document), strict=True):
        for before, after in zip(boxes, back, strict=True):
            assert (after.class_id, after.score, after.attributes) == (before.class_id, before.score, before.attributes)
            for side in ("x", "y", "w", "h"):
                assert getattr(after, side) == pytest.approx(getattr(before, side), abs=1e-12)


def test_a_document_of_others_is_read():
    ((box,),) = read(DOCUMENT)
    assert (box.class_id, box.x, box.y, box.w, box.h, box.attributes) == (1, 0.1, 0.1, 0.5, 0.5, ())


def test_boxes_that_stick_out_by_rounding_are_cut_and_others_refused():
    document = copy.deepcopy(DOCUMENT)
    document["annotations"][0]["bbox"] = [320, -0.4, 320.3, 480.6]
    ((box,),) = read(document)
    assert (box.x, box.y, box.w, box.h) == (0.5, 0.0, 0.5, 1.0)
    document["annotations"][0]["bbox"] = [320, 0, 330, 480]
    with pytest.raises(SampleError, match="outside the image"):
        read(document)


def test_a_crowd_is_an_attribute():
    document = copy.deepcopy(DOCUMENT)
    document["annotations"][0]["iscrowd"] = 1
    (value,) = read(document)
    assert value[0].attributes == (("iscrowd", 1),)
    (annotation,) = written([CocoImage("a.jpg", 640, 480, "", value)])["annotations"]
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
    with pytest.raises(ValueError, match=word):
        coco_records({**DOCUMENT, part: change})
