"""Rectangles with a class per sample, which may be none. A value is a tuple of Box in ascending order."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from assay.server.core.errors import Reason
from assay.server.core.limits import MAX_OBJECT_ATTRIBUTES, MAX_TEXT_BYTES, MAX_VALUE_BYTES
from assay.server.core.records.arrays import Scalar
from assay.server.core.tasks.average_precision import average_precision
from assay.server.core.tasks.base import Box, Column, Refused, TaskMetrics, Value, wrong_task
from assay.server.core.tasks.given import Boxes, BoxInput, Given, is_empty_set
from assay.server.core.tasks.matching import Objects, matched, overlapping
from assay.server.core.tasks.objects import ObjectTask, check_count, check_distinct, name_in
from assay.server.core.tasks.voting import plurality, weighted_mean

# Shares of a width that were computed from pixels miss 1 by rounding, in single precision too.
_SLACK = 1e-6
_ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_LAYOUT = np.dtype([("class_id", "<i4"), ("x", "<f8"), ("y", "<f8"), ("w", "<f8"), ("h", "<f8"), ("score", "<f8")])
_NUMBERS = (int, float)


class BoxesTask(ObjectTask):
    """The task of rectangles per sample."""

    def value_of(self, given: Given, text_length: int | None, retired: bool) -> Value:
        if is_empty_set(given):
            given = Boxes()
        if not isinstance(given, Boxes):
            raise wrong_task(given, Boxes, "all boxes of the sample; none of them is an answer")
        check_count(len(given.boxes), "boxes")
        boxes = [self._box(each, f"box {place}", retired) for place, each in enumerate(given.boxes)]
        check_distinct([_typed(box) for box in boxes], [f"box {place}" for place in range(len(boxes))])
        value = self.canonical(boxes)
        size = len(self.encode(value))
        if size > MAX_VALUE_BYTES:
            raise Refused(
                Reason.TOO_LARGE, f"its boxes take {size:,} bytes with their attributes; at most {MAX_VALUE_BYTES:,}."
            )
        return value

    def encode(self, value: Value) -> bytes:
        """Fixed-size fields of all boxes, then the attributes as JSON if any box has some."""
        rows = [(box.class_id, box.x, box.y, box.w, box.h, _or_nan(box.score)) for box in value]
        head = len(rows).to_bytes(4, "little") + np.array(rows, _LAYOUT).tobytes()
        if not any(box.attributes for box in value):
            return head
        attributes = [dict(box.attributes) for box in value]
        return head + json.dumps(attributes, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()

    def decode(self, data: bytes) -> Value:
        count = int.from_bytes(data[:4], "little")
        end = 4 + count * _LAYOUT.itemsize
        if not 4 <= end <= len(data):
            raise ValueError("no boxes of the task: cut short")
        rows = np.frombuffer(data[4:end], _LAYOUT)
        attributes = json.loads(data[end:]) if len(data) > end else [{}] * count
        if count and not 0 <= rows["class_id"].min() <= rows["class_id"].max() < len(self.classes):
            raise ValueError("no boxes of the task: unknown class")
        fields = zip(rows.tolist(), attributes, strict=True)
        return tuple(
            Box(class_id, x, y, w, h, None if math.isnan(score) else score, tuple(sorted(extra.items())))
            for (class_id, x, y, w, h, score), extra in fields
        )

    def agreement(self, a: Value, b: Value) -> float:
        """F1 of the boxes that both drew: twice as many as are matched, over all boxes of both; 1 if there are none.

        Matched are boxes of one class that overlap by the task's `match_iou`, each once, the largest overlaps first.
        """
        a, b = sorted((self.resolve(a), self.resolve(b)), key=self.encode)
        if (not a and not b) or a == b:
            return 1.0
        pairs = overlapping(self.arrays(a), self.arrays(b), self.record.options.match_iou)
        return 2 * matched(pairs) / (len(a) + len(b))

    def metrics(self, values: Column, predictions: Any, seed: int = 0) -> TaskMetrics:
        """map_50, the mean over the classes that were drawn of the average precision at an IoU of 0.5, and the average
        precision of each. Definition: `average_precision`."""
        return average_precision(
            self.classes.names,
            [self.resolve(value) for value in values],
            [self.resolve(value) for value in predictions],
            self.arrays,
            seed,
        )

    @property
    def export_columns(self) -> tuple[str, ...]:
        return ("boxes",)

    def cell(self, value: Value) -> list[dict[str, Any]]:
        return [self._cell_of(box) for box in value]

    def given_of(self, cell: Any) -> Given:
        return Boxes([_input_of(each) for each in cell])

    def arrays(self, objects: Sequence[Box]) -> Objects:
        lows = np.array([(box.x, box.y) for box in objects], np.float64).reshape(-1, 2)
        highs = np.array([(box.x + box.w, box.y + box.h) for box in objects], np.float64).reshape(-1, 2)
        return Objects(np.array([box.class_id for box in objects], np.int64), lows, highs)

    def mean(self, objects: Sequence[Box], weights: Sequence[float]) -> Box:
        """Means of place, size and score; of the attributes, what most of the weight says."""
        x, y, w, h = (weighted_mean([getattr(box, side) for box in objects], weights) for side in ("x", "y", "w", "h"))
        scored = [(box.score, weight) for box, weight in zip(objects, weights, strict=True) if box.score is not None]
        score = weighted_mean(*zip(*scored, strict=True)) if scored and any(weight for _, weight in scored) else None
        return Box(objects[0].class_id, x, y, w, h, score, _common_attributes(objects, weights))

    def canonical(self, objects: Sequence[Box]) -> Value:
        return tuple({_typed(box): box for box in sorted(objects, key=_sort_key)}.values())

    def moved(self, each: Box, class_id: int) -> Box:
        return replace(each, class_id=class_id)

    def _box(self, given: BoxInput, place: str, retired: bool) -> Box:
        class_id = self.class_of(given.class_name, place, retired)
        x, y, w, h = (_number(getattr(given, side), side, place, 1 + _SLACK) for side in ("x", "y", "w", "h"))
        if not (x + w > x and y + h > y):
            raise Refused(Reason.INVALID_VALUE, f"{place} has no area: its size is {w} by {h}. Leave it out.")
        if x + w > 1 + _SLACK or y + h > 1 + _SLACK:
            raise Refused(
                Reason.INVALID_VALUE,
                f"{place} ends at ({x + w:.6g}, {y + h:.6g}), outside the image. Places and sizes are shares of its "
                "width and height, from 0 to 1: divide pixels by them.",
            )
        score = None if given.score is None else _number(given.score, "score", place, 1.0)
        return Box(class_id, x, y, w, h, score, _attributes(given.attributes, place))

    def _cell_of(self, box: Box) -> dict[str, Any]:
        cell: dict[str, Any] = {"class_name": self.classes.names[box.class_id]}
        cell |= {"x": box.x, "y": box.y, "w": box.w, "h": box.h}
        if box.score is not None:
            cell["score"] = box.score
        if box.attributes:
            cell["attributes"] = dict(box.attributes)
        return cell


def _number(number: Any, what: str, place: str, most: float) -> float:
    if isinstance(number, bool) or not isinstance(number, _NUMBERS):
        raise Refused(Reason.INVALID_VALUE, f"{place} has {number!r:.40} as {what}, which is no number.")
    if not math.isfinite(number):
        raise Refused(Reason.NOT_FINITE, f"{place} has {number} as {what}. Give a finite number.")
    if not 0 <= number <= most:
        way_out = (
            "" if what == "score" else " Places and sizes are shares of the image's width and height: divide pixels."
        )
        raise Refused(Reason.INVALID_VALUE, f"{place} has {number:.6g} as {what}, outside 0 to 1.{way_out}")
    return float(number) + 0.0  # without the sign of -0.0


def _attributes(given: Mapping[Any, Any], place: str) -> tuple[tuple[str, Scalar], ...]:
    if len(given) > MAX_OBJECT_ATTRIBUTES:
        raise Refused(
            Reason.TOO_LARGE, f"{place} has {len(given)} attributes; at most {MAX_OBJECT_ATTRIBUTES} are kept."
        )
    for name, fact in given.items():
        if not isinstance(name, str) or not _ATTRIBUTE.fullmatch(name):
            raise Refused(
                Reason.INVALID_VALUE,
                f"{place} has an attribute {name!r:.100}: a name is a letter or '_', then up to 63 letters, digits or "
                "'_'.",
            )
        if not isinstance(fact, str | bool | int | float) or (isinstance(fact, str) and not _fits(fact)):
            raise Refused(
                Reason.INVALID_VALUE,
                f"attribute {name!r} of {place} is neither a number, a truth value nor text of at most "
                f"{MAX_TEXT_BYTES} bytes.",
            )
        if isinstance(fact, float) and not math.isfinite(fact):
            raise Refused(Reason.NOT_FINITE, f"attribute {name!r} of {place} is {fact}. Give a finite number.")
    return tuple(sorted(given.items()))


def _fits(text: str) -> bool:
    try:
        return len(text.encode()) <= MAX_TEXT_BYTES
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


def _common_attributes(boxes: Sequence[Box], weights: Sequence[float]) -> tuple[tuple[str, Scalar], ...]:
    common: list[tuple[str, Scalar]] = []
    facts = [dict(box.attributes) for box in boxes]
    for name in sorted({name for each in facts for name in each}):
        # JSON text tells True from 1; those who said nothing of it count as saying nothing.
        said = [json.dumps(each[name]) if name in each else None for each in facts]
        winner, _ = plurality(said, weights)
        if winner is not None:
            common.append((name, json.loads(winner)))
    return tuple(common)


def _input_of(cell: Mapping[str, Any]) -> BoxInput:
    # A table gives every box the fields that any box has; what a box lacks is null.
    attributes = {name: fact for name, fact in (cell.get("attributes") or {}).items() if fact is not None}
    return BoxInput(name_in(cell), cell["x"], cell["y"], cell["w"], cell["h"], cell.get("score"), attributes)


def _typed(box: Box) -> tuple[Any, ...]:
    """What tells boxes apart: 1, 1.0 and True are equal to Python, and differ as attributes."""
    return (box, tuple(type(fact) for _, fact in box.attributes))


def _or_nan(score: float | None) -> float:
    return math.nan if score is None else score


def _sort_key(box: Box) -> tuple[Any, ...]:
    score = -1.0 if box.score is None else box.score
    return (box.class_id, box.x, box.y, box.w, box.h, score, json.dumps(dict(box.attributes), sort_keys=True))
