"""A real server in this process: the whole object graph on a fresh directory, over loopback."""

from contextlib import asynccontextmanager

import grpc.aio
import pytest

from assay.server.adapters.arrow import DirectoryLock
from assay.server.app.config import load
from assay.server.app.server import edge_settings, serving
from assay.server.core.ports.machine import unheard
from tests.rpc.stubs import Stubs


@pytest.fixture
def start(tmp_path):
    """Starts a server; every start within a test is on the same data."""

    @asynccontextmanager
    async def started(environment=None, **flags):
        config = load({"data_dir": tmp_path / "data", "listen": "127.0.0.1:0", "drain_seconds": 5.0, **flags}, {})
        with DirectoryLock(config.data_dir):
            async with serving(config, edge_settings(config, environment or {}), unheard) as server:
                yield server

    return started


@pytest.fixture
async def server(start):
    async with start() as server:
        yield server


@pytest.fixture
async def stubs(server):
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Stubs(channel)
