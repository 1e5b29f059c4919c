"""A house for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.server.core.assay import Assay
from tests.core.kit import House, fill, label_by_sign, make_pool, train
from tests.core.mining import COUNT, LABELED


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    """A data directory; closed at the end."""
    built = House(tmp_path)
    yield built
    built.close()


@pytest.fixture
def core(house: House) -> Assay:
    """An open core with one empty pool."""
    opened = house.open()
    make_pool(opened)
    return opened


@pytest.fixture
def trained(core: Assay) -> Assay:
    """A pool of 80 in four files, 20 labeled, with a head."""
    label_by_sign(core, fill(core, COUNT, step=20), LABELED)
    train(core)
    return core
