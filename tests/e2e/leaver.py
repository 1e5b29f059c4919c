"""Calls every RPC, leaves each after so many messages, and is also a program: one that waits to be killed there."""

import queue
import sys
from dataclasses import dataclass

import grpc
import numpy as np
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from assay.v1 import labeling_pb2, mining_pb2, models_pb2, pools_pb2, server_pb2, types_pb2

POOL = "pools/left"
SAMPLES = 6_000  # three pages of an export
POSITIONS = (0, 1, 2, 3, 6)  # of these the last is past the end of every stream but Score's
_AT_HAND = {"Watch": 1}  # messages of streams that then go on without any
PLAN = types_pb2.Plan(scores=[types_pb2.ScoreTerm(strategy="margin")])


def matrix(values_ND):
    """A matrix as it is sent."""
    rows, cols = values_ND.shape
    return types_pb2.Matrix(dtype=types_pb2.DTYPE_FLOAT32, rows=rows, cols=cols, data=values_ND.astype("<f4").tobytes())


def _samples(index):
    values_N2 = matrix(np.full((1, 2), 0.5))
    batch = pools_pb2.SampleBatch(ids=[f"left{index}"], embeddings=values_N2, predictions=values_N2)
    return pools_pb2.UploadSamplesRequest(batch=batch)


# What is sent where an empty message would not get far.
_REQUESTS = {
    "Score": [mining_pb2.ScoreRequest(pool=POOL, plan=PLAN, chunk_size=1)],
    "Mine": [mining_pb2.MineRequest(pool=POOL, size=500, plan=PLAN)],
    "NextBatch": [labeling_pb2.NextBatchRequest(parent=POOL, worker="left", size=1)],
    "ExportLabels": [labeling_pb2.ExportLabelsRequest(parent=POOL)],
    "UploadSamples": [
        pools_pb2.UploadSamplesRequest(
            header=pools_pb2.UploadSamplesHeader(parent=POOL, on_conflict=pools_pb2.ON_CONFLICT_SKIP)
        ),
        *map(_samples, range(4)),
    ],
    "UploadBackbone": [
        models_pb2.UploadBackboneRequest(header=models_pb2.UploadBackboneHeader(parent=POOL, size_bytes=1000)),
        *[models_pb2.UploadBackboneRequest(chunk=b"x" * 10)] * 4,
    ],
    "GetPool": [pools_pb2.GetPoolRequest(name=POOL)],
    "ListSamples": [pools_pb2.ListSamplesRequest(parent=POOL, page_size=1000)],
    "SearchSamples": [pools_pb2.SearchSamplesRequest(parent=POOL, vectors=matrix(np.ones((100, 2))), k=10)],
    "WaitOperation": [operations_pb2.WaitOperationRequest(name="pools/busy/operations/none")],
    "ServerReflectionInfo": [reflection_pb2.ServerReflectionRequest(list_services="")] * 5,
}


@dataclass(frozen=True)
class Method:
    """An RPC by its name; whether its requests and its responses are streams; what is sent."""

    name: str
    path: str
    takes_stream: bool
    gives_stream: bool
    requests: tuple[bytes, ...]

    @property
    def streams(self):
        """Whether either side is a stream."""
        return self.takes_stream or self.gives_stream

    def start(self, channel, position, timeout=None):
        """Calls it, and comes back when so many messages were read, or sent where only requests are a stream."""
        sending = self.requests[:position] if self.takes_stream else self.requests
        outgoing = queue.SimpleQueue()
        for request in sending:
            outgoing.put(request)
        if position >= len(self.requests):
            outgoing.put(None)  # all was sent: the end of the stream
        kind = f"{'stream' if self.takes_stream else 'unary'}_{'stream' if self.gives_stream else 'unary'}"
        multi = getattr(channel, kind)(self.path)
        given = iter(outgoing.get, None) if self.takes_stream else sending[0]
        if not self.gives_stream:
            return multi.future(given, timeout=timeout)
        call = multi(given, timeout=timeout)
        for _ in range(min(position, _AT_HAND.get(self.name, position))):
            try:
                next(call)
            except (StopIteration, grpc.RpcError):  # it is at its end already, or its deadline passed
                break
        return call


def methods():
    """All RPCs of the server, from their descriptors."""
    services = [
        *(module.DESCRIPTOR.services_by_name[name] for module, name in (
            (pools_pb2, "Pools"), (models_pb2, "Models"), (mining_pb2, "Mining"), (labeling_pb2, "Labeling"),
            (server_pb2, "Server"), (operations_pb2, "Operations"), (health_pb2, "Health"),
            (reflection_pb2, "ServerReflection"),
        ))
    ]  # fmt: skip
    return [_method(method) for service in services for method in service.methods]


def _method(method):
    requests = _REQUESTS.get(method.name, [empty_pb2.Empty()])
    return Method(
        method.name,
        f"/{method.containing_service.full_name}/{method.name}",
        method.client_streaming,
        method.server_streaming,
        tuple(request.SerializeToString() for request in requests),
    )


def main(target, position):
    """Holds every stream at a position, says so, and waits for its end."""
    channel = grpc.insecure_channel(target)
    held = [method.start(channel, position) for method in methods() if method.streams]
    sys.stdout.write(f"holding {len(held)} streams\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
