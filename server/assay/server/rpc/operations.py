"""The google.longrunning Operations service."""

import asyncio

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from assay.server.core.errors import AssayError, Reason
from assay.server.core.operations.messages import OperationView
from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.operations import operation_message
from assay.server.rpc.convert.scalars import seconds
from assay.server.rpc.current import Context, current_caller

DEFAULT_WAIT_S = 60.0
FIRST = (-1.0, "")


class OperationsServicer(BaseServicer):
    """Translates between the wire and the core's operations."""

    def GetOperation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        return operation_message(self._named(request.name))

    def ListOperations(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        pool_id, caller = _listed(request), current_caller()
        page = paging.page(request, FIRST)
        found = self.core.operations.list(None if page.after == FIRST else page.after, page.fetch, pool_id)
        messages, token = page.fill(
            found, _moment, operation_message, self.reply_bytes, lambda view: caller.sees(view.record.pool_id)
        )
        return operations_pb2.ListOperationsResponse(operations=messages, next_page_token=token)

    def CancelOperation(self, request: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        self.core.operations.cancel(self._named(request.name).record.operation_id)
        return empty_pb2.Empty()

    def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        self.core.operations.delete(self._named(request.name).record.operation_id)
        return empty_pb2.Empty()

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        wanted = seconds(request.timeout, "timeout") if request.HasField("timeout") else DEFAULT_WAIT_S
        view = await self.run("io", lambda: self._named(request.name))
        if not view.record.done and wanted > 0:
            await self._ended(view.record.operation_id, wanted)
            view = await self.run("io", lambda: self._named(request.name))
        return operation_message(view)

    async def _ended(self, operation_id: str, timeout_s: float) -> None:
        """Returns when an operation ends, or the time is over, or the server is about to stop. No thread waits."""
        ended, loop = asyncio.Event(), asyncio.get_running_loop()

        def tell() -> None:
            loop.call_soon_threadsafe(ended.set)

        with self.core.operations.watching(operation_id, tell):
            waits = [asyncio.ensure_future(event.wait()) for event in (ended, self.gate.draining)]
            try:
                await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()

    def _named(self, name: str) -> OperationView:
        """An operation by its name. Raises AssayError(INVALID_NAME | OPERATION_NOT_FOUND)."""
        pool_id, operation_id = names.parse_operation(name)
        view = self.core.operations.get(operation_id)
        if view.record.pool_id != pool_id:
            # Whoever may see this pool need not see the other one.
            raise AssayError(
                Reason.OPERATION_NOT_FOUND,
                f"Pool {pool_id!r} has no operation {operation_id!r}. ListOperations shows those that it has.",
                operation=operation_id,
            )
        return view


def _listed(request: operations_pb2.ListOperationsRequest) -> str:
    """Id of the pool whose operations are listed, "" for all. Raises AssayError(INVALID_NAME | INVALID_ARGUMENT),
    EdgeError(POOL_DENIED)."""
    pool_id = names.parse_operations(request.name)
    if request.filter:
        raise AssayError(Reason.INVALID_ARGUMENT, "Operations are listed without a filter.", field="filter")
    if pool_id:
        current_caller().require(pool_id)
    return pool_id


def _moment(view: OperationView) -> tuple[float, str]:
    return float(view.record.create_time), view.record.operation_id
