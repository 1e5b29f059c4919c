"""Boxes from and to COCO's detection format (cocodataset.org, "Data format"), as plain dicts.

COCO has one list each of images, categories and annotations. A box there is [x, y, width, height] in pixels of its
image; here it is in shares of it, so that a box that goes out and comes back may differ by the rounding of a division.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import Box
from assay.server.core.tasks.given import Boxes, BoxInput

# Pixels by which a box may stick out of its image: coordinates are often rounded. It is cut there.
_SLACK = 1.0
# What COCO says of an annotation beside its box, which here are attributes.
_CROWD = "iscrowd"


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image with its boxes: width and height in pixels, boxes None where it has no label."""

    sample_id: str
    width: int
    height: int
    uri: str = ""
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True, slots=True)
class CocoSample:
    """What a document says of an image; its boxes are to be checked as any input is."""

    file_name: str
    width: int
    height: int
    boxes: Boxes


def to_coco(record: TaskRecord, images: Iterable[CocoImage]) -> dict[str, Any]:
    """A COCO document of the images and their boxes; a category's id is the class id + 1. Images without a label are
    left out, for in COCO an image without annotations shows nothing."""
    document: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": each.id + 1, "name": each.name, "supercategory": ""} for each in record.classes],
    }
    for image in images:
        if image.boxes is None:
            continue
        image_id = len(document["images"]) + 1
        document["images"].append(_image(image, image_id))
        for box in image.boxes:
            annotation_id = len(document["annotations"]) + 1
            document["annotations"].append({"id": annotation_id, "image_id": image_id, **_annotation(box, image)})
    return document


def from_coco(document: Mapping[str, Any]) -> tuple[tuple[str, ...], list[CocoSample]]:
    """The names of the categories, by id, and the images with their boxes, in the order of the document.

    Annotations without a box are refused. `iscrowd`, where set, and `attributes` become attributes of the box.

    Raises:
        SampleError: INVALID_VALUE or DUPLICATE_ID; its row is the place among the images.
        AssayError: INVALID_ARGUMENT: the document as a whole is no COCO.
    """
    images, categories, annotations = (_list(document, name) for name in ("images", "categories", "annotations"))
    try:
        names = {each["id"]: str(each["name"]) for each in categories}
        places = {each["id"]: place for place, each in enumerate(images)}
    except (KeyError, TypeError) as error:
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"An image or category of the COCO document lacks its id or name ({error})."
        ) from None
    if len(places) < len(images):
        raise AssayError(Reason.INVALID_ARGUMENT, "Two images of the COCO document have one id.")
    sizes = [_size(each, place) for place, each in enumerate(images)]
    boxes: list[list[BoxInput]] = [[] for _ in images]
    for number, annotation in enumerate(annotations):
        image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        place = places.get(image_id) if isinstance(image_id, str | int) else None
        if place is None:
            raise AssayError(Reason.INVALID_ARGUMENT, f"Annotation {number} of the COCO document is of no image in it.")
        boxes[place].append(_box(annotation, number, names, sizes[place], place))
    samples = [
        CocoSample(str(image.get("file_name", image["id"])), *size, Boxes(drawn))
        for image, size, drawn in zip(images, sizes, boxes, strict=True)
    ]
    return tuple(names[key] for key in sorted(names, key=str if _mixed(names) else None)), samples


def _image(image: CocoImage, image_id: int) -> dict[str, Any]:
    described = {"id": image_id, "file_name": image.sample_id, "width": image.width, "height": image.height}
    return described | ({"coco_url": image.uri} if image.uri else {})


def _annotation(box: Box, image: CocoImage) -> dict[str, Any]:
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


def _list(document: Any, name: str) -> Sequence[Any]:
    found = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(found, list):
        raise AssayError(
            Reason.INVALID_ARGUMENT, f"A COCO document has a list {name!r}; this one has none.", field=name
        )
    return found


def _mixed(names: Mapping[Any, str]) -> bool:
    return not all(isinstance(key, int) for key in names)


def _size(image: Mapping[str, Any], place: int) -> tuple[int, int]:
    width, height = image.get("width"), image.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise SampleError(
            Reason.INVALID_VALUE,
            place,
            f"its width and height are {width!r} and {height!r}. Give both in pixels: boxes are shares of them.",
        )
    return width, height


def _box(
    annotation: Mapping[str, Any], number: int, names: Mapping[Any, str], size: tuple[int, int], place: int
) -> BoxInput:
    try:
        x, y, w, h = (float(each) for each in annotation["bbox"])
        class_name = names[annotation["category_id"]]
        attributes = dict(annotation.get("attributes") or {})
        score = annotation.get("score")
    except (KeyError, TypeError, ValueError) as error:
        raise SampleError(
            Reason.INVALID_VALUE,
            place,
            f"its annotation {number} lacks a bbox of four numbers, or its category is not listed "
            f"({type(error).__name__}: {error}).",
        ) from None
    if annotation.get(_CROWD):
        attributes[_CROWD] = 1
    left, right = _cut(x, x + w, size[0])
    top, bottom = _cut(y, y + h, size[1])
    # Only what was cut is computed anew: a difference of sums has lost digits.
    width = w if (left, right) == (x, x + w) else right - left
    height = h if (top, bottom) == (y, y + h) else bottom - top
    return BoxInput(class_name, left / size[0], top / size[1], width / size[0], height / size[1], score, attributes)


def _cut(low: float, high: float, most: int) -> tuple[float, float]:
    """Both ends, those that stick out by rounding cut at the image's edge; what sticks out further is refused later."""
    return (0.0 if -_SLACK <= low < 0 else low), (float(most) if most < high <= most + _SLACK else high)
