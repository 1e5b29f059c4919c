"""Raw stubs, and the requests that most tests need."""

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.rpc import error_details_pb2, status_pb2

from assay.server.rpc.convert.arrays import matrix_message
from assay.v1 import (
    annotations_pb2,
    annotations_pb2_grpc,
    audits_pb2_grpc,
    changes_pb2_grpc,
    labeling_pb2_grpc,
    mining_pb2_grpc,
    models_pb2_grpc,
    pools_pb2,
    pools_pb2_grpc,
    predictions_pb2_grpc,
    server_pb2_grpc,
    tasks_pb2,
    types_pb2,
)

POOL = "pools/news"
CLASSES = ("a", "b", "c")
DIMENSION = 8


class Stubs:
    """One stub per service over one channel."""

    def __init__(self, channel):
        self.channel = channel
        self.pools = pools_pb2_grpc.PoolsStub(channel)
        self.models = models_pb2_grpc.ModelsStub(channel)
        self.predictions = predictions_pb2_grpc.PredictionsStub(channel)
        self.mining = mining_pb2_grpc.MiningStub(channel)
        self.labeling = labeling_pb2_grpc.LabelingStub(channel)
        self.changes = changes_pb2_grpc.ChangesStub(channel)
        self.annotations = annotations_pb2_grpc.AnnotationsStub(channel)
        self.audits = audits_pb2_grpc.AuditsStub(channel)
        self.server = server_pb2_grpc.ServerStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)

    async def create_pool(self):
        """The pool that the tests use."""
        return await self.pools.CreatePool(create_request(pool_id="news", class_names=CLASSES))

    async def fill(self, count=300, **header):
        """Adds samples s0, s1, ... in batches of 100."""
        return await self.pools.UploadSamples(iter(stream(count, **header)))

    async def done(self, operation):
        """An operation at its end."""
        request = operations_pb2.WaitOperationRequest(name=operation.name)
        request.timeout.FromSeconds(60)
        return await self.operations.WaitOperation(request)


def create_request(pool_id, class_names=(), request_id="", **pool):
    """A request for a pool of a classification."""
    task = tasks_pb2.Task(
        classification=tasks_pb2.ClassificationTask(classes=[tasks_pb2.Class(name=name) for name in class_names])
    )
    return pools_pb2.CreatePoolRequest(pool_id=pool_id, pool=pools_pb2.Pool(task=task, **pool), request_id=request_id)


def said(classes):
    """Annotations of a classification, from classes by sample id."""
    return [
        annotations_pb2.AnnotationInput(sample_id=sample_id, value=types_pb2.Value(class_name=name))
        for sample_id, name in classes.items()
    ]


def classes(count):
    """Class index of each sample."""
    return np.random.default_rng(0).integers(0, len(CLASSES), count)


def embeddings(count):
    """Embeddings in three clusters, one per class."""
    noise_ND = np.random.default_rng(1).normal(size=(count, DIMENSION))
    return (noise_ND + 4 * np.eye(DIMENSION)[classes(count)]).astype(np.float32)


def batch(first, values_ND, **columns):
    """A batch of samples numbered from `first`."""
    ids = [f"s{index}" for index in range(first, first + len(values_ND))]
    return pools_pb2.UploadSamplesRequest(
        batch=pools_pb2.SampleBatch(ids=ids, embeddings=matrix_message(values_ND), **columns)
    )


def stream(count, size=100, **header):
    """Messages of an UploadSamples stream."""
    values_ND = embeddings(count)
    return [
        pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=POOL, **header)),
        *(batch(first, values_ND[first : first + size]) for first in range(0, count, size)),
    ]


async def failure(call):
    """(code, reason, metadata, RetryInfo) of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    status = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    kept = {detail.type_url: detail for detail in status.details}
    kept["type.googleapis.com/google.rpc.ErrorInfo"].Unpack(info)
    assert info.domain == "assay"
    assert status.message == caught.value.details()
    packed = kept.get("type.googleapis.com/google.rpc.RetryInfo")
    return caught.value.code(), info.reason, dict(info.metadata), packed and (packed.Unpack(retry), retry)[1]
