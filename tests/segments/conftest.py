"""A store on a fresh directory."""

from pathlib import Path

import pytest

from assay.server.adapters.arrow import ArrowSegmentStore


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def store(data_dir: Path) -> ArrowSegmentStore:
    return ArrowSegmentStore(data_dir)
