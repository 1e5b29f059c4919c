"""Expected gradient length against the gradients that torch computes for a last layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from assay.strategies import NeedMissing, StrategyError, score
from tests.strategies import references


def autograd_lengths(weights_CD: np.ndarray, bias_C: np.ndarray | None, embeddings_ND: np.ndarray) -> np.ndarray:
    """A backward pass for each sample and class, in float64."""
    parameters = [torch.from_numpy(weights_CD.astype(np.float64)).requires_grad_()]
    if bias_C is not None:
        parameters.append(torch.from_numpy(bias_C.astype(np.float64)).requires_grad_())
    lengths = []
    for embedding_D in torch.from_numpy(embeddings_ND.astype(np.float64)):
        logits_C = torch.nn.functional.linear(embedding_D, *parameters)
        probs_C = logits_C.softmax(0).detach()
        expected = 0.0
        for label, probability in enumerate(probs_C):
            loss = torch.nn.functional.cross_entropy(logits_C, torch.tensor(label))
            gradients = torch.autograd.grad(loss, parameters, retain_graph=True)
            expected += float(probability * torch.cat([gradient.flatten() for gradient in gradients]).norm())
        lengths.append(expected)
    return np.array(lengths)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("bias", [False, True])
def test_closed_form_is_what_autograd_gives(classes: int, bias: bool) -> None:
    rng = np.random.default_rng(classes)
    weights_CD, bias_C = rng.normal(0, 2, (classes, 5)), rng.normal(0, 1, classes) if bias else None
    embeddings = rng.normal(0, 1, (20, 5)).astype(np.float32)
    logits = (embeddings @ weights_CD.T + (0 if bias_C is None else bias_C)).astype(np.float32)
    expected = autograd_lengths(weights_CD, bias_C, embeddings)
    given = {"embeddings": embeddings, "bias": bias}
    np.testing.assert_allclose(score("expected_gradient_length", logits=logits, **given), expected, rtol=1e-4)
    probs = references.softmax(logits)
    np.testing.assert_allclose(score("expected_gradient_length", probs=probs, **given), expected, rtol=1e-4, atol=1e-6)


def test_hand_made() -> None:
    """p = (1/2, 1/2): each label's gradient is (1/2, 1/2) long."""
    embeddings = np.array([[3, 4], [0, 0]])
    scores = score("expected_gradient_length", probs=np.full((2, 2), 0.5), embeddings=embeddings)
    np.testing.assert_allclose(scores, [5 * np.sqrt(0.5), 0], rtol=1e-6)


def test_confident_samples_keep_their_order() -> None:
    """|p - e_j| of the predicted class would be rounding noise, if it were 1 - 2 p_j + |p|^2."""
    logits = np.zeros((60, 4), np.float32)
    logits[:, 0] = np.arange(5, 65)
    scores = score("expected_gradient_length", logits=logits, embeddings=np.ones((60, 3)))
    assert (np.diff(scores) < 0).all()
    assert (scores > 0).all()
    others = 3 * np.exp(-logits[15:35, 0].astype(np.float64))
    expected = np.sqrt(3) * others * (np.sqrt(4 / 3) + np.sqrt(2))
    np.testing.assert_allclose(scores[15:35], expected, rtol=1e-5)


def test_ties_at_the_top_are_like_near_ties() -> None:
    embeddings = np.ones((2, 2))
    tied, near = np.array([[2, 2, 2, -1], [2, 2, 2, -1]], np.float32)
    near[1:3] += [1e-6, -1e-6]
    scores = score("expected_gradient_length", logits=np.stack([tied, near]), embeddings=embeddings)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-5)


def test_embeddings_that_cannot_be_measured_are_refused() -> None:
    for bad in (np.nan, np.inf, 1e30):
        embeddings = np.ones((4, 3), np.float32)
        embeddings[2, 1] = bad
        with pytest.raises(StrategyError) as caught:
            score("expected_gradient_length", logits=np.zeros((4, 2)), embeddings=embeddings)
        assert caught.value.reason == "NOT_FINITE"


def test_needs_are_named() -> None:
    with pytest.raises(NeedMissing, match="embeddings"):
        score("expected_gradient_length", logits=np.zeros((4, 2)))
