"""Between the bytes of a call and its messages. Innermost, so that a call is known and authorized before any of its
request is received.

gRPC reads and decodes the request of a unary call before it asks anybody, and for as long as its sender likes. So every
method is given to it as one that streams its requests as bytes: nothing is read until somebody asks for it here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.convert import names
from assay.server.rpc.current import Call, Context, current_call
from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.server.rpc.intake import ANONYMOUS_MESSAGE_BYTES, Intake
from assay.server.rpc.metrics import Metrics
from assay.server.rpc.streams import Incoming, send
from assay.v1.method import Reach

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
Behavior = Callable[[Any, Context], Any]


class Wire(grpc.aio.ServerInterceptor):
    """Receives and decodes requests, keeps callers to their pools, gives calls their place, and encodes replies."""

    def __init__(self, intake: Intake, metrics: Metrics, max_message_bytes: int) -> None:
        self._intake = intake
        self._metrics = metrics
        self._most = max_message_bytes

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable["Handler | None"]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """The handler of a call in terms of bytes; None stays None, for methods that do not exist."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if handler.response_streaming:
            write = self._encoder(handler.response_serializer)
            return grpc.stream_stream_rpc_method_handler(self._streaming(handler), response_serializer=write)
        return grpc.stream_unary_rpc_method_handler(self._single(handler))

    def _single(self, handler: Handler) -> Behavior:
        behavior: Any = handler.stream_unary or handler.unary_unary
        encode = self._encoder(handler.response_serializer)

        async def single(messages: AsyncIterator[bytes], context: Context) -> bytes:
            call, incoming = current_call(), Incoming(messages)
            try:
                requests = _Requests(call, incoming, self._intake, handler.request_deserializer)
                request = requests if handler.request_streaming else await requests.only()
                with self._intake.admitted(call):
                    reply = await behavior(request, context)
                    self._metrics.observe_stages(call.method, getattr(reply, "timings", ()))
                    return encode(reply)
            finally:
                incoming.close()

        return single

    def _streaming(self, handler: Handler) -> Behavior:
        behavior: Any = handler.stream_stream or handler.unary_stream

        async def streaming(messages: AsyncIterator[bytes], context: Context) -> None:
            call, incoming = current_call(), Incoming(messages)
            try:
                requests = _Requests(call, incoming, self._intake, handler.request_deserializer)
                request = requests if handler.request_streaming else await requests.only()
                with self._intake.admitted(call):
                    await send(behavior(request, context), context)
            finally:
                incoming.close()

        return streaming

    def _encoder(self, serialize: Callable[[Any], bytes] | None) -> Callable[[Any], bytes]:
        """Encodes replies. What it makes raises AssayError(TOO_LARGE) for one that could not be sent."""
        assert serialize is not None  # generated code always has one

        def encode(reply: Any) -> bytes:
            data = serialize(reply)
            if len(data) > self._most:
                raise AssayError(
                    Reason.TOO_LARGE,
                    f"The reply has {len(data):,} bytes, and a message at most {self._most:,}. Ask for less at once: "
                    "fewer samples, a smaller page, or no payloads.",
                    bytes=len(data),
                    max_bytes=self._most,
                )
            return data

        return encode


class _Requests:
    """The requests of a call, received and decoded one by one as they are asked for."""

    def __init__(
        self, call: Call, incoming: Incoming[bytes], intake: Intake, deserialize: Callable[[bytes], Any] | None
    ) -> None:
        assert deserialize is not None  # generated code always has one
        self._call = call
        self._incoming = incoming
        self._intake = intake
        self._deserialize = deserialize
        self._begun = False

    async def only(self) -> Any:
        """The request of a call that has one. Raises AssayError(INVALID_ARGUMENT) if it has none."""
        try:
            return await anext(self)
        except StopAsyncIteration:
            raise AssayError(Reason.INVALID_ARGUMENT, "The call carried no request. Send one message.") from None

    def __aiter__(self) -> "_Requests":
        return self

    async def __anext__(self) -> Any:
        data = await (
            self._intake.next(self._incoming) if self._begun else self._intake.first(self._call, self._incoming)
        )
        if data is None:
            raise StopAsyncIteration
        request = self._decoded(data)
        if not self._begun:
            self._begun = True
            self._note(request)
        return request

    def _decoded(self, data: bytes | None) -> Any:
        if data is None:
            raise StopAsyncIteration
        if self._call.caller.role is None and len(data) > ANONYMOUS_MESSAGE_BYTES:
            raise EdgeError(EdgeReason.UNAUTHENTICATED, "Without an API key a request is at most 4 KiB.")
        try:
            return self._deserialize(data)
        except DecodeError:
            raise AssayError(
                Reason.INVALID_ARGUMENT,
                "The bytes are no message of this RPC. Send the request type that the service's .proto file names.",
            ) from None

    def _note(self, request: Any) -> None:
        """Takes down what the first message tells of the call, and keeps a bound caller to its pools."""
        header = getattr(request, "header", request)
        self._call.request_id = getattr(header, "request_id", "") or self._call.request_id
        self._call.pool = _pool(header)
        if self._call.known.reach is Reach.REQUEST:
            self._call.caller.require(self._call.pool)


def _pool(header: Any) -> str:
    """Id of the pool that a request, or the header of a stream, names; "" where it is not well-formed or not there."""
    if hasattr(header, "pool_id"):
        return str(header.pool_id)
    named = [getattr(header, field, "") for field in ("parent", "pool", "name")]
    # What updates a resource brings it whole: its name is in it.
    named = [getattr(each, "name", each) for each in named]
    return names.pool_of(next((name for name in named if isinstance(name, str) and name), ""))
