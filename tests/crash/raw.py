"""A second pool whose samples the server embeds: its backbone is swapped to and fro while samples come in."""

from dataclasses import dataclass
from functools import cache
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from assay.client import Client
from tests.crash.faults import require
from tests.crash.ledger import Ledger
from tests.crash.model_requests import LongRequest, product
from tests.crash.requests import RAW, Request, all_or_none
from tests.crash.seen import Seen

FEATURES, WIDTH = 8, 16
BACKBONES = ("raw-one", "raw-two")


@dataclass(kw_only=True)
class AddRaw(Request):
    """Samples given by their inputs."""

    phase = "embedding"
    ids: list[str]

    def send(self, client: Client) -> Any:
        return client.add_samples(RAW, self.ids, inputs={"x": features_NF(self.ids)}, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        require(reply.added == len(self.ids), f"adding {len(self.ids)} raw samples added {reply.added}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return all_or_none([sample in seen.raw_samples for sample in self.ids], self) or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        ledger.raw_samples.update(self.ids)


@dataclass(kw_only=True)
class ActivateBackbone(LongRequest):
    """The other backbone for the active one: all samples are embedded again, beside the old ones."""

    phase = "backbone swap"
    model: str

    def send(self, client: Client) -> Any:
        return self._finish(client.activate_model(self.model, request_id=self.request_id))

    def fact(self, reply: Any) -> bool:
        require(reply.name == self.model, f"{self} activated {reply.name}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return seen.raw_pool.active_backbone == self.model or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        super().apply(ledger, fact)
        ledger.raw_backbone = self.model


def other_backbone(active: str | None) -> str:
    """The one that is not active."""
    first, second = (f"pools/{RAW}/models/{name}" for name in BACKBONES)
    return second if active == first else first


def raw_vectors_are_right(client: Client, ledger: Ledger, chosen: list[str]) -> None:
    """Every raw sample has the vector that the active backbone gives it."""
    if not chosen or ledger.raw_backbone is None:
        return
    found = client.predict(RAW, samples=chosen, include_embeddings=True).embeddings_ND
    assert found is not None
    expected = features_NF(chosen) @ weights_FD(ledger.raw_backbone.rpartition("/")[2])
    require(np.allclose(found, expected, atol=1e-5), "raw samples have the vectors of another backbone")


def features_NF(ids: list[str]) -> NDArray[np.float32]:
    """Inputs of samples, made from their ids."""
    rows = [np.random.default_rng(crc32(sample.encode())).standard_normal(FEATURES) for sample in ids]
    return np.array(rows, np.float32)


@cache
def weights_FD(name: str) -> NDArray[np.float32]:
    """The matrix of a backbone."""
    return np.random.default_rng(crc32(name.encode())).standard_normal((FEATURES, WIDTH)).astype(np.float32)


def raw_backbone(name: str) -> bytes:
    """A backbone as an ONNX model."""
    return product(weights_FD(name))
