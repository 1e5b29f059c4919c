"""BatchBALD against the plain greedy over the exact joint distribution."""

from __future__ import annotations

import numpy as np
import pytest

from assay.strategies import select
from assay.strategies.uncertainty.batch_bald import _Outcomes
from tests.strategies.uncertainty import formulas
from tests.strategies.uncertainty.test_committee import random_members


@pytest.mark.parametrize(("members", "size", "classes", "picks"), [(5, 60, 3, 5), (8, 40, 2, 8), (3, 30, 6, 4)])
def test_exact_picks_are_those_of_the_plain_greedy(members: int, size: int, classes: int, picks: int) -> None:
    probs = random_members(members, size, classes, seed=size)
    expected, information = formulas.batch_bald(probs, picks)
    selection = select("batch_bald", size=picks, member_probs=probs)
    assert selection.indices.tolist() == expected
    np.testing.assert_allclose(selection.scores.cumsum(), information, atol=2e-5)


def test_first_pick_is_balds() -> None:
    probs = random_members(6, 500, 4)
    selection = select("batch_bald", size=1, member_probs=probs)
    expected = formulas.committee(probs)["bald"]
    assert selection.indices.tolist() == [expected.argmax()]
    np.testing.assert_allclose(selection.scores, expected.max(), atol=1e-5)


def test_copies_of_a_question_are_not_asked_again() -> None:
    """Two questions that split the members differently: after a sure answer to one, its copies tell nothing."""
    first, second = np.array([[1, 0], [1, 0], [0, 1], [0, 1]]), np.array([[0.9, 0.1], [0.1, 0.9]] * 2)
    probs = np.stack([first, first, first, second], axis=1).astype(np.float32)
    assert select("bald", size=2, member_probs=probs).indices.tolist() == [0, 1]
    selection = select("batch_bald", size=4, member_probs=probs)
    assert selection.indices.tolist() == [0, 3, 1, 2]
    assert selection.scores[2:].tolist() == [0, 0]
    assert selection.diagnostics["informative"] == 2


def test_probabilities_of_zero_are_no_trouble() -> None:
    rng = np.random.default_rng(1)
    probs = np.eye(3, dtype=np.float32)[rng.integers(0, 3, (6, 30))]
    selection = select("batch_bald", size=30, member_probs=probs)
    assert sorted(selection.indices.tolist()) == list(range(30))
    np.testing.assert_allclose(selection.scores.sum(), np.log(6), atol=1e-4)


def test_gains_sum_to_the_logarithm_of_the_members_at_most() -> None:
    probs = random_members(5, 200, 4)
    selection = select("batch_bald", size=60, member_probs=probs, samples=2000)
    np.testing.assert_allclose(selection.scores.sum(), np.log(5), atol=0.03)
    rest = selection.indices[int(selection.diagnostics["informative"]) :]
    bald = formulas.committee(probs)["bald"]
    assert (np.diff(bald[rest]) <= 1e-6).all()


def test_sampled_information_is_near_the_exact() -> None:
    probs = random_members(6, 25, 3, seed=4)
    _, information = formulas.batch_bald(probs, 6)
    for seed in range(3):
        selection = select("batch_bald", size=6, member_probs=probs, samples=1500, seed=seed)
        np.testing.assert_allclose(selection.scores.cumsum(), information, atol=0.03)


def test_drawn_outcomes_have_the_probabilities_of_the_exact_ones() -> None:
    probs = random_members(3, 4, 3, seed=2).astype(np.float64)
    rng = np.random.default_rng(0)
    exact, drawn = _Outcomes(3, 1000), _Outcomes(3, 30_000)
    for pick in range(4):
        exact.add(probs[:, pick], rng)
        if pick < 2:
            drawn.add(probs[:, pick], rng)
    drawn._draw(probs[:, 2], rng)
    drawn._draw(probs[:, 3], rng)
    assert exact.origins_S is None
    assert len(exact.weights_S) == 81
    frequencies = np.zeros(81)
    matches = np.abs(drawn.posterior_SK[:, None, 0] - exact.posterior_SK[None, :, 0]).argmin(axis=1)
    np.add.at(frequencies, matches, drawn.weights_S)
    np.testing.assert_allclose(
        drawn.posterior_SK, exact.posterior_SK[matches], atol=1e-9, err_msg="an outcome is not one of the exact ones"
    )
    expected = 30_000 * exact.weights_S
    statistic = (np.square(30_000 * frequencies - expected) / expected).sum()
    assert statistic < 140  # 80 degrees of freedom: beyond it with a probability of 4e-5


def test_lazy_picks_are_those_of_full_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    probs = random_members(6, 400, 3, seed=7)
    lazy = select("batch_bald", size=6, member_probs=probs)
    monkeypatch.setattr("assay.strategies.uncertainty.batch_bald._REFRESHED", 400)
    full = select("batch_bald", size=6, member_probs=probs)
    assert lazy.indices.tolist() == full.indices.tolist()
    assert lazy.diagnostics["refreshed"] < full.diagnostics["refreshed"]


def test_many_classes_and_outcomes_by_blocks() -> None:
    probs = random_members(4, 30, 90, seed=3)
    expected, information = formulas.batch_bald(probs, 3)
    selection = select("batch_bald", size=3, member_probs=probs)
    assert selection.indices.tolist() == expected
    np.testing.assert_allclose(selection.scores.cumsum(), information, atol=2e-5)
