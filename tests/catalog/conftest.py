"""Every test of the catalog runs on both databases, both real."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.server.adapters.sql import SqlCatalog, open_catalog
from assay.server.core.records.pools import PoolRecord
from tests.catalog.records import pool_record


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/catalog.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def catalog(url: str) -> Iterator[SqlCatalog]:
    """An empty catalog."""
    opened = open_catalog(url)
    yield opened
    opened.close()


@pytest.fixture
def pool(catalog: SqlCatalog) -> PoolRecord:
    """A stored pool."""
    with catalog.transaction() as tx:
        return tx.insert_pool(pool_record("news"))
