"""The calls about predictions of the caller's own models."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from assay.client import _replies, results
from assay.client._arrays import float_rows, matrix
from assay.client._ingest import MAX_ROWS
from assay.client._names import fresh_request_id, pool_name
from assay.client._values import Place, text, texts
from assay.client._wire import Pages, Unary, nothing, pages, unary
from assay.client.objects import PredictedObjects
from assay.v1 import methods, predictions_pb2


def update_predictions(
    pool: str,
    source: str,
    ids: Any,
    *,
    probabilities: Any = None,
    label_probabilities: Any = None,
    numbers: Any = None,
    spread: Any = None,
    objects: PredictedObjects | None = None,
    columns: Any = None,
    request_id: str | None = None,
) -> Unary[results.UpdatePredictionsResult]:
    """Keep what a model of your own says of samples, in place of what it said of them before: all of it or nothing,
    durable when it returns. A plan chooses by it with `Plan(prediction_source=...)`.

    Exactly one of `probabilities`, `label_probabilities`, `numbers` and `objects` is given, that of the pool's task.

    Args:
        pool: id or name.
        source: your name for the model, or for this version of it, such as "detector-7". The first predictions under a
            name make the source.
        ids: distinct, up to 65,536. Other samples keep the predictions that they have, or none.
        probabilities: of classification: a row per id that sums to 1, and a column per class.
        label_probabilities: of multilabel: each for itself.
        numbers: of regression: a row per id, a column per number.
        spread: standard deviations of the numbers, where the model knows them.
        objects: of boxes and spans.
        columns: the class, or the number, of each column. A data frame names its own. Classes that are left out have
            probability 0. None: a column per class by id, retired ones too, or the numbers in the task's order.
        request_id: idempotency key; made up if not given.

    Raises:
        NotFound: the pool lacks one of the ids, which the error names.
        InvalidArgument: predictions of another task, columns that are no classes, rows that are no distribution.
        TypeError, ValueError: what cannot be read; nothing was sent.
    """
    given = {
        "probabilities": probabilities,
        "label_probabilities": label_probabilities,
        "numbers": numbers,
        "objects": objects,
    }
    kinds = [kind for kind, each in given.items() if each is not None]
    if len(kinds) != 1:
        raise ValueError(f"give exactly one of {', '.join(given)}, not {' and '.join(kinds) or 'none'}")
    if spread is not None and numbers is None:
        raise ValueError("spread goes with numbers: it says how sure the model is of each")
    sample_ids = texts(ids, Place("ids"))
    if not 1 <= len(sample_ids) <= MAX_ROWS:
        raise ValueError(f"predictions are of 1 to {MAX_ROWS:,} samples, not {len(sample_ids):,}: send several")
    request = predictions_pb2.UpdatePredictionsRequest(
        parent=pool_name(pool),
        source=text(source, "source"),
        sample_ids=sample_ids,
        columns=_column_names(given[kinds[0]], columns),
        request_id=fresh_request_id(request_id),
    )
    if objects is not None:
        request.objects.CopyFrom(objects.message(len(sample_ids)))
    elif numbers is not None:
        request.numbers.values.CopyFrom(matrix(_rows(numbers, "numbers", sample_ids)))
        if spread is not None:
            request.numbers.spread.CopyFrom(matrix(_rows(spread, "spread", sample_ids)))
    else:
        name = kinds[0]
        getattr(request, name).CopyFrom(matrix(_rows(given[name], name, sample_ids)))
    return unary(methods.UPDATE_PREDICTIONS, request, _replies.updated_predictions)


def list_prediction_sources(pool: str, *, metrics: bool = False) -> Pages[results.PredictionSource]:
    """The sources of a pool's predictions by name, fetched page by page.

    Args:
        pool: id or name.
        metrics: measure each on the labeled samples of the splits "test" and "validation" that it predicts; may take
            seconds.
    """
    return pages(
        methods.LIST_PREDICTION_SOURCES,
        predictions_pb2.ListPredictionSourcesRequest(parent=pool_name(pool), include_metrics=metrics),
        lambda reply: map(_replies.prediction_source, reply.prediction_sources),
    )


def delete_prediction_source(pool: str, source: str, *, request_id: str | None = None) -> Unary[None]:
    """Delete a source with all that it said.

    Raises:
        NotFound: the pool has no such source.
    """
    request = predictions_pb2.DeletePredictionSourceRequest(
        name=f"{pool_name(pool)}/predictionSources/{text(source, 'source')}", request_id=fresh_request_id(request_id)
    )
    return unary(methods.DELETE_PREDICTION_SOURCE, request, nothing)


def _rows(values: Any, what: str, ids: Sequence[str]) -> NDArray[Any]:
    rows = float_rows(values, what, ids)
    if len(rows) != len(ids):
        raise ValueError(f"{what} has {len(rows)} rows for {len(ids)} ids")
    return rows


def _column_names(values: Any, columns: Any) -> list[str]:
    """What the columns are: as the caller says, or as a data frame with names says itself."""
    if columns is not None:
        return texts(columns, Place("columns"))
    if isinstance(values, PredictedObjects):
        return texts(values.classes, Place("classes"))
    own = getattr(values, "column_names", None) or getattr(values, "columns", None)
    named = own is not None and not callable(own) and all(isinstance(name, str) for name in own)
    return [str(name) for name in own] if named and own is not None else []
