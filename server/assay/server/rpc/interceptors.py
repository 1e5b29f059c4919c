"""What surrounds every RPC: what is known of the call outermost, then errors, the access log and metrics,
and authorization. What is innermost is in `wire`."""

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any, TypeAlias

import grpc
import grpc.aio
import structlog

from assay.server.rpc import audit
from assay.server.rpc.auth import KeyRing, authorize, identify
from assay.server.rpc.current import Call, Context, current_call, enter, read_call
from assay.server.rpc.errors import STATUS_DETAILS_KEY, Failure, describe
from assay.server.rpc.gate import Gate
from assay.server.rpc.metrics import Metrics
from assay.server.rpc.streams import send

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"  # not generic at run time
MaybeHandler: TypeAlias = "Handler | None"
Behavior = Callable[[Any, Context], Any]
MAX_LOGGED = 128
ABORT_S = 1.0
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
            try:
                async with self.around(method, request, context) as tell:
                    response = await behavior(request, context)
                    tell(response)
                    return response
            except grpc.aio.AbortError as aborted:
                del request, context
                raise _without_past(aborted)  # noqa: B904 - it is the same

        return single

    def _stream(self, method: str, behavior: Behavior) -> Behavior:
        async def stream(request: Any, context: Context) -> None:
            try:
                async with self.around(method, request, context):
                    await send(behavior(request, context), context)
            except grpc.aio.AbortError as aborted:
                del request, context
                raise _without_past(aborted)  # noqa: B904 - it is the same

        return stream


def _without_past(aborted: grpc.aio.AbortError) -> grpc.aio.AbortError:
    """The error that ends a refused call, without what led to it: gRPC keeps it with the call, and every frame of its
    traceback knows the call or its request. They would be one cycle, which stays until Python looks through all its
    objects: gigabytes of requests, where many large ones are refused."""
    aborted.__context__ = aborted.__cause__ = None
    return aborted.with_traceback(None)


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
    try:
        async with asyncio.timeout(ABORT_S):
            await context.abort(failure.code, failure.message, ((STATUS_DETAILS_KEY, details),))
    except (TimeoutError, grpc.aio.InternalError):
        # The client left, or does not read what was sent before: the call is over as far as we care.
        raise asyncio.CancelledError from None


class InFlight(Around):
    """Reads what is known of a call, and knows which ones a stopping server must wait for: all but those of the
    standard services, whose streams only end when their callers leave. Outermost."""

    def __init__(self, gate: Gate, services: Collection[str], patience_s: float) -> None:
        self._gate = gate
        self._services = services
        self._patience_s = patience_s

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        call = read_call(method, context, self._patience_s)
        enter(call)
        counted = method.split("/")[1] in self._services
        try:
            with self._gate.call(call.stop) if counted else nullcontext():
                yield _ignore
        finally:
            call.stop.request()  # nobody waits any more for what is still being done


class Observe(Around):
    """One log line and one count per call."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        call, started = current_call(), time.perf_counter()
        code, facts = grpc.StatusCode.OK, dict[str, Any]()
        try:
            yield _ignore
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
            _log_call(call, code, seconds, facts)
            audit.note(call, code, facts.get("reason", ""))


def _own_code(context: Context) -> grpc.StatusCode:
    """Status that a handler ended its call with; grpc.aio keeps it as a bare number."""
    value: Any = context.code()
    codes: dict[Any, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}
    return codes.get(value, value if isinstance(value, grpc.StatusCode) else grpc.StatusCode.UNKNOWN)


def _facts(failure: Failure) -> dict[str, Any]:
    facts = {"reason": failure.reason, "message": failure.message, "error_id": failure.error_id}
    return {key: value for key, value in facts.items() if value}


def _log_call(call: Call, code: grpc.StatusCode, seconds: float, facts: dict[str, Any]) -> None:
    say = log.error if code in OUR_FAULT else log.info
    say(
        "rpc",
        method=call.method,
        code=code.name,
        ms=round(seconds * 1e3, 2),
        peer=call.peer,
        **({"who": call.caller.name or call.caller.fingerprint} if call.caller.role else {}),
        **({"request_id": call.request_id[:MAX_LOGGED]} if call.request_id else {}),
        **facts,
    )


class Authorize(Around):
    """Finds out who calls, and lets calls through by the policy table: before any of their request is received."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    @asynccontextmanager
    async def around(self, method: str, request: Any, context: Context) -> AsyncIterator[Callable[[Any], None]]:
        call = current_call()
        call.caller = identify(call.metadata, self._ring.keys)
        authorize(method, call.caller, call.metadata)
        yield _ignore
