"""grpc.health.v1: whether the server serves, for anybody who asks."""

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2

from assay.server.rpc.current import Context
from assay.server.rpc.errors import EdgeError, EdgeReason

Response = health_pb2.HealthCheckResponse
NAME = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
SERVING = Response.SERVING
NOT_SERVING = Response.NOT_SERVING


class HealthServicer:
    """Tells one status for the server ("") and for each of its services. On the event loop only."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = ("", *services)
        self._status = NOT_SERVING
        self._changed = asyncio.Event()

    def tell(self, status: "health_pb2.HealthCheckResponse.ServingStatus") -> None:
        """Changes the status, and wakes those who watch it."""
        changed, self._changed = self._changed, asyncio.Event()
        self._status = status
        changed.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> Response:
        if request.service not in self._services:
            raise EdgeError(
                EdgeReason.UNKNOWN_SERVICE, f'There is no service {request.service!r}. "" stands for the whole server.'
            )
        return Response(status=self._status)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[Response]:
        # A service may be one of a later version: the protocol has a watcher wait for it.
        if request.service not in self._services:
            yield Response(status=Response.SERVICE_UNKNOWN)
        while True:
            changed = self._changed
            if request.service in self._services:
                yield Response(status=self._status)
            await changed.wait()

    async def List(self, request: health_pb2.HealthListRequest, context: Context) -> health_pb2.HealthListResponse:
        return health_pb2.HealthListResponse(
            statuses={service: Response(status=self._status) for service in self._services}
        )
