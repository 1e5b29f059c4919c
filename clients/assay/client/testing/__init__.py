"""Real servers for the tests of programs that use assay; needs the extra, `pip install '.[server]'` in the clone.

>>> def test_mining(tmp_path):
...     with start_server(tmp_path) as server, server.client() as client:
...         client.create_pool("news")

With pytest, `pytest_plugins = ["assay.client.testing.pytest_plugin"]` in a conftest.py gives the fixture
`assay_server`.
"""

from assay.client.testing.server import ServerFailed, ServerProcess, start_server

__all__ = ["ServerFailed", "ServerProcess", "start_server"]
