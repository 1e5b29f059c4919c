"""The frontier: what it gives depends on the labels alone, and only new labels are searched."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.strategies import StrategyError
from assay.strategies.composition.seals import Frontier

POINTS = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
INDEX = faiss.IndexFlatL2(8)
INDEX.add(POINTS)


class Searcher:
    """A real index that counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, rows: np.ndarray) -> np.ndarray:
        self.asked += rows.tolist()
        return INDEX.search(POINTS[rows], 5)[1]


def neighbours_of(rows: list[int]) -> list[int]:
    return sorted({int(n) for row in rows for n in np.argsort(((POINTS - POINTS[row]) ** 2).sum(1))[:5]})


def test_only_new_labels_are_searched() -> None:
    frontier, search = Frontier(5), Searcher()
    assert frontier.candidates(np.array([7, 3]), search).tolist() == neighbours_of([3, 7])
    assert frontier.candidates(np.array([3, 7, 250]), search).tolist() == neighbours_of([3, 7, 250])
    frontier.candidates(np.array([250, 3, 7]), search)
    assert search.asked == [3, 7, 250]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(0, 299), max_size=12), min_size=1, max_size=5))
def test_history_makes_no_difference(rounds: list[list[int]]) -> None:
    frontier, search = Frontier(5), Searcher()
    for labeled in rounds:
        assert frontier.candidates(np.array(labeled, np.int64), search).tolist() == neighbours_of(labeled)


def test_missing_neighbours_are_left_out() -> None:
    assert Frontier(2).candidates(np.array([4]), lambda rows: np.array([[4, -1]])).tolist() == [4]


def test_a_failed_search_changes_nothing() -> None:
    frontier, search = Frontier(5), Searcher()
    frontier.candidates(np.array([3]), search)
    with pytest.raises(StrategyError):
        frontier.candidates(np.array([3, 9]), lambda rows: np.zeros((1, 4), np.int64))
    assert frontier.candidates(np.array([3]), search).tolist() == neighbours_of([3])
    assert search.asked == [3]


def test_no_neighbours_are_refused() -> None:
    with pytest.raises(StrategyError):
        Frontier(0)
