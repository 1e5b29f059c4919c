"""Every registered strategy through every check of the kit, and the kit itself on strategies that are wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from assay.strategies import (
    Candidates,
    Interrupted,
    Need,
    NoParams,
    Selection,
    Selector,
    checkpoint,
    get,
    interrupt,
    names,
)
from assay.strategies.params import schema
from assay.strategies.registry import broken, kinds
from assay.strategies.testing import check_strategy, checks_for
from assay.strategies.top import Top
from assay.strategies.uncertainty.softmax import Margin


def every_check() -> Iterator[Any]:
    """One parameter for each check of each strategy; a strategy that does not load is one failing parameter."""
    for strategy in names():
        if strategy in broken():
            yield pytest.param(partial(get, strategy), id=f"{strategy}-loads")
            continue
        for name, check in checks_for(get(strategy)):
            yield pytest.param(check, id=f"{strategy}-{name}")


@pytest.mark.parametrize("check", list(every_check()))
def test_strategy_conforms(check: Callable[[], None]) -> None:
    check()


def test_report_lists_every_check() -> None:
    report = check_strategy(get("margin"))
    assert report.strategy == "margin"
    assert report.passed == tuple(name for name, _ in checks_for(get("margin")))
    assert {"scores_stream", "scores_stream_from_logits", "nan_is_refused"} <= set(report.passed)


@pytest.mark.parametrize("name", sorted(kinds()))
def test_schema_is_valid_json_schema(name: str) -> None:
    described = schema(get(name).params)
    Draft202012Validator.check_schema(described)
    defaults = {field: prop["default"] for field, prop in described["properties"].items()}
    Draft202012Validator(described).validate(defaults)


class SumsOverRows(Margin):
    def score(self, block: Candidates, params: NoParams) -> Any:
        return block.probs_NC.max(axis=1) - block.probs_NC.max(axis=1).mean()


class ReadsUndeclared(Margin):
    def score(self, block: Candidates, params: NoParams) -> Any:
        return block.embeddings_ND.sum(axis=1)


class KeepsNan(Margin):
    def score(self, block: Candidates, params: NoParams) -> Any:
        return 1 - np.nan_to_num(block.unchecked(Need.PROBS)).max(axis=1)


class ReturnsDouble(Margin):
    def score(self, block: Candidates, params: NoParams) -> Any:
        return 1 - block.probs_NC.max(axis=1).astype(np.float64)


class Repeats(Top):
    def select(self, candidates: Candidates, size: int, *rest: Any) -> Selection:
        return Selection(np.zeros(min(size, candidates.size), np.int64), np.zeros(min(size, candidates.size), "f4"))


class LastFirst(Top):
    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: Any) -> Selection:
        picked = super().select(candidates, candidates.size, rng, utility[::-1], params)
        kept = candidates.size - 1 - picked.indices[: max(0, size)]
        return Selection(kept, utility[kept])


class SpoilsUtility(Top):
    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: Any) -> Selection:
        selection = super().select(candidates, size, rng, utility, params)
        utility[selection.indices] = -1
        return selection


class SecretlyRandom(Top):
    deterministic: ClassVar[bool] = True

    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: Any) -> Selection:
        return super().select(candidates, size, rng, rng.random(candidates.size, np.float32), params)


@dataclass
class Loose:
    depth: int = 1


class ThawedParams(Top):
    params: ClassVar[Any] = Loose


@pytest.mark.parametrize(
    ("strategy", "check"),
    [
        (SumsOverRows(), "scores_stream"),
        (ReadsUndeclared(), "inputs_are_left_alone"),
        (KeepsNan(), "nan_is_refused"),
        (ReturnsDouble(), "scores_have_shape"),
        (Repeats(), "picks_are_valid"),
        (LastFirst(), "copies_are_picked_in_order"),
        (SpoilsUtility(), "utility_is_left_alone"),
        (SecretlyRandom(), "deterministic_ignores_rng"),
        (ThawedParams(), "params_are_frozen"),
    ],
)
def test_kit_catches(strategy: Any, check: str) -> None:
    with pytest.raises(AssertionError, match=f"^{check}: "):
        dict(checks_for(strategy))[check]()


class FinishSpoilsItsInput(Margin):
    def finish(self, scores_N: Any, candidates: Candidates, params: NoParams) -> Any:
        scores_N *= 2
        return scores_N


class FinishForgetsSome(Margin):
    def finish(self, scores_N: Any, candidates: Candidates, params: NoParams) -> Any:
        return scores_N[1:]


@pytest.mark.parametrize("scorer", [FinishSpoilsItsInput(), FinishForgetsSome()])
def test_a_finish_that_is_wrong_is_found_out(scorer: Any) -> None:
    with pytest.raises(AssertionError, match=r"^finish_is_sound: "):
        dict(checks_for(scorer))["finish_is_sound"]()


class NeverAsks(Top):
    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: NoParams) -> Selection:
        with without_stop():
            return super().select(candidates, size, rng, utility, params)


class SwallowsTheStop(Top):
    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: NoParams) -> Selection:
        try:
            return super().select(candidates, size, rng, utility, params)
        except Interrupted:
            with without_stop():
                return super().select(candidates, size, rng, utility, params)


class AsksOnlyAtFirst(Top):
    """Works for longer than it may on a larger pool, and asks no more often than on a small one."""

    def select(self, candidates: Candidates, size: int, rng: Any, utility: Any, params: NoParams) -> Selection:
        checkpoint()
        with without_stop():
            end = time.process_time() + (0.6 if candidates.size > 500 else 0.0)
            while time.process_time() < end:
                pass
            return super().select(candidates, size, rng, utility, params)


@contextmanager
def without_stop() -> Iterator[None]:
    token = interrupt._STOP.set(None)
    try:
        yield
    finally:
        interrupt._STOP.reset(token)


@pytest.mark.parametrize(
    ("selector", "check"),
    [
        (NeverAsks(), "stops_when_asked"),
        (SwallowsTheStop(), "stops_when_asked"),
        (AsksOnlyAtFirst(), "asks_more_for_more_work"),
    ],
)
def test_a_selector_that_cannot_be_stopped_is_found_out(selector: Selector, check: str) -> None:
    with pytest.raises(AssertionError, match=f"^{check}: "):
        dict(checks_for(selector))[check]()
