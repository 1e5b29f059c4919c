"""Which strategies serve which predictions, told by what they need."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from assay.strategies import Candidates, Need, Selector, get, kind
from assay.strategies.base import finished
from assay.strategies.needs import SPECS
from assay.strategies.registry import kinds
from assay.strategies.serving import (
    RECOMMENDED,
    PredictionKind,
    available,
    kinds_served,
    missing,
    serves,
    serving,
    utility_of,
)
from assay.strategies.testing import example_arrays

NAMES = sorted(kinds())
KINDS = list(PredictionKind)


def run(name: str, arrays: dict[Need, Any], size: int) -> Any:
    """The strategy on these arrays alone: its scores, or some picks by the utility that the arrays give."""
    strategy: Any = get(name)
    candidates = Candidates(size, arrays)
    if kind(strategy) == "scorer":
        return finished(strategy, strategy.score(candidates, strategy.params()), candidates, strategy.params())
    utility = np.arange(size, dtype=np.float32) if strategy.needs_utility else None
    return strategy.select(candidates, 5, np.random.default_rng(0), utility, strategy.params()).indices


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind_", KINDS)
def test_what_serves_a_kind_runs_on_what_that_kind_gives(name: str, kind_: PredictionKind) -> None:
    if serves(get(name), kind_):
        given = {need: array for need, array in example_arrays().items() if need in available(kind_)}
        result = run(name, given, len(example_arrays()[Need.EMBEDDINGS]))
        assert np.isfinite(result).all()
        assert len(result)


def test_every_array_is_given_by_some_kind() -> None:
    assert frozenset[Need]().union(*(available(kind_) for kind_ in KINDS)) == set(SPECS)


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_serves_something(name: str) -> None:
    assert kinds_served(get(name))


def test_needs_decide() -> None:
    assert serves(get("k_center"), PredictionKind.NOTHING)
    assert kinds_served(get("margin")) == (PredictionKind.CLASSES,)
    assert missing(get("margin"), PredictionKind.VALUES) == {Need.PROBS}
    assert kinds_served(get("label_cardinality")) == (PredictionKind.LABELS,)
    assert kinds_served(get("member_std")) == (PredictionKind.VALUES,)
    assert kinds_served(get("ragged")) == (PredictionKind.PARTS,)
    assert get("gsx") in serving([get("margin"), get("gsx")], PredictionKind.VALUES)


def test_a_selector_that_ranks_needs_something_to_rank_by() -> None:
    top = cast(Selector, get("top"))
    assert top.needs_utility
    assert serves(top, PredictionKind.PARTS)
    assert not serves(top, PredictionKind.NOTHING)
    assert not missing(top, PredictionKind.NOTHING)


@pytest.mark.parametrize("kind_", KINDS)
def test_what_is_recommended_serves(kind_: PredictionKind) -> None:
    recommended = RECOMMENDED[kind_]
    assert serves(get(recommended.selector), kind_)
    assert utility_of(kind_) == recommended.scorer
    if recommended.scorer is not None:
        assert kind(get(recommended.scorer)) == "scorer"
        assert serves(get(recommended.scorer), kind_)
    else:
        assert not any(kind(get(name)) == "scorer" and serves(get(name), kind_) for name in NAMES)
