"""Batches of samples, searches, predictions: columns of one length, exactly one source, or refused."""

import numpy as np
import pytest

from assay.server.core.errors import Reason
from assay.server.rpc.convert.annotations import to_annotate_spec
from assay.server.rpc.convert.arrays import matrix_message
from assay.server.rpc.convert.labeling import to_batch_spec
from assay.server.rpc.convert.models import to_backbone_spec, to_predict_spec, to_sha256, to_train_spec
from assay.server.rpc.convert.pools import to_batch, to_pool_spec, to_search_spec
from assay.v1 import annotations_pb2, labeling_pb2, models_pb2, pools_pb2, types_pb2
from tests.rpc.outcomes import assert_refused
from tests.rpc.stubs import said


def _batch(**columns):
    return pools_pb2.SampleBatch(ids=["a", "b"], embeddings=matrix_message(np.ones((2, 3), np.float32)), **columns)


def test_a_batch_keeps_its_columns():
    batch = to_batch(
        _batch(
            uris=["u", "v"],
            payloads=[b"1", b""],
            payload_media_type="text/plain",
            labels=[types_pb2.Value(class_name="x"), types_pb2.Value()],
            predictions=matrix_message(np.full((2, 2), 0.5, np.float32)),
            attributes=[
                pools_pb2.AttributeColumn(name="s", strings=pools_pb2.StringColumn(values=["p", "q"])),
                pools_pb2.AttributeColumn(name="d", doubles=pools_pb2.DoubleColumn(values=[0.5, 1])),
                pools_pb2.AttributeColumn(name="i", int64s=pools_pb2.Int64Column(values=[2**62, -1])),
                pools_pb2.AttributeColumn(
                    name="b", bools=pools_pb2.BoolColumn(values=[True, False]), present=[False, True]
                ),
            ],
        )
    )
    columns = batch.columns
    assert (columns.ids, columns.uris, columns.payloads) == (["a", "b"], ["u", "v"], [b"1", b""])
    assert batch.labels == ["x", None]
    assert batch.embeddings_ND.shape == (2, 3)
    assert columns.predictions_NC.shape == (2, 2)
    assert {name: (column.kind, list(column.values)) for name, column in columns.attributes.items()} == {
        "s": ("string", ["p", "q"]),
        "d": ("double", [0.5, 1.0]),
        "i": ("int64", [2**62, -1]),
        "b": ("bool", [True, False]),
    }
    assert columns.attributes["b"].present_N.tolist() == [False, True]
    assert columns.attributes["s"].present_N is None


def test_columns_left_out_are_none():
    columns = to_batch(_batch()).columns
    assert (columns.uris, columns.payloads, columns.predictions_NC, columns.inputs) == (None, None, None, None)


def _inputs(rows):
    return types_pb2.NamedTensor(name="x", dtype=types_pb2.DTYPE_INT64, shape=[rows], data=bytes(8 * rows))


@pytest.mark.parametrize(
    "batch",
    [
        _batch(uris=["u"]),
        _batch(payloads=[b""] * 3),
        _batch(labels=[types_pb2.Value(class_name="x")]),
        _batch(predictions=matrix_message(np.ones((1, 2), np.float32))),
        _batch(attributes=[pools_pb2.AttributeColumn(name="n", int64s=pools_pb2.Int64Column(values=[1]))]),
        _batch(attributes=[pools_pb2.AttributeColumn(name="n")]),
        _batch(
            attributes=[
                pools_pb2.AttributeColumn(name="n", int64s=pools_pb2.Int64Column(values=[1, 2]), present=[True])
            ]
        ),
        _batch(attributes=[pools_pb2.AttributeColumn(name="n", int64s=pools_pb2.Int64Column(values=[1, 2]))] * 2),
        _batch(inputs=[_inputs(2)]),
        pools_pb2.SampleBatch(ids=["a", "b"]),
        pools_pb2.SampleBatch(ids=["a", "b"], inputs=[_inputs(3)]),
        pools_pb2.SampleBatch(ids=["a"], embeddings=matrix_message(np.ones((2, 3), np.float32))),
    ],
)
def test_uneven_batches_are_refused(batch):
    assert_refused(Reason.INVALID_ARGUMENT, to_batch, batch)


@pytest.mark.parametrize("request_", [{"metric": 9}, {"dimension": -1}, {"dimension": 65_537}])
def test_pools_of_no_such_kind_are_refused(request_):
    assert_refused(
        Reason.INVALID_ARGUMENT, to_pool_spec, pools_pb2.CreatePoolRequest(pool_id="p", pool=pools_pb2.Pool(**request_))
    )


SAMPLES = pools_pb2.SearchSamplesRequest.SampleIds


@pytest.mark.parametrize(
    "request_",
    [
        pools_pb2.SearchSamplesRequest(),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES()),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"] * 1001)),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"]), k=10_001),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"]), k=-1),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"]), k=0),
        pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"]), mode=8),
        pools_pb2.SearchSamplesRequest(vectors=matrix_message(np.ones((0, 3), np.float32))),
    ],
)
def test_searches_beyond_the_bounds_are_refused(request_):
    assert_refused(Reason.INVALID_ARGUMENT, to_search_spec, request_)


def test_a_search_fills_in_its_defaults():
    spec = to_search_spec(pools_pb2.SearchSamplesRequest(samples=SAMPLES(ids=["a"])))
    assert (spec.ids, spec.k, spec.vectors_QD, spec.filter) == (("a",), 10, None, None)


@pytest.mark.parametrize(
    "request_",
    [
        models_pb2.PredictRequest(),
        models_pb2.PredictRequest(samples=models_pb2.PredictRequest.SampleIds()),
        models_pb2.PredictRequest(inputs=models_pb2.PredictRequest.Inputs()),
        models_pb2.PredictRequest(embeddings=matrix_message(np.ones((10_001, 1), np.float32))),
    ],
)
def test_predictions_of_nothing_or_too_much_are_refused(request_):
    assert_refused(Reason.INVALID_ARGUMENT, to_predict_spec, "news", request_)


@pytest.mark.parametrize(
    "fields",
    [
        {"members": 65},
        {"members": -1},
        {"members": 0},
        {"folds": 0},
        {"folds": 1},
        {"folds": 21},
        {"l2": 0},
        {"l2": -1},
    ],
)
def test_training_beyond_the_bounds_is_refused(fields):
    assert_refused(Reason.INVALID_ARGUMENT, to_train_spec, models_pb2.TrainHeadRequest(**fields))


def test_training_fills_in_its_defaults():
    spec = to_train_spec(models_pb2.TrainHeadRequest())
    assert (spec.members, spec.folds, spec.l2) == (1, 5, None)
    assert_refused(Reason.NOT_FINITE, to_train_spec, models_pb2.TrainHeadRequest(l2=float("nan")))


def test_a_checksum_is_hexadecimal():
    assert to_sha256("AB" * 32) == "ab" * 32
    assert to_sha256("") == ""
    assert_refused(Reason.INVALID_ARGUMENT, to_sha256, "xyz")
    assert_refused(Reason.INVALID_ARGUMENT, to_backbone_spec, models_pb2.UploadBackboneHeader(pooling=17))


@pytest.mark.parametrize("fields", [{"size": 0}, {"size": 10_001}, {"size": 1, "predictions": 101}])
def test_batches_beyond_the_bounds_are_refused(fields):
    assert_refused(Reason.INVALID_ARGUMENT, to_batch_spec, labeling_pb2.NextBatchRequest(worker="w", **fields))


def test_labels_name_a_lease_of_their_own_pool():
    request = annotations_pb2.AnnotateRequest(annotations=said({"a": "x"}), lease="pools/other/leases/1")
    assert_refused(Reason.INVALID_NAME, to_annotate_spec, "news", request)
    assert_refused(Reason.INVALID_ARGUMENT, to_annotate_spec, "news", annotations_pb2.AnnotateRequest())
