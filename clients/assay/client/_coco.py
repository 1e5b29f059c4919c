"""COCO's detection format (cocodataset.org, "Data format") as records: an image with its boxes each.

COCO has one list each of images, categories and annotations. A box there is [x, y, width, height] in pixels of its
image; here it is in shares of it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

# Pixels by which a box may stick out of its image: coordinates are often rounded. It is cut there.
_SLACK = 1.0
# What COCO says of an annotation beside its box, which here are attributes.
_CROWD = "iscrowd"


def coco_records(document: Any) -> list[dict[str, Any]]:
    """The images of a document, in its order: sample_id (the file's name), uri, width, height, and boxes.

    Annotations without a box are refused. `iscrowd`, where set, and `attributes` become attributes of the box.

    Raises:
        ValueError: what is no COCO; the place of the image or the annotation.
    """
    images, categories, annotations = (_list(document, name) for name in ("images", "categories", "annotations"))
    try:
        names = {each["id"]: str(each["name"]) for each in categories}
        places = {each["id"]: place for place, each in enumerate(images)}
    except (KeyError, TypeError) as error:
        raise ValueError(f"an image or category of the COCO document lacks its id or name ({error})") from None
    if len(places) < len(images):
        raise ValueError("two images of the COCO document have one id")
    records = [_record(image, place) for place, image in enumerate(images)]
    for number, annotation in enumerate(annotations):
        image_id = annotation.get("image_id") if isinstance(annotation, Mapping) else None
        place = places.get(image_id) if isinstance(image_id, str | int) else None
        if place is None:
            raise ValueError(f"annotation {number} of the COCO document is of no image in it")
        records[place]["boxes"].append(_box(annotation, number, names, records[place]))
    return records


def _list(document: Any, name: str) -> Sequence[Any]:
    found = document.get(name) if isinstance(document, Mapping) else None
    if not isinstance(found, list):
        raise ValueError(f"a COCO document has a list {name!r}; this one has none")
    return found


def _record(image: Mapping[str, Any], place: int) -> dict[str, Any]:
    width, height = image.get("width"), image.get("height")
    if not (isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0):
        raise ValueError(
            f"image {place} of the COCO document is {width!r} by {height!r}: give both in pixels, for boxes are shares "
            "of them"
        )
    return {
        "sample_id": str(image.get("file_name", image["id"])),
        "uri": image.get("coco_url"),
        "width": width,
        "height": height,
        "boxes": [],
    }


def _box(
    annotation: Mapping[str, Any], number: int, names: Mapping[Any, str], image: Mapping[str, Any]
) -> dict[str, Any]:
    try:
        x, y, w, h = (float(each) for each in annotation["bbox"])
        class_name = names[annotation["category_id"]]
        attributes = dict(annotation.get("attributes") or {})
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"annotation {number} of the COCO document, of {image['sample_id']!r}, lacks a bbox of four numbers, or "
            f"its category is not listed ({type(error).__name__}: {error})"
        ) from None
    if annotation.get(_CROWD):
        attributes[_CROWD] = 1
    left, right = _cut(x, x + w, image["width"])
    top, bottom = _cut(y, y + h, image["height"])
    # Only what was cut is computed anew: a difference of sums has lost digits.
    width = w if (left, right) == (x, x + w) else right - left
    height = h if (top, bottom) == (y, y + h) else bottom - top
    return {
        "class_name": class_name,
        "x": left / image["width"],
        "y": top / image["height"],
        "w": width / image["width"],
        "h": height / image["height"],
        "score": annotation.get("score"),
        "attributes": attributes,
    }


def _cut(low: float, high: float, most: int) -> tuple[float, float]:
    """Both ends, those that stick out by rounding cut at the image's edge; what sticks out further is refused later."""
    return (0.0 if -_SLACK <= low < 0 else low), (float(most) if most < high <= most + _SLACK else high)
