"""Boxes as COCO's detection format (cocodataset.org, "Data format").

COCO has one list each of images, categories and annotations. A box there is [x, y, width, height] in pixels of its
image; here it is in shares of it, so that a box that goes out and comes back may differ by the rounding of a division.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import Box

# What COCO says of an annotation beside its box, which here are attributes.
_CROWD = "iscrowd"


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image with its boxes: width and height in pixels."""

    sample_id: str
    width: int
    height: int
    uri: str
    boxes: tuple[Box, ...]


def coco_chunks(record: TaskRecord, images: Callable[[], Iterable[Sequence[CocoImage]]]) -> Iterator[str]:
    """A COCO document in pieces; a category's id is the class id + 1.

    Args:
        record: of the task.
        images: gives the images, some at a time; called twice, for the document has all of them before all of their
            boxes.
    """
    categories = [{"id": each.id + 1, "name": each.name, "supercategory": ""} for each in record.classes]
    yield f'{{"categories": {_text(categories)}, "images": ['
    first = 1
    for page in images():
        yield _listed([_image(image, first + place) for place, image in enumerate(page)], first > 1)
        first += len(page)
    yield '], "annotations": ['
    image_id = annotation_id = 0
    for page in images():
        annotations: list[dict[str, Any]] = []
        more = annotation_id > 0
        for image in page:
            image_id += 1
            for box in image.boxes:
                annotation_id += 1
                annotations.append({"id": annotation_id, "image_id": image_id, **_box(box, image)})
        yield _listed(annotations, more)
    yield "]}\n"


def _listed(entries: Sequence[dict[str, Any]], more: bool) -> str:
    """Entries of a list, after others or not."""
    return "".join(f"{',' if more or place else ''}\n{_text(entry)}" for place, entry in enumerate(entries))


def _text(entry: Any) -> str:
    return json.dumps(entry, ensure_ascii=False)


def _image(image: CocoImage, image_id: int) -> dict[str, Any]:
    described = {"id": image_id, "file_name": image.sample_id, "width": image.width, "height": image.height}
    return described | ({"coco_url": image.uri} if image.uri else {})


def _box(box: Box, image: CocoImage) -> dict[str, Any]:
    attributes = dict(box.attributes)
    width, height = box.w * image.width, box.h * image.height
    annotation: dict[str, Any] = {
        "category_id": box.class_id + 1,
        "bbox": [box.x * image.width, box.y * image.height, width, height],
        "area": width * height,
        _CROWD: int(attributes.pop(_CROWD, 0)),
    }
    if box.score is not None:
        annotation["score"] = box.score
    if attributes:
        annotation["attributes"] = attributes
    return annotation
