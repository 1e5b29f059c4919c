"""Candidates: lazy, checked once, read-only, one index space."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.strategies import Candidates, Need, NeedMissing, StrategyError

LOGITS = np.array([[0, 1], [2, 0], [1, 1]], np.float32)


def test_array_is_computed_once_and_read_only() -> None:
    calls: list[int] = []

    def produce() -> Any:
        calls.append(1)
        return LOGITS.copy()

    candidates = Candidates(3, {Need.LOGITS: produce})
    assert candidates.has(Need.LOGITS)
    assert calls == []
    first, second = candidates.logits_NC, candidates.logits_NC
    assert first is second
    assert calls == [1]
    with pytest.raises(ValueError, match="read-only"):
        first[0, 0] = 1


def test_array_given_is_not_copied() -> None:
    assert np.shares_memory(Candidates(3, {Need.LOGITS: LOGITS}).logits_NC, LOGITS)
    assert np.shares_memory(Candidates(3, {Need.LOGITS: LOGITS}).block(1, 3).logits_NC, LOGITS)
    assert LOGITS.flags.writeable


def test_probs_are_derived_from_logits() -> None:
    candidates = Candidates(3, {Need.LOGITS: LOGITS * 1e4})
    assert candidates.has(Need.PROBS)
    np.testing.assert_array_equal(candidates.probs_NC, np.array([[0, 1], [1, 0], [0.5, 0.5]], np.float32))


def test_missing_array_is_named() -> None:
    candidates = Candidates(3, {Need.LOGITS: LOGITS})
    with pytest.raises(NeedMissing, match="embeddings") as caught:
        _ = candidates.embeddings_ND
    assert caught.value.reason == "NEED_MISSING"
    assert caught.value.need == Need.EMBEDDINGS


@pytest.mark.parametrize(
    "array",
    [LOGITS[:2], LOGITS[0], LOGITS.astype(np.float64), LOGITS.astype(">f4"), np.zeros((3, 2), np.int64)],
    ids=["rows", "axes", "double", "big-endian", "integers"],
)
def test_array_of_wrong_shape_or_type_is_refused(array: Any) -> None:
    with pytest.raises(StrategyError) as caught:
        _ = Candidates(3, {Need.LOGITS: array}).logits_NC
    assert caught.value.reason == "INVALID_ARRAY"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    spoilt = LOGITS.copy()
    spoilt[2, 1] = bad
    with pytest.raises(StrategyError) as caught:
        _ = Candidates(3, {Need.LOGITS: spoilt}).logits_NC
    assert caught.value.reason == "NOT_FINITE"


def test_finite_values_whose_sum_overflows_are_accepted() -> None:
    huge = np.full((3, 2), 3e38, np.float32)
    assert Candidates(3, {Need.EMBEDDINGS: huge}).embeddings_ND.max() == np.float32(3e38)


def test_take_renumbers_and_shares_what_is_labeled() -> None:
    labeled = np.ones((4, 2), np.float32)
    members = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    graph = np.array([[1, 2], [2, 0], [0, -1]])
    arrays = {
        Need.LOGITS: LOGITS,
        Need.LABELED_EMBEDDINGS: labeled,
        Need.MEMBER_PROBS: members,
        Need.KNN_GRAPH: graph,
    }
    part = Candidates(3, arrays, np.array([10, 20, 30])).take(np.array([0, 2]))
    assert part.size == 2
    np.testing.assert_array_equal(part.keys_N, [10, 30])
    np.testing.assert_array_equal(part.logits_NC, LOGITS[[0, 2]])
    np.testing.assert_array_equal(part.member_probs_KNC, members[:, [0, 2]])
    np.testing.assert_array_equal(part.knn_graph_NK, [[-1, 1], [0, -1]])
    assert np.shares_memory(part.labeled_embeddings_LD, labeled)


def test_take_stays_lazy() -> None:
    def never() -> Any:
        raise AssertionError("computed")

    part = Candidates(3, {Need.EMBEDDINGS: never}).take(np.array([1]))
    assert part.has(Need.EMBEDDINGS)
    assert not part.has(Need.LOGITS)


def test_part_of_spoilt_candidates_is_checked_by_itself() -> None:
    spoilt = LOGITS.copy()
    spoilt[0, 0] = np.nan
    candidates = Candidates(3, {Need.LOGITS: spoilt})
    np.testing.assert_array_equal(candidates.block(1, 3).logits_NC, LOGITS[1:])
    with pytest.raises(StrategyError):
        _ = candidates.block(0, 2).logits_NC


@pytest.mark.parametrize("indices", [[1, 1], [2, 0], [-1], [3], [0.5], [[0]]])
def test_bad_indices_are_refused(indices: Any) -> None:
    with pytest.raises(StrategyError, match="indices"):
        Candidates(3, {}).take(np.array(indices))


@pytest.mark.parametrize("keys", [[1, 1, 2], [3, 2, 1], [1, 2], [1.0, 2.0, 3.0]])
def test_bad_keys_are_refused(keys: Any) -> None:
    with pytest.raises(StrategyError, match="keys"):
        Candidates(3, {}, np.array(keys))


def test_negative_size_is_refused() -> None:
    with pytest.raises(StrategyError):
        Candidates(-1, {})
