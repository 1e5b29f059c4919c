"""One call from plain arrays to scores or picks, for use without a server."""

from __future__ import annotations

from collections.abc import Mapping
from operator import index
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assay.strategies.base import Scorer, Selection, Selector, finished, kind
from assay.strategies.candidates import AnyArray, Candidates
from assay.strategies.errors import NeedMissing, StrategyError
from assay.strategies.needs import LABELED, SPECS, Need
from assay.strategies.params import parse
from assay.strategies.registry import get

_NEED_NAMES = frozenset(need.value for need in Need)


def score(name: str, **arrays_and_params: Any) -> NDArray[np.float32]:
    """float32 scores of a scorer, one per candidate, higher = more informative.

    Arrays go by the names of `Need` and are converted to float32 or int64: logits, probs and label_probs (N, C),
    embeddings (N, D), member_probs (K, N, C), member_values (K, N, T) or (K, N), labeled_embeddings (L, D),
    labeled_classes (L,), labeled_probs (L, C), query_embeddings (Q, D), head_weights (C, D), head_bias (C,),
    part_probs (M, C) with part_offsets (N + 1,), knn_graph (N, K), clusters (N,), worth (N,). All other keywords are
    parameters of the strategy.
    Raises UnknownStrategy, InvalidParams, NeedMissing, or StrategyError for arrays that cannot be scored.
    """
    strategy = get(name)
    if kind(strategy) != "scorer":
        raise StrategyError("WRONG_KIND", f"{name!r} is a selector: it has no scores of its own, call select")
    arrays, params = _split(arrays_and_params)
    return _score(cast(Scorer, strategy), _candidates(arrays, None), params)


def select(
    name: str, *, size: int, utility: ArrayLike | str | None = None, seed: int = 0, **arrays_and_params: Any
) -> Selection:
    """The picks of a strategy, in order; a scorer's are the `size` highest scores.

    utility: what some selectors weigh or rank by: (N,) scores, or the name of a scorer to take them from. Where a
    selector cannot do without and none is given, it is the margin of the probabilities, if there are any.
    seed: the only source of randomness.
    Arrays and parameters are given as to `score`, and the same errors are raised; UTILITY_MISSING besides.
    """
    strategy = get(name)
    size, seed = _whole(size, "size"), _whole(seed, "seed")
    arrays, params = _split(arrays_and_params)
    given_N = None if utility is None or isinstance(utility, str) else np.asarray(utility, np.float32)
    candidates = _candidates(arrays, given_N)
    if kind(strategy) == "scorer":
        given_N = _score(cast(Scorer, strategy), candidates, params)
        strategy, params = get("top"), {}
    selector = cast(Selector, strategy)
    _check_needs(selector.needs, candidates)
    parsed = parse(selector.params, params)
    utility_N = given_N if given_N is not None else _utility(utility, selector, candidates)
    return selector.select(candidates, size, np.random.default_rng(seed), utility_N, parsed)


def _utility(scorer: Any, selector: Selector, candidates: Candidates) -> NDArray[np.float32] | None:
    """The scores of a scorer, or of the default one where the selector needs some."""
    if scorer is None:
        if not (selector.needs_utility and candidates.has(Need.PROBS)):
            return None
        scorer = "margin"
    strategy = get(scorer)
    if kind(strategy) != "scorer":
        raise StrategyError("WRONG_KIND", f"{scorer!r} is a selector: name a scorer as utility")
    return _score(cast(Scorer, strategy), candidates, {})


def _split(arrays_and_params: Mapping[str, Any]) -> tuple[dict[Need, AnyArray], dict[str, Any]]:
    arrays, params = {}, {}
    for name, value in arrays_and_params.items():
        if name not in _NEED_NAMES:
            params[name] = value
        elif value is not None:
            arrays[Need(name)] = _array(Need(name), value)
    return arrays, params


def _array(need: Need, value: Any) -> AnyArray:
    """An array of the need's type. Raises StrategyError INVALID_ARRAY where a value would change: no number, or a
    fraction or a number that no class has."""
    dtype = SPECS[need].dtype
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "iufbO" and given.size:
            raise StrategyError("INVALID_ARRAY", f"{need.value} takes numbers ({dtype.__name__}), not {given.dtype}")
        with np.errstate(invalid="ignore", over="ignore"):
            array: AnyArray = given.astype(dtype, copy=False)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise StrategyError("INVALID_ARRAY", f"{need.value} takes numbers ({dtype.__name__}): {error}") from error
    whole = given.dtype.kind in "iub" or not np.issubdtype(dtype, np.integer) or bool(np.all(given == array))
    if not whole:
        raise StrategyError("INVALID_ARRAY", f"{need.value} takes whole numbers, and some of these have a fraction")
    if need is Need.LABELED_CLASSES and array.size and array.min() < -1:
        raise StrategyError(
            "INVALID_ARRAY",
            f"labeled_classes are numbers of classes from 0 (-1: somebody is labeling it), not {array.min()}",
        )
    # One number to predict need not have an axis of its own.
    return array[:, :, None] if need is Need.MEMBER_VALUES and array.ndim == 2 else array


def _whole(value: Any, what: str) -> int:
    """A whole number of any type. Raises StrategyError INVALID_SIZE."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return int(value)
    try:
        return index(value)
    except TypeError:
        raise StrategyError("INVALID_SIZE", f"{what} is a whole number, not {value!r}") from None


def _candidates(arrays: dict[Need, AnyArray], utility_N: AnyArray | None) -> Candidates:
    sizes = [utility_N.size] if utility_N is not None else []
    if Need.PART_OFFSETS in arrays:
        sizes.append(max(arrays[Need.PART_OFFSETS].size - 1, 0))
    for need, array in arrays.items():
        axis = SPECS[need].candidate_axis
        if axis is not None and axis < array.ndim:
            sizes.append(array.shape[axis])
    if not sizes:
        raise StrategyError("NO_CANDIDATES", "give at least one array over the candidates")
    return Candidates(sizes[0], arrays)


def _score(scorer: Scorer, candidates: Candidates, params: dict[str, Any]) -> NDArray[np.float32]:
    _check_needs(scorer.needs, candidates)
    parsed = parse(scorer.params, params)
    return finished(scorer, scorer.score(candidates, parsed), candidates, parsed)


def _check_needs(needs: frozenset[Need], candidates: Candidates) -> None:
    for need in sorted(needs - LABELED):
        if not candidates.has(need):
            raise NeedMissing(need)
