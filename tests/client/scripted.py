"""A gRPC server whose answers a test writes down beforehand, for what a real server does only when in trouble."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from importlib import import_module
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

SERVICES = {
    "assay.v1.annotations_pb2": "Annotations",
    "assay.v1.audits_pb2": "Audits",
    "assay.v1.changes_pb2": "Changes",
    "assay.v1.pools_pb2": "Pools",
    "assay.v1.predictions_pb2": "Predictions",
    "assay.v1.models_pb2": "Models",
    "assay.v1.mining_pb2": "Mining",
    "assay.v1.labeling_pb2": "Labeling",
    "assay.v1.server_pb2": "Server",
    "google.longrunning.operations_proto_pb2": "Operations",
    "grpc_health.v1.health_pb2": "Health",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that is an error."""

    code: grpc.StatusCode
    message: str = "no"
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: timedelta | None = None

    def status(self) -> status_pb2.Status:
        """The status with its details, as a real server would send it."""
        status = status_pb2.Status(code=self.code.value[0], message=self.message)
        if self.reason:
            info = error_details_pb2.ErrorInfo(reason=self.reason, domain="assay", metadata=self.metadata)
            status.details.add().Pack(info)
        if self.retry_after is not None:
            retry = error_details_pb2.RetryInfo()
            retry.retry_delay.FromTimedelta(self.retry_after)
            status.details.add().Pack(retry)
        return status


Answer = Message | list[Message] | Refusal


@dataclass(slots=True)
class Seen:
    """A call as the server saw it."""

    path: str
    requests: list[Any]
    metadata: dict[str, str]
    time_remaining: float | None

    @property
    def request(self) -> Any:
        """The only request of a call that does not stream."""
        return self.requests[0]


class Script:
    """Answers by method, in order; the last one is given again and again."""

    def __init__(self, answers: dict[str, list[Answer]]) -> None:
        self._answers = {method: list(queue) for method, queue in answers.items()}
        self.seen: list[Seen] = []
        self.target = ""

    def answer(self, path: str, requests: Iterable[Message], context: grpc.ServicerContext) -> Answer:
        """Note a call; return what is written down for it."""
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.seen.append(Seen(path, list(requests), metadata, context.time_remaining()))
        queue = self._answers[path.rpartition("/")[2]]
        given = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(given, Refusal):
            context.set_trailing_metadata((("grpc-status-details-bin", given.status().SerializeToString()),))
            context.abort(given.code, given.message)
        return given


@contextmanager
def scripted(**answers: list[Answer]) -> Iterator[Script]:
    """Serve these answers; `target` of the script says where."""
    script = Script(answers)
    with ThreadPoolExecutor(4) as pool:
        server = grpc.server(pool)
        server.add_generic_rpc_handlers(tuple(_handlers(script)))
        script.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield script
        finally:
            server.stop(None).wait()


def services() -> Iterator[Any]:
    """Descriptors of the services that a client calls."""
    for module, name in SERVICES.items():
        yield import_module(module).DESCRIPTOR.services_by_name[name]


def _handlers(script: Script) -> Iterator[grpc.GenericRpcHandler]:
    for service in services():
        methods = {method.name: _handler(script, service.full_name, method) for method in service.methods}
        yield grpc.method_handlers_generic_handler(service.full_name, methods)


def _handler(script: Script, service: str, method: Any) -> grpc.RpcMethodHandler:
    path = f"/{service}/{method.name}"

    def reply(requests: Any, context: grpc.ServicerContext) -> Any:
        return script.answer(path, requests if method.client_streaming else [requests], context)

    def stream(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        yield from reply(request, context)

    shape: Callable[..., grpc.RpcMethodHandler] = getattr(
        grpc,
        f"{'stream' if method.client_streaming else 'unary'}_"
        f"{'stream' if method.server_streaming else 'unary'}_rpc_method_handler",
    )
    return shape(
        stream if method.server_streaming else reply,
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
