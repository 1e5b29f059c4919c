"""Running calls on an asyncio event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

import grpc

from assay.client._channel import CallSettings, Endpoint
from assay.client._sync import Following, Source, encode, next_page, open_channel, same
from assay.client._wire import Collector, Download, Feed, Pages, Series, Unary, Upload
from assay.client.errors import AssayError, FailedCall, from_call
from assay.client.retry import Budget, Contact

T = TypeVar("T")


def _open_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    if endpoint.secure:
        return grpc.aio.secure_channel(endpoint.target, endpoint.credentials(), options=endpoint.options())
    return grpc.aio.insecure_channel(endpoint.target, options=endpoint.options())


class _Uploads:
    """A blocking channel, opened when first needed.

    Streams are sent over it because a stream that the server refuses midway often loses its status in grpc.aio: the
    write that fails then overwrites it with an internal error.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._channel: grpc.Channel | None = None

    def open(self) -> grpc.Channel:
        if self._channel is None:
            self._channel = open_channel(self._endpoint)
        return self._channel

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


class AsyncTransport:
    """Runs calls over a channel, with deadlines and retries; the asyncio twin of `_sync.Transport`."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        uploads: _Uploads,
        settings: CallSettings,
        contact: Contact | None = None,
    ) -> None:
        self._channel = channel
        self._contact = Contact() if contact is None else contact
        self._uploads = uploads
        self.settings = settings

    @classmethod
    def to(cls, endpoint: Endpoint, settings: CallSettings) -> "AsyncTransport":
        """A transport to a server; it connects on first use."""
        return cls(_open_channel(endpoint), _Uploads(endpoint), settings)

    def with_settings(self, settings: CallSettings) -> "AsyncTransport":
        """The same channel with other settings."""
        return AsyncTransport(self._channel, self._uploads, settings, self._contact)

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        self._uploads.close()
        await self._channel.close()

    async def unary(self, call: Unary[T], timeout: float | None = None) -> T:
        """Run a call; `timeout` in seconds takes the place of the settings' one."""
        method = self._channel.unary_unary(call.method.path, encode, call.method.response.FromString)

        async def once(seconds: float | None) -> Any:
            return await method(call.request, timeout=seconds, metadata=self.settings.metadata)

        return call.parse(await self._attempt(once, self.settings.timeout if timeout is None else timeout, True))

    async def pages(self, call: Pages[T]) -> AsyncIterator[T]:
        """Run a call once per page, as its items are asked for."""
        request = call.request
        while True:
            reply = await self.unary(Unary(call.method, request, same))
            for item in call.items(reply):
                yield item
            if not reply.next_page_token:
                return
            request = next_page(request, reply.next_page_token)

    async def series(self, call: Series[T]) -> T:
        """Run calls one after the other."""
        steps = call.steps()
        try:
            step = next(steps)
            while True:
                try:
                    reply = await self.unary(step)
                except AssayError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(reply)
        except StopIteration as end:
            result: T = end.value
            return result

    async def download(self, call: Download[T]) -> T:
        """Run a call and collect its stream."""
        method = self._channel.unary_stream(call.method.path, encode, call.method.response.FromString)

        async def once(seconds: float | None) -> T:
            stream = method(call.request, timeout=seconds, metadata=self.settings.metadata)
            return await _collect(stream, call.collector())

        return await self._attempt(once, self.settings.stream_timeout, call.restartable)

    async def feed(self, call: Feed[T]) -> AsyncIterator[T]:
        """Run a call whose stream has no end, and go on where it breaks."""
        method = self._channel.unary_stream(call.method.path, encode, call.method.response.FromString)
        following = Following(call, self.settings, self._contact)
        while True:
            stream = method(following.request, timeout=following.remaining(), metadata=self.settings.metadata)
            try:
                async for message in stream:
                    item = following.take(message)
                    if item is not None:
                        yield item
                return
            except grpc.RpcError as failure:
                pause = following.pause(failure)
            finally:
                stream.cancel()
            await asyncio.sleep(pause)

    async def upload(self, call: Upload[T]) -> T:
        """Run a call that sends a stream. Its source, arrays or files, is read in a thread beside the loop."""
        method = self._uploads.open().stream_unary(call.method.path, encode, call.method.response.FromString)

        async def once(seconds: float | None) -> Any:
            source = Source(call.messages())
            sending = method.future(source, timeout=seconds, metadata=self.settings.metadata)
            await _finished(sending)
            return source.outcome(sending.result)

        return call.parse(await self._attempt(once, self.settings.stream_timeout, call.restartable, call.counted))

    async def _attempt(
        self,
        once: Callable[[float | None], Awaitable[T]],
        seconds: float | None,
        retryable: bool,
        counted: bool = False,
    ) -> T:
        budget = Budget(self.settings.retry, seconds, self._contact)
        stored = 0
        while True:
            try:
                reply = await once(budget.remaining())
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
            await asyncio.sleep(pause)


async def _finished(call: Any) -> None:
    """Wait for a call of a blocking channel; cancel it if this task is cancelled."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def tell(_call: Any) -> None:
        # A task that was cancelled did not wait: its loop may be gone by now.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    call.add_done_callback(tell)
    try:
        await done.wait()
    except asyncio.CancelledError:
        call.cancel()
        raise


async def _collect(stream: Any, collector: Collector[Any, T]) -> T:
    try:
        async for message in stream:
            collector.add(message)
        return collector.finish()
    except BaseException:
        stream.cancel()
        collector.discard()
        raise
