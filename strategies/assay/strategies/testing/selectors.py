"""Checks of a selector: valid, repeatable picks that follow their samples."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from assay.strategies.base import Selector
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import Interrupted, interruptible
from assay.strategies.needs import Need
from assay.strategies.testing.examples import (
    SIZE,
    Arrays,
    StopAfter,
    example_arrays,
    example_utility,
    given,
    reordered,
    repeated,
    require,
    require_valid,
    same,
    select,
)

# Samples in a larger run, and seconds of work after which it must have asked for a stop again.
MANY, LONGEST = 1000, 0.5


def _picks_are_valid(selector: Selector) -> None:
    for size in (1, 5, SIZE - 1):
        require_valid(select(selector, example_arrays(), size), size)


def _none_wanted_gives_none(selector: Selector) -> None:
    require_valid(select(selector, example_arrays(), 0), 0)


def _all_wanted_gives_all(selector: Selector) -> None:
    require_valid(select(selector, example_arrays(), SIZE), SIZE)


def _more_wanted_gives_all(selector: Selector) -> None:
    require_valid(select(selector, example_arrays(), SIZE + 5), SIZE)


def _no_candidates_gives_none(selector: Selector) -> None:
    require_valid(select(selector, example_arrays(0), 5), 0)


def _negative_size_is_refused(selector: Selector) -> None:
    try:
        select(selector, example_arrays(), -1)
    except StrategyError:
        return
    raise AssertionError("a negative size was accepted")


def _picks_repeat(selector: Selector) -> None:
    first, second = (select(selector, example_arrays(), 9) for _ in range(2))
    require(same(first, second), "two runs with one seed differ")


def _deterministic_ignores_rng(selector: Selector) -> None:
    if selector.deterministic:
        first, second = (select(selector, example_arrays(), 9, seed=seed) for seed in (1, 2))
        require(same(first, second), "claims to be deterministic, but the picks depend on the seed")


def _picks_follow_their_row(selector: Selector) -> None:
    if selector.deterministic:
        order = np.random.default_rng(3).permutation(SIZE)
        utility = example_utility(SIZE)
        straight = select(selector, example_arrays(), 9, utility)
        moved = select(selector, reordered(example_arrays(), order), 9, utility[order])
        require(np.array_equal(straight.indices, order[moved.indices]), "the picks depend on the order of the rows")


def _copies_are_picked_in_order(selector: Selector) -> None:
    """All rows alike: whatever a deterministic strategy measures, every choice is a tie."""
    arrays = repeated(example_arrays(), np.zeros(SIZE, np.int64))
    selection = select(selector, arrays, SIZE, np.ones(SIZE, np.float32))
    require_valid(selection, SIZE)
    if selector.deterministic and Need.KNN_GRAPH not in selector.needs:
        require(np.array_equal(selection.indices, np.arange(SIZE)), "ties do not go to the lower index")


def _smaller_sizes_are_prefixes(selector: Selector) -> None:
    if getattr(selector, "greedy", False):
        long = select(selector, example_arrays(), 20)
        for size in (1, 7, 19):
            short = select(selector, example_arrays(), size)
            require(np.array_equal(short.indices, long.indices[:size]), "claims to be greedy, but picks change")


def _nan_utility_is_refused(selector: Selector) -> None:
    utility = example_utility(SIZE)
    utility[7] = np.nan
    if selector.needs_utility:
        try:
            select(selector, example_arrays(), 5, utility)
        except StrategyError:
            return
        raise AssertionError("NaN in the utility was accepted")


def _missing_utility_is_refused(selector: Selector) -> None:
    candidates = given(selector, example_arrays())
    try:
        selector.select(candidates, 5, np.random.default_rng(1), None, selector.params())
    except StrategyError as error:
        require(selector.needs_utility, f"fails without the utility that it says it does not need: {error}")
    else:
        require(not selector.needs_utility, "runs without the utility that it says it needs")


def _utility_is_left_alone(selector: Selector) -> None:
    utility = example_utility(SIZE)
    select(selector, example_arrays(), 5, utility)
    require(np.array_equal(utility, example_utility(SIZE)), "the utility was changed")
    utility.flags.writeable = False
    select(selector, example_arrays(), 5, utility)


def _stops_when_asked(selector: Selector) -> None:
    """It asks while it works, ends with Interrupted wherever it is told to stop, and is none the worse for it."""
    arrays = example_arrays()
    before, asked = select(selector, arrays, 20), _times_asked(selector, arrays, 20)
    require(asked > 0, "never asks for a stop: call checkpoint() between blocks of work")
    for times in {0, asked // 2, asked - 1}:
        stop = StopAfter(times)
        try:
            with interruptible(stop):
                select(selector, arrays, 20)
        except Interrupted:
            continue
        require(stop.asked <= times, "goes on after checkpoint() told it to stop: let Interrupted pass")
    require(same(before, select(selector, arrays, 20)), "a run that was stopped changes the next one")


def _asks_more_for_more_work(selector: Selector) -> None:
    few, more = _times_asked(selector, example_arrays(), 5), example_arrays(MANY)
    began = time.process_time()
    many = _times_asked(selector, more, MANY // 4)
    spent = time.process_time() - began
    # What takes no time needs no second look.
    require(many > few or spent < LONGEST, f"asks for a stop {many} times in {spent:.1f} s of work")


def _times_asked(selector: Selector, arrays: Arrays, size: int) -> int:
    never = StopAfter(sys.maxsize)
    with interruptible(never):
        select(selector, arrays, size)
    return never.asked


SELECTOR_CHECKS: dict[str, Callable[[Any], None]] = {
    "picks_are_valid": _picks_are_valid,
    "none_wanted_gives_none": _none_wanted_gives_none,
    "all_wanted_gives_all": _all_wanted_gives_all,
    "more_wanted_gives_all": _more_wanted_gives_all,
    "no_candidates_gives_none": _no_candidates_gives_none,
    "negative_size_is_refused": _negative_size_is_refused,
    "picks_repeat": _picks_repeat,
    "deterministic_ignores_rng": _deterministic_ignores_rng,
    "picks_follow_their_row": _picks_follow_their_row,
    "copies_are_picked_in_order": _copies_are_picked_in_order,
    "smaller_sizes_are_prefixes": _smaller_sizes_are_prefixes,
    "nan_utility_is_refused": _nan_utility_is_refused,
    "missing_utility_is_refused": _missing_utility_is_refused,
    "utility_is_left_alone": _utility_is_left_alone,
    "stops_when_asked": _stops_when_asked,
    "asks_more_for_more_work": _asks_more_for_more_work,
}
