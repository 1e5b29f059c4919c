"""What the fuzz starts from: good requests of every RPC of the server."""

from random import Random

import pytest

from assay.v1.methods import METHODS
from tests.fuzz.corpus import CORPUS
from tests.fuzz.world import World


def test_every_method_is_called() -> None:
    assert set(METHODS) <= set(CORPUS)


@pytest.mark.parametrize("path", sorted(CORPUS))
def test_requests_can_be_made(path: str) -> None:
    world, rng = World(b"\0" * 100), Random(0)
    for _ in range(20):
        assert all(request.SerializeToString() is not None for request in CORPUS[path](rng, world))
