"""The asyncio client."""

import dataclasses
from collections.abc import AsyncIterator, Callable, Coroutine
from os import PathLike
from types import GenericAlias, TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from google.longrunning import operations_proto_pb2 as operations_pb2

from assay.client import (
    _annotations,
    _audits,
    _changes,
    _importing,
    _ingest,
    _labeling,
    _mining,
    _models,
    _operations,
    _pools,
    _predictions,
    _updates,
)
from assay.client._async import AsyncTransport
from assay.client._channel import CallSettings, Endpoint
from assay.client._methods import like, same_type
from assay.client._wire import Download, Feed, Pages, Series, Unary, Upload
from assay.client.client import DEFAULT_TARGET
from assay.client.operations import AsyncOperation
from assay.client.results import AuditResult, Model, ResolveResult
from assay.client.retry import RetryPolicy

P = ParamSpec("P")
T = TypeVar("T")


class _Connected:
    """A transport and its life."""

    def __init__(
        self,
        target: str = DEFAULT_TARGET,
        *,
        api_key: str | None = None,
        tls: bool = False,
        tls_ca: str | PathLike[str] | None = None,
        timeout: float | None = 60.0,
        stream_timeout: float | None = None,
        retry: RetryPolicy | None = None,
    ) -> None:
        """Prepare a connection; it is made on the first call.

        Args:
            target: host and port of the server.
            api_key: sent with every call; to other machines only under TLS.
            tls: encrypt, and trust the usual certificate authorities.
            tls_ca: encrypt, and trust the certificates in this PEM file.
            timeout: seconds for a call of one reply, all its tries together, a restart of the server among them; None
                for no limit.
            stream_timeout: seconds for calls that stream (ingest, upload, score, export); None for no limit.
            retry: when to try again.
        """
        endpoint = Endpoint(target, api_key, tls, tls_ca)
        settings = CallSettings(timeout, stream_timeout, RetryPolicy() if retry is None else retry, endpoint.metadata())
        self._transport = AsyncTransport.to(endpoint, settings)

    def with_timeout(self, timeout: float | None) -> Self:
        """The same connection with another limit, in seconds, for every call, streams too."""
        other = object.__new__(type(self))
        settings = dataclasses.replace(self._transport.settings, timeout=timeout, stream_timeout=timeout)
        other._transport = self._transport.with_settings(settings)
        return other

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def _unary(build: Callable[P, Unary[T]]) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, T]]:
    @like(build, same_type)
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.unary(build(*args, **kwargs))

    return method


def _pages(build: Callable[P, Pages[T]]) -> Callable[Concatenate[_Connected, P], AsyncIterator[T]]:
    @like(build, lambda item: GenericAlias(AsyncIterator, item))
    def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._transport.pages(build(*args, **kwargs))

    return method


def _feed(build: Callable[P, Feed[T]]) -> Callable[Concatenate[_Connected, P], AsyncIterator[T]]:
    @like(build, lambda item: GenericAlias(AsyncIterator, item))
    def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._transport.feed(build(*args, **kwargs))

    return method


def _download(build: Callable[P, Download[T]]) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, T]]:
    @like(build, same_type)
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.download(build(*args, **kwargs))

    return method


def _series(build: Callable[P, Series[T]]) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, T]]:
    @like(build, same_type)
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.series(build(*args, **kwargs))

    return method


def _upload(build: Callable[P, Upload[T]]) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, T]]:
    @like(build, same_type)
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.upload(build(*args, **kwargs))

    return method


def _operation(
    build: Callable[P, Unary[operations_pb2.Operation]],
) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, AsyncOperation[Model]]]:
    @like(build, lambda _: AsyncOperation[Model])
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncOperation[Model]:
        return AsyncOperation(self._transport, await self._transport.unary(build(*args, **kwargs)))

    return method


def _resolving(
    build: Callable[P, Unary[operations_pb2.Operation]],
) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, AsyncOperation[ResolveResult]]]:
    @like(build, lambda _: AsyncOperation[ResolveResult])
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncOperation[ResolveResult]:
        return AsyncOperation(self._transport, await self._transport.unary(build(*args, **kwargs)))

    return method


def _auditing(
    build: Callable[P, Unary[operations_pb2.Operation]],
) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, AsyncOperation[AuditResult]]]:
    @like(build, lambda _: AsyncOperation[AuditResult])
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncOperation[AuditResult]:
        return AsyncOperation(self._transport, await self._transport.unary(build(*args, **kwargs)))

    return method


def _any_operation(
    build: Callable[P, Unary[operations_pb2.Operation]],
) -> Callable[Concatenate[_Connected, P], Coroutine[Any, Any, AsyncOperation[Any]]]:
    @like(build, lambda _: AsyncOperation[Any])
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncOperation[Any]:
        return AsyncOperation(self._transport, await self._transport.unary(build(*args, **kwargs)))

    return method


def _operations_pages(
    build: Callable[P, Pages[operations_pb2.Operation]],
) -> Callable[Concatenate[_Connected, P], AsyncIterator[AsyncOperation[Any]]]:
    @like(build, lambda _: AsyncIterator[AsyncOperation[Any]])
    async def method(self: _Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[AsyncOperation[Any]]:
        async for operation in self._transport.pages(build(*args, **kwargs)):
            yield AsyncOperation(self._transport, operation)

    return method


class AsyncClient(_Connected):
    """A connection to a server, on an event loop. Use it in an `async with` statement.

    The same methods as `Client`: those that return a value are awaited, those that return an iterator are used in
    `async for`.
    """

    # Pools and samples
    create_pool = _unary(_pools.create_pool)
    update_pool = _unary(_pools.update_pool)
    get_pool = _unary(_pools.get_pool)
    list_pools = _pages(_pools.list_pools)
    delete_pool = _unary(_pools.delete_pool)
    add_samples = _upload(_ingest.add_samples)
    add_batches = _upload(_ingest.add_batches)
    update_samples = _unary(_updates.update_samples)
    get_sample = _unary(_pools.get_sample)
    list_samples = _pages(_pools.list_samples)
    delete_samples = _unary(_pools.delete_samples)
    search = _unary(_pools.search)
    # Models
    upload_backbone = _upload(_models.upload_backbone)
    get_model = _unary(_models.get_model)
    list_models = _pages(_models.list_models)
    delete_model = _unary(_models.delete_model)
    activate_model = _operation(_models.activate_model)
    rollback_model = _operation(_models.rollback_model)
    train_head = _operation(_models.train_head)
    predict = _unary(_models.predict)
    # Predictions of the caller's own models
    update_predictions = _unary(_predictions.update_predictions)
    list_prediction_sources = _pages(_predictions.list_prediction_sources)
    delete_prediction_source = _unary(_predictions.delete_prediction_source)
    # Mining
    list_strategies = _pages(_mining.list_strategies)
    list_presets = _pages(_mining.list_presets)
    score = _download(_mining.score)
    mine = _unary(_mining.mine)
    # Labeling
    next_batch = _unary(_labeling.next_batch)
    get_lease = _unary(_labeling.get_lease)
    list_leases = _pages(_labeling.list_leases)
    renew_lease = _unary(_labeling.renew_lease)
    release_lease = _unary(_labeling.release_lease)
    export_labels = _download(_labeling.export_labels)
    labels_as_arrow = _download(_labeling.labels_as_arrow)
    labels_as_pandas = _download(_labeling.labels_as_pandas)
    # What changes
    watch_pool = _feed(_changes.watch_pool)
    # Annotations
    annotate = _unary(_annotations.annotate)
    skip_samples = _unary(_annotations.skip_samples)
    withdraw_annotations = _unary(_annotations.withdraw_annotations)
    set_sample_state = _unary(_annotations.set_sample_state)
    review_samples = _unary(_annotations.review_samples)
    undo_last_action = _unary(_annotations.undo_last_action)
    list_annotations = _pages(_annotations.list_annotations)
    list_labels = _pages(_annotations.list_labels)
    import_annotations = _series(_importing.import_annotations)
    # Audits
    audit_pool = _auditing(_audits.audit_pool)
    list_suspects = _pages(_audits.list_suspects)
    list_annotators = _pages(_audits.list_annotators)
    resolve_labels = _resolving(_audits.resolve_labels)
    # Operations and the server itself
    get_operation = _any_operation(_operations.get_operation)
    list_operations = _operations_pages(_operations.list_operations)
    cancel_operation = _unary(_operations.cancel_operation)
    server_info = _unary(_operations.server_info)
    health = _unary(_operations.health)
