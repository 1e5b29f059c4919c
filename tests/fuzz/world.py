"""What the fuzzed server holds: pools, and the leases, models and operations that replies told of."""

from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from random import Random

import numpy as np
from google.longrunning import operations_pb2

from assay.client import AlreadyExists, Classification, Client
from assay.v1 import labeling_pb2, models_pb2

CLASSES = ("a", "b", "c")
DIMENSION, FEATURES, SAMPLES = 4, 4, 300
POOLS = ("pools/main", "pools/raw", "pools/empty")
REMEMBERED = 50


class World:
    """Names that requests may use.

    Args:
        backbone: bytes of a small ONNX file.
    """

    def __init__(self, backbone: bytes) -> None:
        self.backbone = backbone
        self._leases: deque[labeling_pb2.Lease] = deque(maxlen=REMEMBERED)
        self._models: deque[str] = deque(["pools/main/models/none"], maxlen=REMEMBERED)
        self._operations: deque[str] = deque(["pools/main/operations/none"], maxlen=REMEMBERED)

    def build(self, client: Client) -> None:
        """Makes the pools, or what is missing of them."""
        rng = np.random.default_rng(0)
        vectors_ND = rng.normal(size=(SAMPLES, DIMENSION)).astype(np.float32)
        ids = [f"s{index}" for index in range(SAMPLES)]
        for pool in ("main", "raw", "empty"):
            self._create(client, pool)
        attributes = {"n": list(range(SAMPLES)), "lang": ["en" if index % 2 else "de" for index in range(SAMPLES)]}
        client.add_samples("main", ids, embeddings=vectors_ND, attributes=attributes, payloads=ids, on_conflict="skip")
        client.annotate("main", {f"s{i}": CLASSES[i % 3] for i in range(30)}, "ann", correct=True)

    @staticmethod
    def _create(client: Client, pool: str) -> None:
        with suppress(AlreadyExists):
            client.create_pool(pool, task=Classification(CLASSES))

    def pool(self, rng: Random) -> str:
        """Mostly the pool that has everything."""
        return rng.choice((POOLS[0], POOLS[0], POOLS[0], *POOLS[1:], f"pools/victim-{rng.randrange(20)}"))

    def lease(self, rng: Random) -> labeling_pb2.Lease:
        """A lease of late, or none."""
        return (
            rng.choice(self._leases) if self._leases else labeling_pb2.Lease(name="pools/main/leases/1-0", worker="w1")
        )

    def model(self, rng: Random) -> str:
        """A model of late."""
        return rng.choice(self._models)

    def operation(self, rng: Random) -> str:
        """An operation of late."""
        return rng.choice(self._operations)

    def learn(self, method: str, replies: Sequence[bytes]) -> None:
        """Takes names from the replies of a call that was served."""
        for reply in replies:
            if method.endswith("/NextBatch"):
                self._leases.append(labeling_pb2.NextBatchResponse.FromString(reply).lease)
            elif method.endswith("/ListModels"):
                self._models.extend(model.name for model in models_pb2.ListModelsResponse.FromString(reply).models)
            elif method.endswith(("/TrainHead", "/ActivateModel", "/RollbackModel")):
                self._operations.append(operations_pb2.Operation.FromString(reply).name)
