"""Messages of predictions.proto."""

from collections.abc import Mapping

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.messages import PredictionUpdate, SourceView, UpdatePredictionsResult
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.tasks.base import PredictionForm
from assay.server.rpc.convert import names
from assay.server.rpc.convert.arrays import to_matrix
from assay.server.rpc.convert.models import SPLITS, metrics_message
from assay.v1 import predictions_pb2

_BOX_COLUMNS = 4


def to_prediction_update(request: predictions_pb2.UpdatePredictionsRequest) -> PredictionUpdate:
    """What a source says of samples. Raises AssayError: INVALID_ARGUMENT where nothing is said, INVALID_MATRIX,
    NOT_FINITE."""
    form, columns = _columns(request)
    return PredictionUpdate(
        source=request.source,
        ids=list(request.sample_ids),
        form=form,
        columns=columns,
        names=tuple(request.columns),
    )


def _columns(request: predictions_pb2.UpdatePredictionsRequest) -> tuple[PredictionForm, PredictionColumns]:
    match request.WhichOneof("predictions"):
        case "probabilities":
            values = to_matrix(request.probabilities, "probabilities")
            return PredictionForm.PROBABILITIES, PredictionColumns(values)
        case "label_probabilities":
            values = to_matrix(request.label_probabilities, "label_probabilities")
            return PredictionForm.LABEL_PROBABILITIES, PredictionColumns(values)
        case "numbers":
            numbers = request.numbers
            spread = to_matrix(numbers.spread, "spread") if numbers.HasField("spread") else None
            return PredictionForm.NUMBERS, PredictionColumns(to_matrix(numbers.values, "values"), spread)
        case "objects":
            return PredictionForm.OBJECTS, PredictionColumns(objects=_objects(request.objects))
    raise AssayError(
        Reason.INVALID_ARGUMENT,
        "Nothing is predicted: give probabilities, label_probabilities, numbers or objects.",
        field="predictions",
    )


def _objects(objects: predictions_pb2.PredictedObjects) -> ObjectColumns:
    """Objects as arrays; that the offsets fit is checked by the core. Raises AssayError(INVALID_ARGUMENT |
    INVALID_MATRIX)."""
    if not objects.offsets:
        raise AssayError(
            Reason.INVALID_ARGUMENT, "offsets has no entries: give one more than there are ids.", field="offsets"
        )
    probs_PC = to_matrix(objects.probabilities, "probabilities")
    match objects.WhichOneof("places"):
        case "boxes":
            places_PX = to_matrix(objects.boxes, "boxes")
            if not len(places_PX):
                places_PX = np.zeros((0, _BOX_COLUMNS), np.float32)
            if places_PX.shape[1] != _BOX_COLUMNS:
                raise AssayError(
                    Reason.INVALID_MATRIX,
                    f"boxes has {places_PX.shape[1]} columns. Give x, y, width and height of each.",
                    field="boxes",
                )
        case "spans":
            starts, ends = objects.spans.starts, objects.spans.ends
            if len(starts) != len(ends):
                raise AssayError(
                    Reason.INVALID_ARGUMENT, f"There are {len(starts)} starts and {len(ends)} ends.", field="spans"
                )
            places_PX = np.stack([np.array(starts, np.int64), np.array(ends, np.int64)], axis=1)
        case _:
            raise AssayError(Reason.INVALID_ARGUMENT, "Give boxes or spans, also of no objects.", field="objects")
    return ObjectColumns(np.array(objects.offsets, np.int64), probs_PC, places_PX)


def updated_message(result: UpdatePredictionsResult) -> predictions_pb2.UpdatePredictionsResponse:
    """What became of predictions, for the wire."""
    return predictions_pb2.UpdatePredictionsResponse(updated=result.updated, epoch=result.epoch)


def source_message(
    pool_id: str, view: SourceView, task: TaskRecord, measured: Mapping[str, HeadMetrics]
) -> predictions_pb2.NamedSource:
    """A source for the wire, with what it is worth by split."""
    return predictions_pb2.NamedSource(
        name=names.source_name(pool_id, view.name),
        samples=view.samples,
        lost=view.lost,
        has_spread=view.has_spread,
        size_bytes=view.size,
        update_epoch=view.epoch,
        metrics=[metrics_message(SPLITS[split], metrics, task, detailed=True) for split, metrics in measured.items()],
    )
