"""contrastive against a plain transcription of its formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.strategies import StrategyError, score, select
from assay.strategies.candidates import softmax
from assay.strategies.hybrid.contrastive import contrastive
from assay.strategies.testing import checks_for

rng = np.random.default_rng(1)
SIZE, LABELED, DIM, CLASSES = 70, 23, 6, 5

pytestmark = pytest.mark.usefixtures("each_screen")


def _samples() -> dict[str, NDArray[Any]]:
    return {
        "logits": rng.normal(0, 3, (SIZE, CLASSES)).astype(np.float32),
        "embeddings": rng.normal(size=(SIZE, DIM)).astype(np.float32),
        "labeled_embeddings": rng.normal(size=(LABELED, DIM)).astype(np.float32),
        "labeled_probs": softmax(rng.normal(0, 3, (LABELED, CLASSES)).astype(np.float32)),
    }


def _plain(samples: dict[str, NDArray[Any]], probs_NC: NDArray[Any], k: int, metric: str) -> list[float]:
    scores = []
    for embedding_D, probs_C in zip(samples["embeddings"], probs_NC, strict=True):
        squared_L = [_squared(embedding_D, other_D, metric) for other_D in samples["labeled_embeddings"]]
        divergences = [
            sum(p * math.log(p / q) for p, q in zip(near_C, probs_C, strict=True))
            for near_C in samples["labeled_probs"][np.argsort(squared_L)[:k]].astype(np.float64)
        ]
        scores.append(sum(divergences) / len(divergences))
    return scores


def _squared(one_D: NDArray[Any], other_D: NDArray[Any], metric: str) -> float:
    if metric == "l2":
        return float(np.square(other_D - one_D).sum())
    return 1 - float(one_D @ other_D) / float(np.linalg.norm(one_D) * np.linalg.norm(other_D))


@pytest.mark.parametrize(("_name", "check"), checks_for(contrastive))
def test_conforms(_name: str, check: Any) -> None:
    check()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("neighbours", [1, 4, LABELED, 500])
def test_scores_are_the_formula(neighbours: int, metric: str) -> None:
    samples = _samples()
    logits_NC = samples.pop("logits")
    probs_NC = np.exp(logits_NC.astype(np.float64))
    probs_NC /= probs_NC.sum(axis=1, keepdims=True)
    expected_N = _plain(samples, probs_NC, neighbours, metric)
    from_logits = score("contrastive", logits=logits_NC, **samples, neighbors=neighbours, metric=metric)
    from_probs = score("contrastive", probs=probs_NC, **samples, neighbors=neighbours, metric=metric)
    np.testing.assert_allclose(from_logits, expected_N, rtol=1e-5)
    np.testing.assert_allclose(from_probs, expected_N, rtol=1e-5)


def test_impossible_classes_count_by_the_floor() -> None:
    arrays: dict[str, Any] = {
        "embeddings": [[0.0], [10.0]],
        "labeled_embeddings": [[0.1], [9.0]],
        "labeled_probs": [[0.0, 1.0], [0.5, 0.5]],
    }
    floor = -math.log(np.finfo(np.float32).tiny)
    arrays["metric"] = "l2"
    scores = score("contrastive", probs=[[1, 0], [0.5, 0.5]], **arrays, neighbors=1)
    np.testing.assert_allclose(scores, [floor, 0], rtol=1e-6, atol=1e-12)
    from_logits = score("contrastive", logits=[[1e4, -1e4], [3, 3]], **arrays, neighbors=1)
    np.testing.assert_allclose(from_logits, [floor, 0], rtol=1e-6, atol=1e-12)


def test_neighbours_are_labeled_ones() -> None:
    """small-text looks among all samples, so that a pair of unlabeled copies would shield one another."""
    arrays: dict[str, Any] = {
        "probs": [[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]],
        "embeddings": [[0.0], [0.0], [5.0]],
        "labeled_embeddings": [[1.0], [5.0]],
        "labeled_probs": [[0.1, 0.9], [0.2, 0.8]],
    }
    arrays["metric"] = "l2"
    scores = score("contrastive", **arrays, neighbors=1)
    np.testing.assert_allclose(scores, [0.8 * math.log(9), 0.8 * math.log(9), 0], rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(select("contrastive", size=2, **arrays, neighbors=1).indices, [0, 1])


def test_refusals() -> None:
    samples = _samples()
    without = {name: array for name, array in samples.items() if not name.startswith("labeled")}
    short = {**samples, "labeled_probs": samples["labeled_probs"][:-1]}
    other_classes = {**samples, "labeled_probs": samples["labeled_probs"][:, :-1]}
    wrong = {**samples, "labeled_probs": samples["labeled_probs"] * 3}
    for arrays, reason in (
        (without, "NOTHING_LABELED"),
        (short, "INVALID_ARRAY"),
        (other_classes, "INVALID_ARRAY"),
        (wrong, "PROBABILITIES_INVALID"),
    ):
        with pytest.raises(StrategyError) as caught:
            score("contrastive", **arrays)
        assert caught.value.reason == reason
