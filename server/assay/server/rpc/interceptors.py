"""What surrounds every RPC: errors outermost, then the access log and metrics, authorization, and decoding."""

import asyncio
import inspect
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from assay.server.core.errors import AssayError, Reason
from assay.server.rpc.auth import ApiKeys, authorize
from assay.server.rpc.calls import Context
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
        """Surrounds one call, of a request or of an iterator over them; the value is told every response."""

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
        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            async with self.around(method, request, context) as tell:
                responses = behavior(request, context)
                if inspect.isawaitable(responses):  # it writes to the context by itself
                    await responses
                    return
                async for response in responses:
                    tell(response)
                    yield response

        return stream


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
    """Knows which calls a stopping server must wait for: all but those of the standard services, whose streams only
    end when their callers leave."""

    def __init__(self, gate: Gate, services: Collection[str]) -> None:
        self._gate = gate
        self._services = services

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        counted = method.split("/")[1] in self._services
        with self._gate.call() if counted else nullcontext():
            yield _ignore


class Observe(Around):
    """One log line and one count per call."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        started = time.perf_counter()
        code, facts = grpc.StatusCode.OK, dict[str, Any]()
        try:
            yield lambda response: self._metrics.observe_stages(method, getattr(response, "timings", ()))
        except grpc.aio.BaseError:
            code = _own_code(context)
            raise
        except asyncio.CancelledError:
            code = _cancel_code(context)
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
            _log_call(method, code, seconds, context, _caller_id(request, context), facts)


def _own_code(context: Context) -> grpc.StatusCode:
    """Status that a handler ended its call with; grpc.aio keeps it as a bare number."""
    value: Any = context.code()
    codes: dict[Any, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
    return codes.get(value, value if isinstance(value, grpc.StatusCode) else grpc.StatusCode.UNKNOWN)


def _cancel_code(context: Context) -> grpc.StatusCode:
    left: float | None = context.time_remaining()
    ran_out = left is not None and left <= 0
    return grpc.StatusCode.DEADLINE_EXCEEDED if ran_out else grpc.StatusCode.CANCELLED


def _caller_id(request: Any, context: Context) -> str:
    """The caller's own id of a request: its idempotency key, or else what it sent as x-request-id."""
    return str(getattr(request, "request_id", "")) or _metadata(context).get("x-request-id", "")


def _facts(failure: Failure) -> dict[str, Any]:
    facts = {"reason": failure.reason, "message": failure.message, "error_id": failure.error_id}
    return {key: value for key, value in facts.items() if value}


def _log_call(
    method: str, code: grpc.StatusCode, seconds: float, context: Context, caller_id: str, facts: dict[str, Any]
) -> None:
    say = log.error if code in OUR_FAULT else log.info
    say(
        "rpc",
        method=method,
        code=code.name,
        ms=round(seconds * 1e3, 2),
        peer=context.peer(),
        **({"request_id": caller_id[:MAX_LOGGED]} if caller_id else {}),
        **facts,
    )


class Authorize(Around):
    """Lets calls through by the policy table and their API key."""

    def __init__(self, keys: ApiKeys) -> None:
        self._keys = keys

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        authorize(method, _metadata(context), self._keys)
        yield _ignore


def _metadata(context: Context) -> dict[str, str]:
    pairs = context.invocation_metadata() or ()
    return {key: value for key, value in pairs if isinstance(value, str)}


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
