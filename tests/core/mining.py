"""Short ways to mine the trained pool of the tests, and to read what came."""

from dataclasses import fields
from typing import Any

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.mining.messages import MineResult, MineSpec
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.models.messages import PredictSpec
from assay.server.core.pools.pool import NO_KEY
from tests.core.kit import POOL, names

COUNT, LABELED = 80, 20
_PLAN = {field.name for field in fields(Plan)} - {"preset", "filter"}


def mine(core: Assay, size: int, preset: str = "", **spec: Any) -> MineResult:
    """Picks by a plan whose parts are given by name; the rest is of the request."""
    plan = {name: spec.pop(name) for name in tuple(spec) if name in _PLAN}
    return core.mining.mine(POOL, MineSpec(size, Plan(preset=preset, **plan), **spec), NO_KEY)


def rows_of(result: Any) -> list[int]:
    """Rows of picks, in their order."""
    return [pick.sample.row for pick in result.picks]


def all_probs(core: Assay, count: int = COUNT) -> np.ndarray:
    """Class probabilities of all samples, in double precision."""
    probs = core.models.predict(POOL, PredictSpec(ids=tuple(names(0, count)))).probs_NC
    assert probs is not None
    return probs.astype(np.float64)


def margins(core: Assay, count: int = COUNT) -> np.ndarray:
    """The margin score of all samples, in double precision."""
    ordered = np.sort(all_probs(core, count), axis=1)
    return 1 - (ordered[:, -1] - ordered[:, -2])
