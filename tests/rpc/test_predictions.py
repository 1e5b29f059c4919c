"""Named sources of predictions on the wire."""

import grpc
import numpy as np
import pytest
from google.protobuf import empty_pb2

from assay.server.rpc.convert.arrays import matrix_message
from assay.v1 import mining_pb2, predictions_pb2, types_pb2
from tests.rpc.stubs import POOL, failure

Objects, Spans = predictions_pb2.PredictedObjects, predictions_pb2.PredictedSpans
PROBS = matrix_message(np.array([[0.5, 0.25, 0.25], [0, 0, 1]], np.float32))


def update(source="mine", ids=("s1", "s0"), request_id="", columns=(), **predictions):
    return predictions_pb2.UpdatePredictionsRequest(
        parent=POOL, source=source, sample_ids=ids, columns=columns, request_id=request_id, **predictions
    )


def listing(**page):
    return predictions_pb2.ListPredictionSourcesRequest(parent=POOL, **page)


async def test_sources_are_pushed_listed_by_pages_and_deleted(stubs):
    await stubs.create_pool()
    await stubs.fill(100)
    request = update(request_id="once", probabilities=PROBS)
    first = await stubs.predictions.UpdatePredictions(request)
    assert first.updated == 2
    await stubs.predictions.UpdatePredictions(
        update("other", ("s7",), columns=("c", "a"), probabilities=matrix_message(np.array([[0.5, 0.5]], np.float32)))
    )
    assert await stubs.predictions.UpdatePredictions(request) == first, "a repeated request gets its first reply"
    page = await stubs.predictions.ListPredictionSources(listing(page_size=1))
    (mine,) = page.prediction_sources
    assert (mine.name, mine.samples, mine.lost) == (f"{POOL}/predictionSources/mine", 2, 0)
    assert mine.update_epoch == first.epoch
    assert mine.size_bytes > 0
    page = await stubs.predictions.ListPredictionSources(listing(page_token=page.next_page_token))
    assert [source.name.rpartition("/")[2] for source in page.prediction_sources] == ["other"]
    delete = predictions_pb2.DeletePredictionSourceRequest(name=mine.name, request_id="gone")
    for _ in range(2):
        assert await stubs.predictions.DeletePredictionSource(delete) == empty_pb2.Empty()
    code, reason, _, _ = await failure(
        stubs.predictions.DeletePredictionSource(predictions_pb2.DeletePredictionSourceRequest(name=mine.name))
    )
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")


def objects(offsets=(0, 1, 1), **places):
    return Objects(offsets=offsets, probabilities=matrix_message(np.eye(1, 3, dtype=np.float32)), **places)


BOX = matrix_message(np.array([[0, 0, 1, 1]], np.float32))


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (update(), "INVALID_ARGUMENT"),
        (update("Mine", probabilities=PROBS), "INVALID_NAME"),
        (update("head", probabilities=PROBS), "INVALID_NAME"),
        (update(ids=("s1",), probabilities=PROBS), "INVALID_ARGUMENT"),
        (update(ids=("s1", "s1"), probabilities=PROBS), "DUPLICATE_ID"),
        (update(columns=("a", "b", "d"), probabilities=PROBS), "UNKNOWN_CLASS"),
        (update(columns=("a", "b"), probabilities=PROBS), "DIMENSION_MISMATCH"),
        (update(probabilities=matrix_message(np.ones((2, 3), np.float32))), "PROBABILITIES_INVALID"),
        (update(label_probabilities=PROBS), "WRONG_TASK"),
        (update(numbers=predictions_pb2.PredictedNumbers(values=PROBS)), "WRONG_TASK"),
        (update(objects=objects(boxes=BOX)), "WRONG_TASK"),
        (update(objects=objects(spans=Spans(starts=[0], ends=[1]))), "WRONG_TASK"),
        (update(objects=objects(spans=Spans(starts=[0]))), "INVALID_ARGUMENT"),
        (update(objects=objects()), "INVALID_ARGUMENT"),
        (update(objects=objects((), boxes=BOX)), "INVALID_ARGUMENT"),
        (update(objects=objects(boxes=PROBS)), "INVALID_MATRIX"),
    ],
)
async def test_what_is_no_prediction_is_refused(stubs, request_, reason):
    await stubs.create_pool()
    await stubs.fill(100)
    code, told, metadata, _ = await failure(stubs.predictions.UpdatePredictions(request_))
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert reason != "PROBABILITIES_INVALID" or metadata["id"] == "s1"
    assert not (await stubs.predictions.ListPredictionSources(listing())).prediction_sources


async def test_a_plan_names_its_source_and_provenance_tells_it(stubs):
    await stubs.create_pool()
    await stubs.fill(100)
    ids = [f"s{number}" for number in range(100)]
    probs_NC = np.full((100, 3), 1 / 3, np.float32)
    probs_NC[:99] = (0, 0.9, 0.1)
    await stubs.predictions.UpdatePredictions(update(ids=ids, probabilities=matrix_message(probs_NC)))
    plan = types_pb2.Plan(preset="margin", prediction_source="mine")
    found = await stubs.mining.Mine(mining_pb2.MineRequest(pool=POOL, plan=plan, size=1, predictions=1))
    assert [pick.sample.id for pick in found.picks] == ["s99"]
    assert found.plan.prediction_source == "mine"
    assert found.provenance.prediction_source == types_pb2.PREDICTION_SOURCE_NAMED
    assert found.provenance.named_source == f"{POOL}/predictionSources/mine"
    plan.prediction_source = "theirs"
    code, reason, _, _ = await failure(stubs.mining.Mine(mining_pb2.MineRequest(pool=POOL, plan=plan, size=1)))
    assert (code, reason) == (grpc.StatusCode.NOT_FOUND, "SOURCE_NOT_FOUND")
