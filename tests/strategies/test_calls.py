"""The calls for people without a server."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from assay.strategies import InvalidParams, NeedMissing, StrategyError, UnknownStrategy, score, select

LOGITS = np.array([[9, 0], [0.1, 0], [2, 0]])


def test_select_by_a_scorer_takes_its_highest() -> None:
    selection = select("margin", size=2, logits=LOGITS)
    np.testing.assert_array_equal(selection.indices, [1, 2])
    np.testing.assert_array_equal(selection.scores, score("margin", logits=LOGITS)[[1, 2]])


def test_select_converts_types_and_takes_params() -> None:
    points = [[0, 0], [10, 0], [0, 1], [5, 5]]
    picks = select("k_center", size=2, embeddings=points, labeled_embeddings=[[0, 0]], metric="l2")
    np.testing.assert_array_equal(picks.indices, [1, 3])
    assert len(select("k_center", size=2, embeddings=points, labeled_embeddings=None)) == 2


def test_seed_decides_what_is_random() -> None:
    picks = [select("random", size=5, embeddings=np.zeros((50, 2)), seed=seed).indices for seed in (1, 1, 2)]
    np.testing.assert_array_equal(picks[0], picks[1])
    assert not np.array_equal(picks[0], picks[2])


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: score("margin", embeddings=np.zeros((3, 2))), NeedMissing),
        (lambda: select("margin", size=1, embeddings=np.zeros((3, 2))), NeedMissing),
        (lambda: select("k_center", size=1, logits=LOGITS), NeedMissing),
        (lambda: score("margni", logits=LOGITS), UnknownStrategy),
        (lambda: score("margin", logits=LOGITS, temperature=2), InvalidParams),
        (lambda: select("k_center", size=1, embeddings=LOGITS, start="middle"), InvalidParams),
        (lambda: score("k_center", embeddings=LOGITS), StrategyError),
        (lambda: select("random", size=1), StrategyError),
        (lambda: select("margin", size=-1, logits=LOGITS), StrategyError),
        (lambda: score("margin", logits=np.zeros(3)), StrategyError),
        (lambda: select("k_center", size=1, embeddings=LOGITS, labeled_embeddings=np.zeros((2, 3))), StrategyError),
    ],
)
def test_errors(call: Any, error: type[StrategyError]) -> None:
    with pytest.raises(error):
        call()


def test_missing_need_is_named() -> None:
    with pytest.raises(NeedMissing, match="probs"):
        score("margin", embeddings=np.zeros((3, 2)))


@pytest.mark.parametrize("size", [3, 3.0, np.int64(3), np.float32(3)])
def test_whole_sizes_of_any_type_are_taken(size: Any) -> None:
    picks = select("typiclust", size=size, embeddings=np.eye(6), neighbors=np.int64(2), seed=np.int64(0))
    assert picks.indices.tolist() == select("typiclust", size=3, embeddings=np.eye(6), neighbors=2).indices.tolist()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"size": 2.5}, "INVALID_SIZE"),
        ({"size": "3"}, "INVALID_SIZE"),
        ({"seed": 0.5}, "INVALID_SIZE"),
        ({"gamma": 1e39}, "INVALID_PARAMETER"),
        ({"embeddings": [["1", "2"], ["3", "4"]]}, "INVALID_ARRAY"),
        ({"embeddings": [[1.0], [1.0, 2.0]]}, "INVALID_ARRAY"),
    ],
)
def test_what_cannot_be_read_is_named_and_not_guessed(arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(StrategyError) as caught:
        select("max_herding", **{"size": 2, "embeddings": np.eye(4), **arguments})
    assert caught.value.reason == reason


@pytest.mark.parametrize("classes", [["a", "b"], [0.5, 1.0], [-5, 0], [np.nan, 0.0], [[0], [1, 2]], [1 + 1j, 0]])
def test_labeled_classes_are_whole_numbers_from_0(classes: Any) -> None:
    def pick(labeled_classes: Any) -> Any:
        return select(
            "galaxy",
            size=2,
            embeddings=np.eye(6),
            probs=np.full((6, 2), 0.5),
            labeled_embeddings=np.eye(6)[:2],
            labeled_classes=labeled_classes,
        )

    with pytest.raises(StrategyError, match="labeled_classes") as caught:
        pick(classes)
    assert caught.value.reason == "INVALID_ARRAY"
    assert len(pick([0, -1]).indices) == 2, "in somebody's hands"
    assert pick([0.0, 1.0]).indices.tolist() == pick(np.array([0, 1], np.uint8)).indices.tolist()
