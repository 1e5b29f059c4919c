"""The google.longrunning Operations service."""

import asyncio

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf import empty_pb2

from assay.server.core.errors import AssayError, Reason
from assay.server.core.operations.messages import OperationView
from assay.server.rpc.calls import BaseServicer, unary
from assay.server.rpc.convert import names, paging
from assay.server.rpc.convert.operations import operation_message
from assay.server.rpc.convert.scalars import seconds
from assay.server.rpc.current import Context, current_caller

COLLECTION = "operations"
DEFAULT_WAIT_S = 60.0
FIRST = (-1.0, "")


class OperationsServicer(BaseServicer, operations_pb2_grpc.OperationsServicer):
    """Translates between the wire and the core's operations."""

    @unary("io", operations_pb2.Operation)
    def GetOperation(self, request: operations_pb2.GetOperationRequest) -> operations_pb2.Operation:
        return operation_message(self.core.operations.get(self._visible(request.name)))

    @unary("io", operations_pb2.ListOperationsResponse)
    def ListOperations(self, request: operations_pb2.ListOperationsRequest) -> operations_pb2.ListOperationsResponse:
        _check_listing(request)
        page = paging.page(request, FIRST)
        found = self.core.operations.list(None if page.after == FIRST else page.after, page.fetch)
        caller = current_caller()
        messages, token = page.fill(
            found, _moment, operation_message, self.reply_bytes, lambda view: caller.sees(view.record.pool_id)
        )
        return operations_pb2.ListOperationsResponse(operations=messages, next_page_token=token)

    @unary("io", empty_pb2.Empty)
    def CancelOperation(self, request: operations_pb2.CancelOperationRequest) -> empty_pb2.Empty:
        self.core.operations.cancel(self._visible(request.name))
        return empty_pb2.Empty()

    @unary("io", empty_pb2.Empty)
    def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest) -> empty_pb2.Empty:
        self.core.operations.delete(self._visible(request.name))
        return empty_pb2.Empty()

    async def WaitOperation(
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        operation_id = await self.run("io", lambda: self._visible(request.name))
        wanted = seconds(request.timeout, "timeout") if request.HasField("timeout") else DEFAULT_WAIT_S
        view = await self.run("io", lambda: self.core.operations.get(operation_id))
        if not view.record.done and wanted > 0:
            await self._ended(operation_id, wanted)
            view = await self.run("io", lambda: self.core.operations.get(operation_id))
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

    def _visible(self, name: str) -> str:
        """Id of an operation whose pool the caller may see. Raises EdgeError(POOL_DENIED), AssayError(INVALID_NAME |
        OPERATION_NOT_FOUND)."""
        operation_id, caller = names.parse_operation(name), current_caller()
        if caller.pools is not None:
            caller.require(self.core.operations.get(operation_id).record.pool_id)
        return operation_id


def _check_listing(request: operations_pb2.ListOperationsRequest) -> None:
    if request.name not in ("", COLLECTION) or request.filter:
        message = 'All operations are listed under the name "operations"; there is no filter.'
        raise AssayError(Reason.INVALID_ARGUMENT, message)


def _moment(view: OperationView) -> tuple[float, str]:
    return float(view.record.create_time), view.record.operation_id
