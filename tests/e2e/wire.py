"""Raw stubs, for requests that the SDK would not send, and what their refusals say."""

from dataclasses import dataclass, field

import grpc
import numpy as np
from google.longrunning import operations_pb2_grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

from assay.v1 import (
    annotations_pb2,
    annotations_pb2_grpc,
    labeling_pb2,
    labeling_pb2_grpc,
    mining_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    pools_pb2,
    pools_pb2_grpc,
    types_pb2,
)

CHUNK_BYTES = 1 << 20


class Stubs:
    """One stub per service over one channel."""

    def __init__(self, channel):
        self.channel = channel
        self.pools = pools_pb2_grpc.PoolsStub(channel)
        self.models = models_pb2_grpc.ModelsStub(channel)
        self.mining = mining_pb2_grpc.MiningStub(channel)
        self.labeling = labeling_pb2_grpc.LabelingStub(channel)
        self.annotations = annotations_pb2_grpc.AnnotationsStub(channel)
        self.operations = operations_pb2_grpc.OperationsStub(channel)

    def add(self, pool, batch, **header):
        """UploadSamples with one batch."""
        first = pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=pool, **header))
        return self.pools.UploadSamples(iter([first, pools_pb2.UploadSamplesRequest(batch=batch)]))

    def upload(self, pool, data, **header):
        """UploadBackbone with the file in chunks."""
        header = {"size_bytes": len(data), **header}
        first = models_pb2.UploadBackboneRequest(header=models_pb2.UploadBackboneHeader(parent=pool, **header))
        parts = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        chunks = [models_pb2.UploadBackboneRequest(chunk=part) for part in parts]
        return self.models.UploadBackbone(iter([first, *chunks]))

    def state(self, pool):
        """Everything that a refused request must leave as it was."""
        found = self.pools.GetPool(pools_pb2.GetPoolRequest(name=pool))
        samples = pools_pb2.ListSamplesRequest(parent=pool, page_size=1000, include_payload=True)
        return (
            found.SerializeToString(deterministic=True),
            self.pools.ListSamples(samples).SerializeToString(deterministic=True),
            self.models.ListModels(models_pb2.ListModelsRequest(parent=pool)).SerializeToString(),
            self.annotations.ListLabels(annotations_pb2.ListLabelsRequest(parent=pool)).SerializeToString(),
            self.labeling.ListLeases(labeling_pb2.ListLeasesRequest(parent=pool)).SerializeToString(),
        )


@dataclass(frozen=True)
class Refusal:
    """What a refused call says. `reason` and `domain` are of its ErrorInfo, empty where it has none."""

    code: grpc.StatusCode
    message: str
    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


def refusal(call):
    """The refusal of a call; None if it was served."""
    try:
        reply = call()
        if isinstance(reply, grpc.Call):
            list(reply)  # a stream: what is wrong with it comes with its first message
    except grpc.RpcError as error:
        return _told(error)
    return None


def _told(error):
    info = error_details_pb2.ErrorInfo()
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in status_pb2.Status.FromString(value).details:
                _unpack(detail, info)
    return Refusal(error.code(), error.details(), info.reason, info.domain, dict(info.metadata))


def _unpack(detail: any_pb2.Any, info: error_details_pb2.ErrorInfo) -> None:
    if detail.Is(info.DESCRIPTOR):
        detail.Unpack(info)


def matrix(values_ND, **instead):
    """A float32 matrix, with some of its fields replaced."""
    values_ND = np.asarray(values_ND, "<f4")
    rows, cols = values_ND.shape
    fields = {"dtype": types_pb2.DTYPE_FLOAT32, "rows": rows, "cols": cols, "data": values_ND.tobytes()}
    return types_pb2.Matrix(**{**fields, **instead})
