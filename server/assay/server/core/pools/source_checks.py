"""Checks of predictions that a source brings, and the columns that they become: one for each class or number."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.limits import MAX_OBJECTS, Limits
from assay.server.core.pools.messages import PredictionUpdate
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.base import PredictionForm, Refused
from assay.server.core.tasks.classes import Classes

# What a plan calls the sources that are not somebody's own.
OWN = ("head", "backbone", "pushed")
# Named sources of a pool.
MAX_SOURCES = 64
# Shares of a width that were computed from pixels in single precision.
_SLACK = 1e-5

_SAID = {
    PredictionForm.PROBABILITIES: "probabilities of one class each",
    PredictionForm.LABEL_PROBABILITIES: "probabilities of each label",
    PredictionForm.NUMBERS: "numbers",
    PredictionForm.OBJECTS: "objects",
}


def checked(update: PredictionUpdate, snapshot: Snapshot, limits: Limits) -> PredictionColumns:
    """The columns of an update, by class id or by target. Raises AssayError, naming what is wrong and where."""
    source_name(update.source)
    if update.source not in snapshot.sources and len(snapshot.sources) >= MAX_SOURCES:
        raise AssayError(
            Reason.TOO_LARGE,
            f"The pool has {MAX_SOURCES} prediction sources already. Delete one that is no longer used.",
            sources=MAX_SOURCES,
        )
    checks.ids(update.ids, limits.max_batch_rows)
    _of_task(update, snapshot)
    if len(update.columns) != len(update.ids):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"There are predictions of {len(update.columns)} samples for {len(update.ids)} ids.",
            field="predictions",
        )
    task = snapshot.pool.task
    match update.form:
        case PredictionForm.NUMBERS:
            return _numbers(update, task)
        case PredictionForm.OBJECTS:
            assert update.columns.objects is not None
            return PredictionColumns(objects=_objects(update.columns.objects, update.names, task))
    assert update.columns.values_NX is not None
    probs_NC = _by_class(update.columns.values_NX, update.names, task)
    if update.form is PredictionForm.PROBABILITIES:
        checks.probabilities(probs_NC, len(task.classes))
    else:
        _shares(probs_NC)
    return PredictionColumns(probs_NC)


def source_name(name: str) -> None:
    """A user's name for a source. Raises AssayError(INVALID_NAME)."""
    checks.name(name, "source")
    if name in OWN:
        raise AssayError(
            Reason.INVALID_NAME,
            f"{name!r} is what plans call predictions of the server's own. Give the source another name.",
            name=name,
        )


def _of_task(update: PredictionUpdate, snapshot: Snapshot) -> None:
    """Raises AssayError(WRONG_TASK) for predictions of another form than the pool's task has."""
    shape, kind = snapshot.task.prediction_shape, snapshot.pool.task.kind
    if shape is None:
        raise AssayError(
            Reason.WRONG_TASK, f"Nothing is predicted in pools of the task {kind}: they take no predictions.", task=kind
        )
    places = update.columns.objects.places_PX.shape[1] if update.columns.objects is not None else 0
    wanted = {TaskKind.BOXES: 4, TaskKind.SPANS: 2}.get(kind, 0)
    if shape.form is not update.form or places != wanted:
        got = {4: "boxes", 2: "spans"}.get(places, _SAID[update.form])
        wants = {4: "boxes", 2: "spans"}.get(wanted, _SAID[shape.form])
        raise AssayError(
            Reason.WRONG_TASK,
            f"The predictions are {got}, and in pools of the task {kind} they are {wants}.",
            task=kind,
            got=got,
            wanted=wants,
        )


def _by_class(values_NX: FloatArray, given: Sequence[str], task: TaskRecord) -> FloatArray:
    """Values with a column for every class, by id; what is not given of a class is 0."""
    if not task.classes:
        raise AssayError(Reason.PROBABILITIES_INVALID, "The pool has no classes, so it takes no predictions.")
    if not given:
        if not len(values_NX):
            return np.zeros((0, len(task.classes)), np.float32)  # samples without any objects
        if values_NX.shape[1] != len(task.classes):
            raise AssayError(
                Reason.DIMENSION_MISMATCH,
                f"The predictions have {values_NX.shape[1]} columns, and the pool has {len(task.classes)} classes, "
                f"retired ones too: {_listed(task.class_names)}. Give a column for each, by id, or name the columns.",
                expected=len(task.classes),
                got=values_NX.shape[1],
            )
        return values_NX
    _one_name_each(given, values_NX.shape[1])
    classes = Classes(task)
    try:
        ids = [classes.id_of(name, retired=True) for name in given]
    except Refused as refused:
        raise AssayError(refused.reason, f"A column cannot be taken: {refused.problem}", **refused.facts) from None
    out_NC = np.zeros((len(values_NX), len(task.classes)), np.float32)
    out_NC[:, ids] = values_NX
    return out_NC


def _numbers(update: PredictionUpdate, task: TaskRecord) -> PredictionColumns:
    values_NX, spread_NX = update.columns.values_NX, update.columns.spread_NX
    assert values_NX is not None
    targets = [target.name for target in task.targets]
    given = list(update.names) or targets
    _one_name_each(given, values_NX.shape[1])
    if sorted(given) != sorted(targets):
        raise AssayError(
            Reason.DIMENSION_MISMATCH,
            f"The columns are {_listed(given)}, and the pool asks for {_listed(targets)}. Predict each number.",
            expected=len(targets),
            got=len(given),
        )
    checks.finite(values_NX)
    if spread_NX is not None:
        if spread_NX.shape != values_NX.shape:
            raise AssayError(
                Reason.DIMENSION_MISMATCH,
                f"The spread is {spread_NX.shape[0]} x {spread_NX.shape[1]}, and the values are {values_NX.shape[0]} x "
                f"{values_NX.shape[1]}.",
            )
        checks.finite(spread_NX)
        _refuse(np.any(spread_NX < 0, axis=1), Reason.INVALID_VALUE, "its spread is below 0.")
    order = [given.index(name) for name in targets]
    return PredictionColumns(values_NX[:, order], None if spread_NX is None else spread_NX[:, order])


def _objects(given: ObjectColumns, names: Sequence[str], task: TaskRecord) -> ObjectColumns:
    offsets_O, probs_PX, places_PX = given.offsets_O, given.probs_PC, given.places_PX
    counts_N = np.diff(offsets_O)
    if offsets_O[0] != 0 or (counts_N < 0).any() or not offsets_O[-1] == len(probs_PX) == len(places_PX):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            f"The offsets must ascend from 0 to the number of objects, of which there are {len(probs_PX)} "
            f"probabilities and {len(places_PX)} places.",
            field="offsets",
        )
    _refuse(counts_N > MAX_OBJECTS, Reason.TOO_LARGE, f"it has more than {MAX_OBJECTS:,} objects.")
    owners_P = np.repeat(np.arange(len(counts_N)), counts_N)
    probs_PC = _by_class(probs_PX, names, task)
    # Written so that NaN is refused.
    sums_P = probs_PC.sum(axis=1)
    right_P = np.all(probs_PC >= 0, axis=1) & (sums_P <= 1 + checks.PROBABILITY_SLACK)
    _refuse_part(
        right_P,
        owners_P,
        Reason.PROBABILITIES_INVALID,
        "has no probabilities: numbers of 0 or more that sum to 1 at most are needed. What is missing to 1 stands for "
        "its being nothing at all.",
    )
    _check_places(places_PX, owners_P)
    return ObjectColumns(offsets_O, probs_PC, places_PX)


def _check_places(places_PX: npt.NDArray[Any], owners_P: npt.NDArray[np.int64]) -> None:
    """Boxes lie within the image, spans begin at 0 or later, and none is empty; NaN is refused."""
    if places_PX.shape[1] == 2:
        right_P = np.all(places_PX[:, :1] >= 0, axis=1) & np.all(places_PX[:, 1:] > places_PX[:, :1], axis=1)
        problem = "is no stretch of text: it starts at 0 or later, and ends after it starts."
    else:
        ends_P2 = places_PX[:, :2] + places_PX[:, 2:]
        inside_P = np.all(places_PX[:, :2] >= 0, axis=1) & np.all(ends_P2 <= 1 + _SLACK, axis=1)
        right_P = inside_P & np.all(ends_P2 > places_PX[:, :2], axis=1)
        problem = (
            "lies outside the image, or has no area: places and sizes are shares of its width and height, from 0 to 1."
        )
    _refuse_part(right_P, owners_P, Reason.INVALID_VALUE, problem)


def _shares(probs_NC: FloatArray) -> None:
    checks.finite(probs_NC)
    off_N = np.any((probs_NC < 0) | (probs_NC > 1), axis=1)
    _refuse(off_N, Reason.PROBABILITIES_INVALID, "a probability of its labels is outside 0 to 1.")


def _refuse(off_N: npt.NDArray[np.bool_], reason: Reason, problem: str) -> None:
    if off_N.any():
        raise SampleError(reason, int(np.flatnonzero(off_N)[0]), problem)


def _refuse_part(right_P: npt.NDArray[np.bool_], owners_P: npt.NDArray[np.int64], reason: Reason, problem: str) -> None:
    if not right_P.all():
        part = int(np.flatnonzero(~right_P)[0])
        owner = int(owners_P[part])
        place = part - int(np.searchsorted(owners_P, owner))
        raise SampleError(reason, owner, f"object {place} {problem}", object=place)


def _one_name_each(names: Sequence[str], columns: int) -> None:
    if len(names) != columns or len(set(names)) < len(names):
        raise AssayError(
            Reason.DIMENSION_MISMATCH,
            f"The predictions have {columns} columns, and {len(set(names))} distinct names: {_listed(names)}. Name "
            "each column once.",
            expected=columns,
            got=len(set(names)),
        )


def _listed(names: Sequence[str]) -> str:
    return (", ".join(repr(name[:100]) for name in names[:20]) + (", ..." if len(names) > 20 else "")) or "none"
