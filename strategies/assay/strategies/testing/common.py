"""Checks of any strategy: what it declares, what it refuses, what it must survive."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.strategies.base import Strategy
from assay.strategies.candidates import Candidates, softmax
from assay.strategies.errors import InvalidParams, NeedMissing, StrategyError
from assay.strategies.needs import LABELED, SPECS, Need
from assay.strategies.params import parse, schema
from assay.strategies.testing.examples import (
    CLASSES,
    DIM,
    MEMBERS,
    SIZE,
    Arrays,
    example_arrays,
    require,
    require_refused,
    run,
    run_on,
)


def _describes_itself(strategy: Strategy) -> None:
    require(strategy.name.isidentifier() and strategy.name == strategy.name.lower(), "the name is not lower_snake")
    require(bool(strategy.summary.strip()), "there is no summary")
    require(all(isinstance(need, Need) for need in strategy.needs), "needs must be a set of Need")


def _params_are_described(strategy: Strategy) -> None:
    described = schema(strategy.params)
    json.dumps(described, allow_nan=False)
    defaults = {name: prop["default"] for name, prop in described["properties"].items()}
    require(parse(strategy.params, defaults) == strategy.params(), "the defaults do not survive a round trip")
    require(all(prop.get("description") for prop in described["properties"].values()), "a parameter has no doc")


def _params_are_no_arrays(strategy: Strategy) -> None:
    taken = {*(need.value for need in Need), "name", "size", "seed", "utility"}
    named = taken & {field.name for field in dataclasses.fields(strategy.params)}
    require(not named, f"{', '.join(sorted(named))} is an argument of score and select: call the parameter otherwise")


def _params_are_frozen(strategy: Strategy) -> None:
    require(dataclasses.is_dataclass(strategy.params), "params is not a dataclass")
    for field in dataclasses.fields(strategy.params):
        try:
            setattr(strategy.params(), field.name, field.default)
        except dataclasses.FrozenInstanceError:
            continue
        raise AssertionError("params is not frozen")


def _unknown_param_is_refused(strategy: Strategy) -> None:
    try:
        parse(strategy.params, {"no_such_parameter": 1})
    except InvalidParams:
        return
    raise AssertionError("an unknown parameter was accepted")


def _inputs_are_left_alone(strategy: Strategy) -> None:
    arrays = {need: array.copy() for need, array in example_arrays().items()}
    run(strategy, arrays)
    for need, before in example_arrays().items():
        require(np.array_equal(arrays[need], before), f"{need.value} was changed")


def _works_on_read_only_arrays(strategy: Strategy) -> None:
    run(strategy, example_arrays())


def _missing_need_is_named(strategy: Strategy) -> None:
    for need in strategy.needs - LABELED:
        others = {other: array for other, array in example_arrays().items() if other in strategy.needs - {need}}
        try:
            run_on(strategy, Candidates(SIZE, others))
        except NeedMissing as error:
            # Who declares probabilities cannot know that logits were to give them.
            blamed = {need, Need.PROBS} if need is Need.LOGITS else {need}
            require(error.need in blamed, f"blames {error.need}, not {need.value}")
        else:
            raise AssertionError(f"ran without {need.value}, which it declares")


def _nothing_labeled_is_handled(strategy: Strategy) -> None:
    arrays = example_arrays()
    empty: Arrays = {
        Need.LABELED_EMBEDDINGS: np.empty((0, DIM), np.float32),
        Need.LABELED_CLASSES: np.empty(0, np.int64),
        Need.LABELED_PROBS: np.empty((0, CLASSES), np.float32),
    }
    absent = {need: array for need, array in arrays.items() if need in strategy.needs - LABELED}
    for supply in ({need: {**arrays, **empty}[need] for need in strategy.needs}, absent):
        try:
            run_on(strategy, Candidates(SIZE, supply))
        except StrategyError as error:
            require(bool(LABELED & strategy.needs), f"fails although it declares nothing labeled: {error}")


def _nan_is_refused(strategy: Strategy) -> None:
    for need in strategy.needs:
        if np.issubdtype(SPECS[need].dtype, np.floating):
            arrays = example_arrays()
            for bad in (np.nan, np.inf, -np.inf):
                spoilt = arrays[need].copy()
                spoilt.reshape(-1)[min(7, spoilt.size - 1)] = bad
                require_refused(strategy, {**arrays, need: spoilt}, f"{bad} in {need.value}")


def _one_class_works(strategy: Strategy) -> None:
    run(strategy, example_arrays(classes=1))


def _zero_probabilities_work(strategy: Strategy) -> None:
    certain_NC = np.zeros((SIZE, CLASSES), np.float32)
    certain_NC[np.arange(SIZE), np.arange(SIZE) % CLASSES] = 1
    arrays: Arrays = {
        **example_arrays(),
        Need.PROBS: certain_NC,
        Need.MEMBER_PROBS: np.stack([certain_NC] * MEMBERS),
        Need.LABEL_PROBS: certain_NC,
    }
    arrays[Need.PART_PROBS] = certain_NC[np.arange(len(arrays[Need.PART_PROBS])) % SIZE]
    arrays[Need.LABELED_PROBS] = certain_NC[: len(arrays[Need.LABELED_PROBS])]
    run(strategy, arrays)


def _classes_still_unknown_work(strategy: Strategy) -> None:
    """Samples in somebody's hands condition a selection before anyone has said their class."""
    arrays = example_arrays()
    classes_L = arrays[Need.LABELED_CLASSES].copy()
    classes_L[::2] = -1
    run(strategy, {**arrays, Need.LABELED_CLASSES: classes_L})


def _huge_logits_work(strategy: Strategy) -> None:
    arrays = example_arrays()
    huge_NC = arrays[Need.LOGITS] * np.float32(1e4)
    run(strategy, {**arrays, Need.LOGITS: huge_NC, Need.PROBS: softmax(huge_NC)})


COMMON_CHECKS: dict[str, Callable[[Any], None]] = {
    "describes_itself": _describes_itself,
    "params_are_described": _params_are_described,
    "params_are_no_arrays": _params_are_no_arrays,
    "params_are_frozen": _params_are_frozen,
    "unknown_param_is_refused": _unknown_param_is_refused,
    "inputs_are_left_alone": _inputs_are_left_alone,
    "works_on_read_only_arrays": _works_on_read_only_arrays,
    "missing_need_is_named": _missing_need_is_named,
    "nothing_labeled_is_handled": _nothing_labeled_is_handled,
    "nan_is_refused": _nan_is_refused,
    "one_class_works": _one_class_works,
    "zero_probabilities_work": _zero_probabilities_work,
    "huge_logits_work": _huge_logits_work,
    "classes_still_unknown_work": _classes_still_unknown_work,
}
