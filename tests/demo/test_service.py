"""The server in a process of its own."""

from pathlib import Path

import pytest

from assay.client import Client, TransportError
from demo.errors import DemoError
from demo.service import serving


def test_serves_and_leaves_nothing_running(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "log") as address, Client(address) as client:
        assert list(client.list_pools()) == []
    with Client(address, timeout=2) as client, pytest.raises(TransportError):
        client.get_pool("news")
    assert not (tmp_path / "data.port").exists()


def test_a_server_that_does_not_start_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(DemoError, match="exit code"), serving(tmp_path / "data", tmp_path / "log"):
        pass


def test_failures_of_the_caller_come_through(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), serving(tmp_path / "data", tmp_path / "log"):
        raise ZeroDivisionError
