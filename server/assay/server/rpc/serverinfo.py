"""The Server service."""

import time
from importlib.metadata import version

from assay.server.rpc.calls import BaseServicer
from assay.server.rpc.convert.server import server_info_message
from assay.server.rpc.execution import Executors
from assay.server.rpc.gate import Gate
from assay.v1 import server_pb2


class ServerServicer(BaseServicer):
    """Tells of the server itself, from the moment when this is made."""

    def __init__(self, gate: Gate, executors: Executors) -> None:
        super().__init__(gate, executors)
        self._version = version("assay")
        self._start_time = time.time()
        self._started = time.monotonic()

    def GetServerInfo(self, request: server_pb2.GetServerInfoRequest) -> server_pb2.ServerInfo:
        mining = self.core.mining
        return server_info_message(
            self._version,
            self._start_time,
            time.monotonic() - self._started,
            self.core.limits,
            len(mining.strategies()),
            len(mining.presets()),
        )
