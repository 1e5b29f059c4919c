"""Fixtures that the client ships for its users serve its own tests too."""

from assay.client.testing.pytest_plugin import assay_server

__all__ = ["assay_server"]
