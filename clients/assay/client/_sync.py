"""Running calls in the caller's thread."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

import grpc
from google.protobuf.message import Message

from assay.client._channel import CallSettings, Endpoint
from assay.client._wire import Collector, Download, Feed, Pages, Series, Unary, Upload
from assay.client.errors import AssayError, DeadlineExceeded, FailedCall, from_call
from assay.client.retry import Budget, Contact

T = TypeVar("T")


def open_channel(endpoint: Endpoint) -> grpc.Channel:
    """A channel to the server; it connects on first use."""
    if endpoint.secure:
        return grpc.secure_channel(endpoint.target, endpoint.credentials(), options=endpoint.options())
    return grpc.insecure_channel(endpoint.target, options=endpoint.options())


class Transport:
    """Runs calls over a channel, with deadlines and retries. Safe to share between threads."""

    def __init__(self, channel: grpc.Channel, settings: CallSettings, contact: Contact | None = None) -> None:
        self._channel = channel
        self._contact = Contact() if contact is None else contact
        self.settings = settings

    def with_settings(self, settings: CallSettings) -> "Transport":
        """The same channel with other settings."""
        return Transport(self._channel, settings, self._contact)

    def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        self._channel.close()

    def unary(self, call: Unary[T], timeout: float | None = None) -> T:
        """Run a call; `timeout` in seconds takes the place of the settings' one."""
        method = self._channel.unary_unary(call.method.path, encode, call.method.response.FromString)

        def once(seconds: float | None) -> Any:
            return method(call.request, timeout=seconds, metadata=self.settings.metadata)

        return call.parse(self._attempt(once, self.settings.timeout if timeout is None else timeout, True))

    def pages(self, call: Pages[T]) -> Iterator[T]:
        """Run a call once per page, as its items are asked for."""
        request = call.request
        while True:
            reply = self.unary(Unary(call.method, request, same))
            yield from call.items(reply)
            if not reply.next_page_token:
                return
            request = next_page(request, reply.next_page_token)

    def series(self, call: Series[T]) -> T:
        """Run calls one after the other."""
        steps = call.steps()
        try:
            step = next(steps)
            while True:
                try:
                    reply = self.unary(step)
                except AssayError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    def download(self, call: Download[T]) -> T:
        """Run a call and collect its stream."""
        method = self._channel.unary_stream(call.method.path, encode, call.method.response.FromString)

        def once(seconds: float | None) -> T:
            stream = method(call.request, timeout=seconds, metadata=self.settings.metadata)
            return _collect(stream, call.collector())

        return self._attempt(once, self.settings.stream_timeout, call.restartable)

    def feed(self, call: Feed[T]) -> Iterator[T]:
        """Run a call whose stream has no end, and go on where it breaks."""
        method = self._channel.unary_stream(call.method.path, encode, call.method.response.FromString)
        following = Following(call, self.settings, self._contact)
        while True:
            stream = method(following.request, timeout=following.remaining(), metadata=self.settings.metadata)
            try:
                for message in stream:
                    item = following.take(message)
                    if item is not None:
                        yield item
                return
            except grpc.RpcError as failure:
                pause = following.pause(failure)
            finally:
                stream.cancel()
            time.sleep(pause)

    def upload(self, call: Upload[T]) -> T:
        """Run a call that sends a stream."""
        method = self._channel.stream_unary(call.method.path, encode, call.method.response.FromString)

        def once(seconds: float | None) -> Any:
            source = Source(call.messages())
            return source.outcome(lambda: method(source, timeout=seconds, metadata=self.settings.metadata))

        return call.parse(self._attempt(once, self.settings.stream_timeout, call.restartable, call.counted))

    def _attempt(
        self, once: Callable[[float | None], T], seconds: float | None, retryable: bool, counted: bool = False
    ) -> T:
        budget = Budget(self.settings.retry, seconds, self._contact)
        stored = 0
        while True:
            try:
                reply = once(budget.remaining())
            except grpc.RpcError as failure:
                error = from_call(cast(FailedCall, failure))
                if counted:
                    stored = error.note_stored(stored)
                pause = budget.wait(error) if retryable else None
                if pause is None:
                    raise error from failure
            else:
                self._contact.note(None)
                return reply
            time.sleep(pause)


class Following(Generic[T]):
    """How far a feed was read, and when to try again: each message is an answer, after which the patience is new."""

    def __init__(self, call: Feed[T], settings: CallSettings, contact: Contact) -> None:
        self._call = call
        self._settings = settings
        self._contact = contact
        self._end = math.inf if settings.stream_timeout is None else time.monotonic() + settings.stream_timeout
        self.request = call.request
        self._budget = self._fresh()

    def remaining(self) -> float | None:
        """Seconds left, None without a limit."""
        return None if math.isinf(self._end) else max(0.0, self._end - time.monotonic())

    def take(self, message: Any) -> T | None:
        """What a message says; None for what is not passed on."""
        self._contact.note(None)
        self._budget = self._fresh()
        self.request = self._call.after(self.request, message)
        return self._call.parse(message)

    def pause(self, failure: grpc.RpcError) -> float:
        """Seconds to wait before going on. Raises the error where there is no going on."""
        error = from_call(cast(FailedCall, failure))
        # The server lets go of who does not read; the next message is still there.
        if isinstance(error, DeadlineExceeded) and error.reason:
            return 0.0
        pause = self._budget.wait(error)
        if pause is None:
            raise error from failure
        return pause

    def _fresh(self) -> Budget:
        return Budget(self._settings.retry, self.remaining(), self._contact)


class Source:
    """An iterator of messages that remembers the exception that ended it; gRPC reads it in a thread of its own."""

    def __init__(self, messages: Iterator[Message]) -> None:
        self._messages = messages
        self._failure: Exception | None = None

    def __iter__(self) -> "Source":
        return self

    def __next__(self) -> Message:
        try:
            return next(self._messages)
        except StopIteration:
            raise
        except Exception as failure:
            self._failure = failure
            raise

    def outcome(self, reply: Callable[[], T]) -> T:
        """What `reply` gives; where it fails because this iterator did, that failure."""
        try:
            return reply()
        except grpc.RpcError:
            if self._failure is not None:
                raise self._failure from None
            raise


def next_page(request: Message, token: str) -> Message:
    """The request of the next page."""
    following = type(request)()
    following.CopyFrom(request)
    following.page_token = token  # type: ignore[attr-defined]
    return following


def _collect(stream: Any, collector: Collector[Any, T]) -> T:
    try:
        for message in stream:
            collector.add(message)
        return collector.finish()
    except BaseException:
        stream.cancel()
        collector.discard()
        raise


def encode(message: Message) -> bytes:
    """A message as bytes."""
    return message.SerializeToString()


def same(reply: Any) -> Any:
    """The reply itself."""
    return reply
