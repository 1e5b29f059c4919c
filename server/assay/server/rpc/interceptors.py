"""What surrounds every RPC: what is known of the call outermost, then errors, the access log and metrics,
authorization, and decoding."""

import asyncio
import inspect
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.auth import ApiKeys, authorize
from assay.server.rpc.current import Call, Context, current_call, enter, read_call
from assay.server.rpc.errors import STATUS_DETAILS_KEY, Failure, describe
from assay.server.rpc.gate import Gate
from assay.server.rpc.metrics import Metrics

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
MaybeHandler: TypeAlias = "Handler | None"
Behavior = Callable[[Any, Context], Any]
MAX_LOGGED = 128
# Logged as errors: nothing that the caller did.
OUR_FAULT = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
log = structlog.get_logger("assay.rpc")

_MAKERS: dict[tuple[bool, bool], tuple[str, Callable[..., Handler]]] = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class Failed(Exception):
    """An error with what the caller is told of it; made once, so that the log and the caller get the same id."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Around(grpc.aio.ServerInterceptor):
    """An interceptor that is a context manager around the handler, of whatever arity."""

    @abstractmethod
    def around(self, method: str, request: Any, context: Context) -> AbstractAsyncContextManager[Callable[[Any], None]]:
        """Surrounds one call, of a request or of an iterator over them; the value is told a reply of one message."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Wraps the handler of a call; None stays None, for methods that do not exist."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        attribute, make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        wrap = self._stream if handler.response_streaming else self._single
        return make(
            wrap(handler_call_details.method, getattr(handler, attribute)),
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    def _single(self, method: str, behavior: Behavior) -> Behavior:
        async def single(request: Any, context: Context) -> Any:
            async with self.around(method, request, context) as tell:
                response = await behavior(request, context)
                tell(response)
                return response

        return single

    def _stream(self, method: str, behavior: Behavior) -> Behavior:
        async def stream(request: Any, context: Context) -> None:
            async with self.around(method, request, context):
                await _send(behavior(request, context), context)

        return stream


async def _send(responses: AsyncGenerator[Any, None] | Awaitable[None], context: Context) -> None:
    """Writes the messages of a handler, unless it writes them itself.

    gRPC would leave a generator where it stands when the client leaves, to be closed by the garbage collector at some
    later time, when there is no call any more. A coroutine gets the cancellation, and closes what it iterates over.
    """
    if inspect.isawaitable(responses):
        await responses
        return
    async with aclosing(responses):
        async for response in responses:
            await context.write(response)


def _ignore(response: Any) -> None:
    """Has no use for responses."""


class Errors(Around):
    """Tells the caller of errors as status codes with details; nothing of their inside leaves the server."""

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        try:
            yield _ignore
        except grpc.aio.BaseError:  # the handler ended the call by itself
            raise
        except Failed as failed:
            await _abort(context, failed.failure)
        except Exception as error:
            failure = describe(error)
            log.exception("failed beside a handler", method=method, error_id=failure.error_id)
            await _abort(context, failure)


async def _abort(context: Context, failure: Failure) -> None:
    details = failure.status().SerializeToString()
    await context.abort(failure.code, failure.message, ((STATUS_DETAILS_KEY, details),))


class InFlight(Around):
    """Reads what is known of a call, and knows which ones a stopping server must wait for: all but those of the
    standard services, whose streams only end when their callers leave. Outermost."""

    def __init__(self, gate: Gate, services: Collection[str]) -> None:
        self._gate = gate
        self._services = services

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        enter(read_call(method, context))
        counted = method.split("/")[1] in self._services
        with self._gate.call() if counted else nullcontext():
            yield _ignore


class Observe(Around):
    """One log line and one count per call."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        call, started = current_call(), time.perf_counter()
        code, facts = grpc.StatusCode.OK, dict[str, Any]()
        try:
            yield lambda response: self._metrics.observe_stages(method, getattr(response, "timings", ()))
        except (
            asyncio.CancelledError,
            grpc.aio.InternalError,
        ):  # the latter where a message could not be sent any more
            code = grpc.StatusCode.DEADLINE_EXCEEDED if call.ran_out else grpc.StatusCode.CANCELLED
            raise
        except grpc.aio.BaseError:
            code = _own_code(context)
            raise
        except Exception as error:
            failure = describe(error)
            code, facts = failure.code, _facts(failure)
            if failure.error_id:
                log.exception("unexpected error", method=method, error_id=failure.error_id)
            raise Failed(failure) from error
        finally:
            seconds = time.perf_counter() - started
            self._metrics.observe(method, code.name, seconds)
            _log_call(call, code, seconds, _caller_id(request, call), facts)


def _own_code(context: Context) -> grpc.StatusCode:
    """Status that a handler ended its call with; grpc.aio keeps it as a bare number."""
    value: Any = context.code()
    codes: dict[Any, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
    return codes.get(value, value if isinstance(value, grpc.StatusCode) else grpc.StatusCode.UNKNOWN)


def _caller_id(request: Any, call: Call) -> str:
    """The caller's own id of a request: its idempotency key, or else what it sent as x-request-id."""
    return str(getattr(request, "request_id", "")) or call.metadata.get("x-request-id", "")


def _facts(failure: Failure) -> dict[str, Any]:
    facts = {"reason": failure.reason, "message": failure.message, "error_id": failure.error_id}
    return {key: value for key, value in facts.items() if value}


def _log_call(call: Call, code: grpc.StatusCode, seconds: float, caller_id: str, facts: dict[str, Any]) -> None:
    say = log.error if code in OUR_FAULT else log.info
    say(
        "rpc",
        method=call.method,
        code=code.name,
        ms=round(seconds * 1e3, 2),
        peer=call.peer,
        **({"request_id": caller_id[:MAX_LOGGED]} if caller_id else {}),
        **facts,
    )


class Authorize(Around):
    """Lets calls through by the policy table and their API key."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        authorize(method, current_call().metadata, self._keys)
        yield _ignore


class Decode(grpc.aio.ServerInterceptor):
    """Refuses bytes that are no message of their RPC as an error of ours: gRPC would only say UNKNOWN. Innermost."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> MaybeHandler:
        """Wraps the handler of a call and how its requests are read; None stays None."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        attribute, make = _MAKERS[bool(handler.request_streaming), bool(handler.response_streaming)]
        behavior, decoded = getattr(handler, attribute), _Decoded if handler.request_streaming else _decoded
        return make(
            lambda request, context: behavior(decoded(request), context),
            request_deserializer=_lenient(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )


class _Garbage:
    """Stands for bytes that are no message, until somebody is there to be told."""


def _lenient(deserialize: Callable[[bytes], Any] | None) -> Callable[[bytes], Any] | None:
    if deserialize is None:  # gRPC then hands on the bytes
        return None

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError:
            return _Garbage()

    return read


def _decoded(request: Any) -> Any:
    """A request. Raises AssayError(INVALID_ARGUMENT) for bytes that are none."""
    if isinstance(request, _Garbage):
        raise AssayError(
            Reason.INVALID_ARGUMENT,
            "The bytes are no message of this RPC. Send the request type that the service's .proto file names.",
        )
    return request


class _Decoded:
    """A stream of requests, each checked as it is read."""

    def __init__(self, requests: AsyncIterator[Any]) -> None:
        self._requests = aiter(requests)

    def __aiter__(self) -> "_Decoded":
        return self

    async def __anext__(self) -> Any:
        return _decoded(await anext(self._requests))
