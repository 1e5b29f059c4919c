"""A real server for the stories that need no server of their own."""

import re
from collections.abc import Iterator

import pytest

from assay.client import Client
from assay.client.testing import ServerProcess, start_server
from tests.e2e.corpus import Corpus


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server, shared: each test has a pool of its own."""
    with start_server(tmp_path_factory.mktemp("assay"), log_level="warning") as server:
        yield server


@pytest.fixture(scope="session")
def client(server: ServerProcess) -> Iterator[Client]:
    """A client of the shared server."""
    with server.client() as client:
        yield client


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> str:
    """A pool id of this test's own."""
    return re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-60:].strip("-0123456789")


@pytest.fixture(scope="session")
def corpus() -> Corpus:
    """The corpus that most stories tell of."""
    return Corpus()
