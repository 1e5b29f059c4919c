"""Running calls on an asyncio event loop."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import grpc

from assay.client._channel import CallSettings, Endpoint
from assay.client._sync import _encode, _same, next_page
from assay.client._wire import Collector, Download, Pages, Unary, Upload
from assay.client.errors import from_call
from assay.client.retry import Budget

T = TypeVar("T")


def open_channel(endpoint: Endpoint) -> grpc.aio.Channel:
    """A channel to the server; it connects on first use."""
    if endpoint.secure:
        return grpc.aio.secure_channel(endpoint.target, endpoint.credentials(), options=endpoint.options())
    return grpc.aio.insecure_channel(endpoint.target, options=endpoint.options())


class AsyncTransport:
    """Runs calls over a channel, with deadlines and retries; the asyncio twin of `_sync.Transport`."""

    def __init__(self, channel: grpc.aio.Channel, settings: CallSettings) -> None:
        self._channel = channel
        self.settings = settings

    def with_settings(self, settings: CallSettings) -> "AsyncTransport":
        """The same channel with other settings."""
        return AsyncTransport(self._channel, settings)

    async def close(self) -> None:
        """Close the channel; calls in flight are cancelled."""
        await self._channel.close()

    async def unary(self, call: Unary[T], timeout: float | None = None) -> T:
        """Run a call; `timeout` in seconds takes the place of the settings' one."""
        method = self._channel.unary_unary(call.path, _encode, call.reply.FromString)

        async def once(seconds: float | None) -> Any:
            return await method(call.request, timeout=seconds, metadata=self.settings.metadata)

        return call.parse(await self._attempt(once, self.settings.timeout if timeout is None else timeout, True))

    async def pages(self, call: Pages[T]) -> AsyncIterator[T]:
        """Run a call once per page, as its items are asked for."""
        request = call.request
        while True:
            reply = await self.unary(Unary(call.path, request, call.reply, _same))
            for item in call.items(reply):
                yield item
            if not reply.next_page_token:
                return
            request = next_page(request, reply.next_page_token)

    async def download(self, call: Download[T]) -> T:
        """Run a call and collect its stream."""
        method = self._channel.unary_stream(call.path, _encode, call.reply.FromString)

        async def once(seconds: float | None) -> T:
            stream = method(call.request, timeout=seconds, metadata=self.settings.metadata)
            return await _collect(stream, call.collector())

        return await self._attempt(once, self.settings.stream_timeout, call.restartable)

    async def upload(self, call: Upload[T]) -> T:
        """Run a call that sends a stream."""
        method = self._channel.stream_unary(call.path, _encode, call.reply.FromString)

        async def once(seconds: float | None) -> Any:
            stream = method(timeout=seconds, metadata=self.settings.metadata)
            try:
                return await _send(stream, call)
            except BaseException:
                stream.cancel()
                raise

        return call.parse(await self._attempt(once, self.settings.stream_timeout, call.restartable))

    async def _attempt(self, once: Callable[[float | None], Awaitable[T]], seconds: float | None, retryable: bool) -> T:
        budget = Budget(self.settings.retry, seconds)
        while True:
            try:
                return await once(budget.remaining())
            except grpc.aio.AioRpcError as failure:
                error = from_call(failure)
                pause = budget.wait(error) if retryable else None
                if pause is None:
                    raise error from failure
            await asyncio.sleep(pause)


async def _send(stream: Any, call: Upload[T]) -> Any:
    try:
        for message in call.messages():
            await stream.write(message)
        await stream.done_writing()
    except asyncio.InvalidStateError:
        # The server answered before it had heard all; its status says why.
        pass
    return await stream


async def _collect(stream: Any, collector: Collector[Any, T]) -> T:
    try:
        async for message in stream:
            collector.add(message)
        return collector.finish()
    except BaseException:
        stream.cancel()
        collector.discard()
        raise
