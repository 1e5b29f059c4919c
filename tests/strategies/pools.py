"""Small pools of every awkward kind, drawn by their description so that a failing one can be written down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from assay.strategies.base import Strategy, optional_needs
from assay.strategies.candidates import AnyArray, Candidates, parts_of, softmax
from assay.strategies.needs import LABELED, PARTS, SPECS, Need
from assay.strategies.params import parse, schema

Arrays = dict[Need, AnyArray]
Geometry = Literal["normal", "clustered", "grid", "equal", "zeros", "mixed"]
Beliefs = Literal["soft", "one_hot", "uniform", "mixed", "huge"]
Utility = Literal["distinct", "tied", "zeros"]


@dataclass(frozen=True)
class Pool:
    """A pool in a few words; `arrays_of` makes the same arrays of it every time."""

    seed: int = 0
    size: int = 40
    classes: int = 3
    dim: int = 4
    members: int = 3
    labeled: int = 3
    queries: int = 2
    most_parts: int = 3
    geometry: Geometry = "normal"
    beliefs: Beliefs = "soft"
    utility: Utility = "distinct"
    scale: float = 1.0
    offset: float = 0.0
    logits: bool = False
    optional: bool = True


def pools(geometries: tuple[Any, ...] = get_args(Geometry)) -> st.SearchStrategy[Pool]:
    return st.builds(
        Pool,
        seed=st.integers(0, 2**32 - 1),
        size=st.integers(0, 40),
        classes=st.integers(1, 6),
        dim=st.integers(1, 8),
        members=st.integers(1, 4),
        labeled=st.integers(0, 6),
        queries=st.integers(1, 4),
        most_parts=st.integers(0, 3),
        geometry=st.sampled_from(geometries),
        beliefs=st.sampled_from(get_args(Beliefs)),
        utility=st.sampled_from(get_args(Utility)),
        scale=st.sampled_from([1.0, 1e-6, 1e6]),
        offset=st.sampled_from([0.0, 1e3]),
        logits=st.booleans(),
        optional=st.booleans(),
    )


def params_of(strategy: Strategy) -> st.SearchStrategy[Any]:
    """Its parameters with any choice of each that is one of a few; numbers stay as they are."""
    choices = {
        name: st.sampled_from(described.get("enum", [False, True]))
        for name, described in schema(strategy.params)["properties"].items()
        if "enum" in described or described["type"] == "boolean"
    }
    return st.fixed_dictionaries(choices).map(lambda values: parse(strategy.params, values))


def arrays_of(pool: Pool) -> Arrays:
    """Every array that can be declared but the graph of neighbours, which no strategy of ours reads."""
    rng = np.random.default_rng(pool.seed)
    others = pool.labeled + pool.queries
    points_MD = _points(pool, pool.size + others, rng)
    embeddings_ND, labeled_LD, queries_QD = np.split(points_MD, [pool.size, pool.size + pool.labeled])
    offsets_O = np.append(0, rng.integers(0, pool.most_parts + 1, pool.size).cumsum()).astype(np.int64)
    logits_NC = _logits(pool, pool.size, rng)
    return {
        Need.LOGITS: logits_NC,
        Need.PROBS: softmax(logits_NC),
        Need.EMBEDDINGS: embeddings_ND,
        Need.MEMBER_PROBS: np.stack([softmax(_logits(pool, pool.size, rng)) for _ in range(pool.members)]),
        Need.LABELED_EMBEDDINGS: labeled_LD,
        Need.LABELED_CLASSES: rng.integers(-1, pool.classes, pool.labeled),
        Need.CLUSTERS: rng.integers(-1, 4, pool.size),
        Need.LABEL_PROBS: _label_probs(pool, rng),
        Need.MEMBER_VALUES: _points(pool, pool.members * pool.size, rng).reshape(pool.members, pool.size, pool.dim),
        Need.PART_OFFSETS: offsets_O,
        Need.PART_PROBS: softmax(_logits(pool, int(offsets_O[-1]), rng)),
        Need.LABELED_PROBS: softmax(_logits(pool, pool.labeled, rng)),
        Need.QUERY_EMBEDDINGS: queries_QD,
        Need.HEAD_WEIGHTS: rng.normal(0, 1, (pool.classes, pool.dim)).astype(np.float32),
        Need.HEAD_BIAS: rng.normal(0, 1, pool.classes).astype(np.float32),
        Need.WORTH: rng.random(pool.size, np.float32),
    }


def utility_of(pool: Pool) -> NDArray[np.float32]:
    rng = np.random.default_rng(pool.seed + 1)
    if pool.utility == "distinct":
        return rng.permutation(np.arange(pool.size, dtype=np.float32))
    return rng.integers(0, 3 if pool.utility == "tied" else 1, pool.size).astype(np.float32)


def supplied(strategy: Strategy, pool: Pool, arrays: Arrays) -> Candidates:
    """Candidates with what the strategy declares; optional arrays, and logits for probabilities, where drawn."""
    needs = strategy.needs | (optional_needs(strategy) if pool.optional else frozenset())
    if pool.logits and Need.PROBS in needs:
        needs = needs - {Need.PROBS} | {Need.LOGITS}
    if pool.optional and not pool.labeled:
        needs = needs - LABELED
    return Candidates(pool.size, {need: arrays[need] for need in needs})


def reordered(arrays: Arrays, order: NDArray[np.int64]) -> Arrays:
    """The same samples in another order: place i holds what was at order[i]."""
    parts, offsets_O = parts_of(arrays[Need.PART_OFFSETS], order)
    moved: Arrays = {Need.PART_PROBS: arrays[Need.PART_PROBS][parts], Need.PART_OFFSETS: offsets_O}
    for need in arrays.keys() - PARTS:
        axis = SPECS[need].candidate_axis
        moved[need] = arrays[need] if axis is None else np.take(arrays[need], order, axis=axis)
    return moved


def copies_of(strategy: Strategy, candidates: Candidates, utility_N: NDArray[np.float32]) -> NDArray[np.int64]:
    """A number for each candidate, the same for those that the strategy cannot tell apart."""
    columns = [utility_N[:, None]]
    for need in strategy.needs | optional_needs(strategy):
        axis = SPECS[need].candidate_axis
        if axis is not None and candidates.has(need):
            array = np.moveaxis(candidates.array(need), axis, 0)
            columns.append(array.reshape(candidates.size, math.prod(array.shape[1:])))
    # Adding 0 makes -0 into 0, which it equals.
    rows_NX = np.hstack([column.astype(np.float64) + 0 for column in columns])
    return np.unique(rows_NX, axis=0, return_inverse=True)[1].reshape(-1)


def _points(pool: Pool, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    shape = count, pool.dim
    normal = rng.normal(0, 1, shape)
    makers = {
        "normal": lambda: normal,
        "clustered": lambda: rng.normal(0, 10, (4, pool.dim))[rng.integers(0, 4, count)] + 0.01 * normal,
        "grid": lambda: rng.integers(-1, 2, shape),
        "equal": lambda: np.broadcast_to(rng.normal(0, 1, pool.dim), shape),
        "zeros": lambda: np.zeros(shape),
        "mixed": lambda: normal[rng.integers(0, max(count, 1), count)] * (rng.random((count, 1)) < 0.7),
    }
    return ((makers[pool.geometry]() + pool.offset) * pool.scale).astype(np.float32)


def _logits(pool: Pool, count: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Multiples of 1/16, so that a whole number can be added to them without rounding."""
    soft_NC = np.round(16 * rng.normal(0, 2, (count, pool.classes))) / 16
    if pool.beliefs == "uniform":
        soft_NC[:] = 0
    elif pool.beliefs == "huge":
        soft_NC *= 1e4 / 16
    elif pool.beliefs != "soft":
        certain_N = rng.random(count) < (1 if pool.beliefs == "one_hot" else 0.5)
        soft_NC[certain_N] = 0
        soft_NC[certain_N, rng.integers(0, pool.classes, count)[certain_N]] = 1e4
    return soft_NC.astype(np.float32)


def _label_probs(pool: Pool, rng: np.random.Generator) -> NDArray[np.float32]:
    probs_NC = rng.random((pool.size, pool.classes), np.float32)
    if pool.beliefs == "uniform":
        return np.full_like(probs_NC, 0.5)
    return np.round(probs_NC) if pool.beliefs in ("one_hot", "huge") else probs_NC
