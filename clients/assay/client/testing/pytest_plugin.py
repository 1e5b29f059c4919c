"""pytest fixtures: `pytest_plugins = ["assay.client.testing.pytest_plugin"]`."""

from collections.abc import Iterator

import pytest

from assay.client.testing.server import ServerProcess, start_server


@pytest.fixture(scope="session")
def assay_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A real server for the whole session; give each test a pool of its own."""
    with start_server(tmp_path_factory.mktemp("assay")) as server:
        yield server
