"""The servers that users' tests start."""

from pathlib import Path

import pytest

from assay.client.testing import ServerFailed, ServerProcess, start_server


def test_data_outlives_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do settings of other servers, in the environment, get in the way."""
    monkeypatch.setenv("ASSAY_LISTEN", "127.0.0.1:1")
    monkeypatch.setenv("ASSAY_DATA_DIR", "/does/not/exist")
    server = ServerProcess(tmp_path, log_level="debug")
    server.start()
    with server.client() as client:
        client.create_pool("news")
    assert server.kill() == -9
    server.start()
    with server.client() as client:
        assert [pool.id for pool in client.list_pools()] == ["news"]
    assert server.stop() == 0
    assert server.stop() == 0
    with pytest.raises(ServerFailed, match="not running"):
        _ = server.pid


def test_a_server_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    with (
        pytest.raises(ServerFailed, match=r"ended with status 2:(?s:.*)log_level"),
        start_server(tmp_path, log_level="shout"),
    ):
        pytest.fail("it came up")
