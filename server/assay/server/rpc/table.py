"""The table of RPCs: each method with where its work runs and what answers it.

A method says its path, its messages, how it streams and who may call it (`assay.v1.methods`, made of the protos). A
row adds the executor and the handler. The server registers exactly these rows.
"""

from collections.abc import AsyncIterator, Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.message import Message

from assay.server.core.errors import RequestReplayed
from assay.server.rpc.annotations import AnnotationsServicer
from assay.server.rpc.audits import AuditsServicer
from assay.server.rpc.calls import BaseServicer, ExecutorName, Restore
from assay.server.rpc.changes import ChangesServicer
from assay.server.rpc.current import Context
from assay.server.rpc.health import HealthServicer
from assay.server.rpc.labeling import LabelingServicer
from assay.server.rpc.mining import MiningServicer
from assay.server.rpc.models import ModelsServicer
from assay.server.rpc.operations import OperationsServicer
from assay.server.rpc.pools import PoolsServicer
from assay.server.rpc.predictions import PredictionsServicer
from assay.server.rpc.remembering import whole_lease, whole_mining, whole_pool
from assay.server.rpc.serverinfo import ServerServicer
from assay.server.rpc.streams import Pulled
from assay.v1 import methods
from assay.v1.method import Method

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)
Behavior = Callable[[Any, Context], Any]


@dataclass(frozen=True, slots=True)
class Row:
    """An RPC as the server offers it; behavior answers (request or requests, context) on the event loop."""

    method: Method[Any, Any]
    behavior: Behavior


@dataclass(frozen=True, slots=True)
class Servicers:
    """What answers the RPCs, one a service."""

    pools: PoolsServicer
    models: ModelsServicer
    predictions: PredictionsServicer
    mining: MiningServicer
    labeling: LabelingServicer
    annotations: AnnotationsServicer
    audits: AuditsServicer
    changes: ChangesServicer
    server: ServerServicer
    operations: OperationsServicer
    health: HealthServicer


def table(of: Servicers) -> tuple[Row, ...]:
    """All RPCs but that of reflection, which brings its own handler."""
    pools, models, mining, labeling, operations = of.pools, of.models, of.mining, of.labeling, of.operations
    said = of.annotations
    return (
        _unary(methods.CREATE_POOL, pools, "io", pools.CreatePool, whole_pool),
        _unary(methods.GET_POOL, pools, "io", pools.GetPool),
        _unary(methods.UPDATE_POOL, pools, "compute", pools.UpdatePool),
        _unary(methods.LIST_POOLS, pools, "io", pools.ListPools),
        _unary(methods.DELETE_POOL, pools, "io", pools.DeletePool),
        _on_loop(methods.ADD_SAMPLES, pools.AddSamples),
        _on_loop(methods.UPLOAD_SAMPLES, pools.UploadSamples),
        _on_loop(methods.UPDATE_SAMPLES, pools.UpdateSamples),
        _unary(methods.GET_SAMPLE, pools, "io", pools.GetSample),
        _unary(methods.LIST_SAMPLES, pools, "io", pools.ListSamples),
        _unary(methods.DELETE_SAMPLES, pools, "io", pools.DeleteSamples),
        _unary(methods.SEARCH_SAMPLES, pools, "compute", pools.SearchSamples),
        _on_loop(methods.UPLOAD_BACKBONE, models.UploadBackbone),
        _unary(methods.GET_MODEL, models, "io", models.GetModel),
        _unary(methods.LIST_MODELS, models, "io", models.ListModels),
        _unary(methods.DELETE_MODEL, models, "io", models.DeleteModel),
        _unary(methods.ACTIVATE_MODEL, models, "io", models.ActivateModel),
        _unary(methods.ROLLBACK_MODEL, models, "io", models.RollbackModel),
        _unary(methods.TRAIN_HEAD, models, "io", models.TrainHead),
        _unary(methods.PREDICT, models, "compute", models.Predict),
        _on_loop(methods.UPDATE_PREDICTIONS, of.predictions.UpdatePredictions),
        _unary(methods.LIST_PREDICTION_SOURCES, of.predictions, "compute", of.predictions.ListPredictionSources),
        _unary(methods.DELETE_PREDICTION_SOURCE, of.predictions, "io", of.predictions.DeletePredictionSource),
        _unary(methods.LIST_STRATEGIES, mining, "io", mining.ListStrategies),
        _unary(methods.LIST_PRESETS, mining, "io", mining.ListPresets),
        _streamed(methods.SCORE, mining, "compute", mining.Score),
        _unary(methods.MINE, mining, "compute", mining.Mine, whole_mining),
        _on_loop(methods.NEXT_BATCH, labeling.NextBatch),
        _unary(methods.GET_LEASE, labeling, "io", labeling.GetLease),
        _unary(methods.LIST_LEASES, labeling, "io", labeling.ListLeases),
        _unary(methods.RENEW_LEASE, labeling, "io", labeling.RenewLease, whole_lease),
        _unary(methods.RELEASE_LEASE, labeling, "io", labeling.ReleaseLease, whole_lease),
        _streamed(methods.EXPORT_LABELS, labeling, "stream", labeling.ExportLabels),
        _unary(methods.AUDIT_POOL, of.audits, "compute", of.audits.AuditPool),
        _unary(methods.LIST_SUSPECTS, of.audits, "compute", of.audits.ListSuspects),
        _unary(methods.ANNOTATE, said, "io", said.Annotate),
        _unary(methods.SKIP_SAMPLES, said, "io", said.SkipSamples),
        _unary(methods.WITHDRAW_ANNOTATIONS, said, "io", said.WithdrawAnnotations),
        _unary(methods.SET_SAMPLE_STATE, said, "io", said.SetSampleState),
        _unary(methods.REVIEW_SAMPLES, said, "io", said.ReviewSamples),
        _unary(methods.UNDO_LAST_ACTION, said, "io", said.UndoLastAction),
        _unary(methods.LIST_ANNOTATIONS, said, "io", said.ListAnnotations),
        _unary(methods.LIST_LABELS, said, "io", said.ListLabels),
        _unary(methods.LIST_ANNOTATORS, of.audits, "compute", of.audits.ListAnnotators),
        _unary(methods.RESOLVE_LABELS, of.audits, "io", of.audits.ResolveLabels),
        _on_loop(methods.WATCH_POOL, of.changes.WatchPool),
        _unary(methods.GET_SERVER_INFO, of.server, "io", of.server.GetServerInfo),
        _unary(methods.GET_OPERATION, operations, "io", operations.GetOperation),
        _unary(methods.LIST_OPERATIONS, operations, "io", operations.ListOperations),
        _unary(methods.CANCEL_OPERATION, operations, "io", operations.CancelOperation),
        _unary(methods.DELETE_OPERATION, operations, "io", operations.DeleteOperation),
        _on_loop(methods.WAIT_OPERATION, operations.WaitOperation),
        _on_loop(methods.HEALTH_CHECK, of.health.Check),
        _on_loop(methods.HEALTH_LIST, of.health.List),
        _on_loop(methods.HEALTH_WATCH, of.health.Watch),
    )


def add_to(server: grpc.aio.Server, rows: Sequence[Row]) -> None:
    """Registers the rows of a table, which are sorted by service."""
    for service, found in groupby(rows, lambda row: row.method.service):
        handlers = {row.method.name: _handler(row) for row in found}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))


_MAKERS: dict[tuple[bool, bool], Callable[..., "grpc.RpcMethodHandler[Any, Any]"]] = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def _handler(row: Row) -> "grpc.RpcMethodHandler[Any, Any]":
    method = row.method
    return _MAKERS[method.streams_requests, method.streams_responses](
        row.behavior,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )


# --- rows ----------------------------------------------------------------------------------------------------------


def _unary(
    method: Method[Request, Response],
    servicer: BaseServicer,
    executor: ExecutorName,
    handler: Callable[[Request], Response],
    restore: Restore | None = None,
) -> Row:
    """A method that blocks: it runs in an executor, and what is remembered of a reply is given again, the rest put back
    by `restore`."""

    async def answer(request: Request, context: Context) -> Response:
        try:
            return await servicer.run(executor, lambda: handler(request))
        except RequestReplayed as replay:
            return await servicer.again(replay, method.response, request, restore)

    return Row(method, answer)


def _streamed(
    method: Method[Request, Response],
    servicer: BaseServicer,
    executor: ExecutorName,
    handler: Callable[[Request], Generator[Response, None, None]],
) -> Row:
    """A blocking generator of messages: each is made by a thread when the one before is sent.

    The first one may cost much and is made in the executor of that name; streams take turns at making the others. A
    caller that leaves while a message is being made stops that, and drops the generator.
    """

    async def answer(request: Request, context: Context) -> AsyncIterator[Response]:
        messages = Pulled(handler(request))
        try:
            message = await servicer.run(executor, messages.next)
            while message is not None:
                yield message
                message = await servicer.run("stream", messages.next, bounded=False)
        finally:
            messages.close()

    return Row(method, answer)


def _on_loop(method: Method[Any, Any], handler: Behavior) -> Row:
    """A method that waits on the event loop, and brings its work to executors by itself."""
    return Row(method, handler)
