"""The `assay` command."""

from assay.client.cli.main import main

__all__ = ["main"]
