"""Requests for models."""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from assay.client import Client, errors
from tests.crash.content import DIMENSION
from tests.crash.faults import require
from tests.crash.ledger import NO_ROOM, Ledger
from tests.crash.requests import POOL, UNSURE, Request
from tests.crash.seen import Seen

OPERATION_SECONDS = 60.0
CUT_OFF = ("SHUTTING_DOWN", *UNSURE)
# A backbone of a megabyte, so that writing it takes a while.
BACKBONE_WIDTH = 4_096


@dataclass(frozen=True, slots=True)
class Head:
    """A trained head, and whether it was active when looked at."""

    name: str
    active: bool


@dataclass(kw_only=True)
class LongRequest(Request):
    """A request whose work goes on as an operation; its name is known once the request was answered."""

    may_be_half_done = True
    operation: str = ""
    started: bool = False

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        # An operation that a crash, or a database that went away, cut off says so, and is not started again.
        # So does one that ended for want of room while nobody was there to hear of it.
        told = (*CUT_OFF, *NO_ROOM) if self.had_no_room else CUT_OFF
        return isinstance(error, errors.AssayError) and error.reason in told

    def apply(self, ledger: Ledger, fact: Any) -> None:
        if self.operation and self.operation not in ledger.operations:
            ledger.operations.append(self.operation)

    def _finish(self, operation: Any) -> Any:
        require(self.operation in ("", operation.name), f"{self} was started again as {operation.name}")
        self.operation = operation.name
        self.started = True
        return operation.result(OPERATION_SECONDS)


@dataclass(kw_only=True)
class Train(LongRequest):
    """A head trained on all labels. Fact: the head."""

    phase = "training"
    display_name: str
    activate: bool
    l2: float | None

    def send(self, client: Client) -> Any:
        return self._finish(
            client.train_head(
                POOL,
                l2=self.l2,
                folds=2,
                activate=self.activate,
                display_name=self.display_name,
                request_id=self.request_id,
            )
        )

    def fact(self, reply: Any) -> Head:
        return Head(reply.name, self.activate)

    def found(self, ledger: Ledger, seen: Seen) -> Head | None:
        mine = [model for model in seen.models.values() if model.display_name == self.display_name]
        require(len(mine) <= 1, f"{self} made {len(mine)} heads")
        return Head(mine[0].name, mine[0].active) if mine else None

    def apply(self, ledger: Ledger, fact: Head) -> None:
        super().apply(ledger, fact)
        ledger.models[fact.name] = self.display_name
        if fact.active:
            ledger.active = fact.name


@dataclass(kw_only=True)
class Activate(LongRequest):
    """Another head for the active one."""

    phase = "head swap"
    model: str

    def send(self, client: Client) -> Any:
        return self._finish(client.activate_model(self.model, request_id=self.request_id))

    def fact(self, reply: Any) -> bool:
        require(reply.name == self.model, f"{self} activated {reply.name}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return seen.pool.active_head == self.model or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        super().apply(ledger, fact)
        ledger.active = self.model


@dataclass(kw_only=True)
class DeleteModel(Request):
    """A head that goes."""

    phase = "head swap"
    model: str

    def send(self, client: Client) -> Any:
        return client.delete_model(self.model, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return self.model not in seen.models or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        ledger.models.pop(self.model, None)


@dataclass(kw_only=True)
class Upload(Request):
    """A backbone that is stored and not activated."""

    phase = "upload"
    model_id: str

    def send(self, client: Client) -> Any:
        return client.upload_backbone(
            POOL, backbone(), model_id=self.model_id, display_name=self.model_id, request_id=self.request_id
        )

    def fact(self, reply: Any) -> str:
        require(reply.id == self.model_id, f"{self} stored {reply.name}")
        name: str = reply.name
        return name

    def found(self, ledger: Ledger, seen: Seen) -> str | None:
        return next((name for name, model in seen.models.items() if model.id == self.model_id), None)

    def apply(self, ledger: Ledger, fact: str) -> None:
        ledger.models[fact] = self.model_id


@cache
def backbone() -> bytes:
    """A backbone that is stored and not used."""
    return product(np.random.default_rng(0).standard_normal((BACKBONE_WIDTH, DIMENSION), dtype=np.float32))


def product(weights_FD: NDArray[np.float32]) -> bytes:
    """An ONNX model of one matrix product."""
    features, width = weights_FD.shape
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weights"], ["embedding"])],
        "backbone",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", width])],
        [numpy_helper.from_array(weights_FD, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    encoded: bytes = model.SerializeToString()
    return encoded
