"""What holds for every registered strategy, on pools drawn to be awkward: ties, copies, zeros, extreme scales.

A strategy may refuse a pool only for what it cannot work with: nothing labeled where it compares with labels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.strategies import Need, Scorer, Selection, Selector, get
from assay.strategies.candidates import AnyArray, Candidates
from assay.strategies.registry import kinds
from tests.strategies.pools import (
    Arrays,
    Pool,
    arrays_of,
    copies_of,
    params_of,
    pools,
    reordered,
    supplied,
    utility_of,
)

EXAMPLES = 12

KINDS = kinds()
SCORERS = sorted(name for name, kind in KINDS.items() if kind == "scorer")
SELECTORS = sorted(name for name, kind in KINDS.items() if kind == "selector")
DETERMINISTIC = [name for name in SELECTORS if cast(Selector, get(name)).deterministic]
GREEDY = [name for name in SELECTORS if getattr(get(name), "greedy", False)]
# A head takes embeddings of one unit; a ridge and the epsilon of typicality have one.
OF_ONE_UNIT = {"drop_query", "discriminative", "typiclust", "tcm"}
SCALE_FREE = [name for name in SELECTORS if Need.EMBEDDINGS in get(name).needs and name not in OF_ONE_UNIT]
SOFTMAX = [name for name in SCORERS if Need.PROBS in get(name).needs]

# What their scores measure, for how exact these can be.
DISTANCES = {"k_center", "dedup", "gsx"}
FITTED = {"discriminative"}
# Selectors that look only at the candidates of highest utility: who is among these is free where utilities tie.
SHORTLISTS = {"fass"}
SIZES = st.sampled_from([0, 1, 2, 5, 17, 39, 40, 50])


def property_of(names: list[str]) -> Callable[[Any], Any]:
    def decorated(test: Any) -> Any:
        drawn = given(pool=pools(), data=st.data())(settings(max_examples=EXAMPLES)(test))
        return pytest.mark.parametrize("name", names)(drawn)

    return decorated


def score(name: str, candidates: Candidates, params: Any) -> NDArray[np.float32]:
    return cast(Scorer, get(name)).score(candidates, params)


def select(
    name: str, candidates: Candidates, size: int, utility_N: NDArray[np.float32], params: Any, seed: int = 1
) -> Selection:
    selector = cast(Selector, get(name))
    used = selector.needs_utility or getattr(params, "weights", "none") == "utility"
    given_N = utility_N if used else None
    return selector.select(candidates, size, np.random.default_rng(seed), given_N, params)


def refused(name: str, pool: Pool) -> bool:
    """Whether the strategy says that it cannot work with the pool; it then is to say so by itself."""
    return name == "contrastive" and not pool.labeled


def require_valid(selection: Selection, picks: int, size: int) -> None:
    assert selection.indices.dtype == np.int64
    assert selection.scores.dtype == np.float32
    assert len(selection) == picks
    assert len(set(selection.indices.tolist())) == picks
    assert all(0 <= index < size for index in selection.indices.tolist())
    assert np.isfinite(selection.scores).all()


def require_close(name: str, left: NDArray[np.float32], right: NDArray[np.float32], arrays: Arrays) -> None:
    """Equal scores, bar rounding, and what a fit leaves open; of distances, what float32 leaves of squared ones."""
    one, other = left.astype(np.float64), right.astype(np.float64)
    tolerance = (1e-3 if name in FITTED else 1e-6) * max(1, np.abs(one).max(initial=0))
    if name in DISTANCES and len(arrays[Need.EMBEDDINGS]):
        embeddings_ND = arrays[Need.EMBEDDINGS].astype(np.float64)
        spread = np.square(embeddings_ND - embeddings_ND.mean(axis=0)).sum(axis=1).max(initial=0)
        one, other, tolerance = one**2, other**2, 1e-5 * max(spread, tolerance)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=tolerance)


def require_same_choice(
    name: str, left: Selection, right: Selection, copies_N: NDArray[np.int64], arrays: Arrays
) -> None:
    """The same samples in the same order, but for exact copies, up to the first free choice: one of equal scores.

    What is picked after a free choice may depend on it, so nothing is compared beyond.
    """
    np.testing.assert_equal(len(left), len(right))
    differ = np.flatnonzero(copies_N[left.indices] != copies_N[right.indices])
    stop = int(differ[0]) + 1 if len(differ) else len(left)
    require_close(name, left.scores[:stop], right.scores[:stop], arrays)


@property_of(SELECTORS)
def test_picks_are_valid(name: str, pool: Pool, data: st.DataObject) -> None:
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    candidates = supplied(get(name), pool, arrays_of(pool))
    require_valid(select(name, candidates, size, utility_of(pool), params), min(size, pool.size), pool.size)


@property_of(SCORERS)
def test_scores_are_finite(name: str, pool: Pool, data: st.DataObject) -> None:
    if not refused(name, pool):
        scores_N = score(name, supplied(get(name), pool, arrays_of(pool)), data.draw(params_of(get(name))))
        assert scores_N.shape == (pool.size,)
        assert scores_N.dtype == np.float32
        assert np.isfinite(scores_N).all()


@property_of(DETERMINISTIC)
def test_picks_follow_their_samples(name: str, pool: Pool, data: st.DataObject) -> None:
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    if getattr(params, "start", None) == "first" or (name in SHORTLISTS and pool.utility != "distinct"):
        return
    order = np.random.default_rng(pool.seed).permutation(pool.size)
    arrays, utility_N = arrays_of(pool), utility_of(pool)
    straight = select(name, supplied(get(name), pool, arrays), size, utility_N, params)
    moved = select(name, supplied(get(name), pool, reordered(arrays, order)), size, utility_N[order], params)
    copies_N = copies_of(get(name), supplied(get(name), pool, arrays), utility_N)
    require_same_choice(name, straight, Selection(order[moved.indices], moved.scores), copies_N, arrays)


@property_of(SCORERS)
def test_scores_follow_their_samples(name: str, pool: Pool, data: st.DataObject) -> None:
    if refused(name, pool):
        return
    params = data.draw(params_of(get(name)))
    order = np.random.default_rng(pool.seed).permutation(pool.size)
    arrays = arrays_of(pool)
    straight_N = score(name, supplied(get(name), pool, arrays), params)
    moved_N = score(name, supplied(get(name), pool, reordered(arrays, order)), params)
    np.testing.assert_array_equal(straight_N[order], moved_N)


@property_of(GREEDY)
def test_smaller_sizes_are_prefixes(name: str, pool: Pool, data: st.DataObject) -> None:
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    candidates, utility_N = supplied(get(name), pool, arrays_of(pool)), utility_of(pool)
    whole = select(name, candidates, pool.size, utility_N, params)
    part = select(name, candidates, size, utility_N, params)
    np.testing.assert_array_equal(part.indices, whole.indices[:size])


def run(name: str, pool: Pool, arrays: Arrays, size: int, utility_N: NDArray[np.float32], params: Any) -> Selection:
    """The picks, or the scores of all as picks in index order."""
    candidates = supplied(get(name), pool, arrays)
    if KINDS[name] == "selector":
        return select(name, candidates, size, utility_N, params)
    return Selection(np.arange(pool.size), score(name, candidates, params))


@property_of(sorted(KINDS))
def test_inputs_stay_as_they_are(name: str, pool: Pool, data: st.DataObject) -> None:
    if refused(name, pool):
        return
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    arrays, utility_N = arrays_of(pool), utility_of(pool)
    run(name, pool, arrays, size, utility_N, params)
    np.testing.assert_array_equal(utility_N, utility_of(pool))
    for need, before in arrays_of(pool).items():
        np.testing.assert_array_equal(arrays[need], before, err_msg=need.value)


def read_only(array: AnyArray) -> AnyArray:
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def strided(array: AnyArray) -> AnyArray:
    """Every second value of a larger array along each axis."""
    room = np.zeros([2 * length for length in array.shape], array.dtype)
    view = room[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def reversed_axes(array: AnyArray) -> AnyArray:
    """Stored backwards, read forwards: strides below 0."""
    flipped = tuple(slice(None, None, -1) for _ in array.shape)
    return array[flipped].copy()[flipped]


LAYOUTS = {"fortran": np.asfortranarray, "strided": strided, "reversed": reversed_axes, "read_only": read_only}


@property_of(sorted(KINDS))
def test_one_seed_gives_the_same_in_any_layout(name: str, pool: Pool, data: st.DataObject) -> None:
    if refused(name, pool):
        return
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    layout = LAYOUTS[data.draw(st.sampled_from(sorted(LAYOUTS)))]
    arrays, utility_N = arrays_of(pool), utility_of(pool)
    laid_out = {need: layout(array) for need, array in arrays.items()}
    plain = run(name, pool, arrays, size, utility_N, params)
    again = run(name, pool, arrays, size, utility_N, params)
    other = run(name, pool, laid_out, size, layout(utility_N), params)
    np.testing.assert_array_equal(plain.indices, again.indices)
    np.testing.assert_array_equal(plain.scores, again.scores)
    np.testing.assert_array_equal(plain.indices, other.indices)
    require_close(name, plain.scores, other.scores, arrays)


@property_of(SCORERS)
def test_a_part_scores_as_in_the_whole(name: str, pool: Pool, data: st.DataObject) -> None:
    if refused(name, pool):
        return
    params = data.draw(params_of(get(name)))
    start, stop = sorted(data.draw(st.tuples(st.integers(0, 40), st.integers(0, 40))))
    subset = np.flatnonzero(np.random.default_rng(pool.seed).random(pool.size) < 0.5)
    candidates = supplied(get(name), pool, arrays_of(pool))
    whole_N = score(name, candidates, params)
    np.testing.assert_array_equal(score(name, candidates.block(start, stop), params), whole_N[start:stop])
    np.testing.assert_array_equal(score(name, candidates.take(subset), params), whole_N[subset])


@property_of(SOFTMAX)
def test_a_constant_on_logits_changes_nothing(name: str, pool: Pool, data: st.DataObject) -> None:
    if refused(name, pool):
        return
    params, arrays = data.draw(params_of(get(name))), arrays_of(pool)
    shifts_N1 = np.random.default_rng(pool.seed).integers(-500, 500, (pool.size, 1)).astype(np.float32)
    shifted = {Need.LOGITS: arrays[Need.LOGITS] + shifts_N1}
    scores = [
        score(name, Candidates(pool.size, {n: {**arrays, **more}[n] for n in needs_by_logits(name)}), params)
        for more in ({}, shifted)
    ]
    np.testing.assert_array_equal(*scores)


def needs_by_logits(name: str) -> frozenset[Need]:
    return get(name).needs - {Need.PROBS} | {Need.LOGITS}


@property_of(SCALE_FREE)
def test_the_unit_of_embeddings_changes_nothing(name: str, pool: Pool, data: st.DataObject) -> None:
    """By powers of two, which leave the digits as they are. The gradients of all but certain predictions are so short
    that their squares leave float32 in one unit, and not in the other.
    """
    if name == "badge" and pool.beliefs == "huge":
        return
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    arrays, unit = arrays_of(pool), np.float32(2.0 ** data.draw(st.sampled_from([-9, 1, 9])))
    longer: Arrays = {need: arrays[need] * unit for need in arrays if need.value.endswith("embeddings")}
    plain = run(name, pool, arrays, size, utility_of(pool), params)
    scaled = run(name, pool, {**arrays, **longer}, size, utility_of(pool), params)
    np.testing.assert_array_equal(plain.indices, scaled.indices)


@property_of(SELECTORS)
def test_picks_among_a_subset_are_valid(name: str, pool: Pool, data: st.DataObject) -> None:
    params, size = data.draw(params_of(get(name))), data.draw(SIZES)
    subset = np.flatnonzero(np.random.default_rng(pool.seed).random(pool.size) < 0.5)
    taken = supplied(get(name), pool, arrays_of(pool)).take(subset)
    selection = select(name, taken, size, utility_of(pool)[subset], params)
    require_valid(selection, min(size, len(subset)), len(subset))
