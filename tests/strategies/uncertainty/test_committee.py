"""The committee scorers and their kernel against plain formulas, from all members at once and one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import StrategyError, score
from assay.strategies.kernels import committee
from tests.strategies import references
from tests.strategies.uncertainty import formulas

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 5))
LOGITS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-30, 30, width=32))
NAMES = ("variation_ratio", "vote_entropy", "mean_std", "bald", "kl_consensus")


def softmax(logits_KNC: np.ndarray) -> np.ndarray:
    flat = references.softmax(logits_KNC.reshape(-1, logits_KNC.shape[-1]))
    return flat.reshape(logits_KNC.shape).astype(np.float32)


def random_members(members: int, size: int, classes: int, seed: int = 0) -> np.ndarray:
    return softmax(np.random.default_rng(seed).normal(0, 2, (members, size, classes)))


def test_hand_made_members() -> None:
    """One sample that all call a coin toss, one that they call differently, one that they agree about."""
    members = np.array(
        [[[0.5, 0.5], [1, 0], [0.9, 0.1]], [[0.5, 0.5], [0, 1], [0.9, 0.1]]],
        np.float32,
    )
    np.testing.assert_allclose(score("bald", member_probs=members), [0, np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(score("kl_consensus", member_probs=members), [0, np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(score("variation_ratio", member_probs=members), [0, 0.5, 0])
    np.testing.assert_allclose(score("vote_entropy", member_probs=members), [0, np.log(2), 0], atol=1e-6)
    np.testing.assert_allclose(score("mean_std", member_probs=members), [0, 0.5, 0], atol=1e-7)


@given(LOGITS)
def test_members_match_the_formulas(logits: np.ndarray) -> None:
    members = softmax(logits)
    expected = formulas.committee(members)
    for measure, scores in committee.from_members(members, committee.MEASURES).items():
        np.testing.assert_allclose(scores, expected[measure], atol=3e-6, err_msg=measure)
        np.testing.assert_array_equal(scores, committee.from_members(members, [measure])[measure])
    np.testing.assert_allclose(committee.largest_divergence(members), expected["kl_max"], atol=3e-6)


@pytest.mark.parametrize("shape", [(7, 5000, 60), (3, 90_000, 2), (20, 300, 1000)])
def test_many_blocks_match_the_formulas(shape: tuple[int, int, int]) -> None:
    members = random_members(*shape)
    expected = formulas.committee(members)
    scores = committee.from_members(members, committee.MEASURES)
    streamed = committee.from_stream(iter(members), committee.MEASURES)
    for measure in committee.MEASURES:
        np.testing.assert_allclose(scores[measure], expected[measure], atol=5e-6, err_msg=measure)
        np.testing.assert_array_equal(streamed[measure], scores[measure])
    np.testing.assert_allclose(committee.largest_divergence(members), expected["kl_max"], atol=5e-6)


def test_strategies_give_the_measures_of_their_names() -> None:
    members = random_members(4, 50, 5)
    expected = formulas.committee(members)
    for name in NAMES[:-1]:
        np.testing.assert_allclose(score(name, member_probs=members), expected[name], atol=2e-6)
    for reduce in ("mean", "max"):
        scores = score("kl_consensus", member_probs=members, reduce=reduce)
        np.testing.assert_allclose(scores, expected[f"kl_{reduce}"], atol=2e-6)


def test_mean_divergence_is_bald() -> None:
    members = random_members(4, 50, 5)
    expected = formulas.committee(members)
    np.testing.assert_allclose(expected["kl_mean"], expected["bald"], atol=1e-12)
    np.testing.assert_array_equal(score("kl_consensus", member_probs=members), score("bald", member_probs=members))


def test_members_vote_for_the_lowest_of_equal_classes() -> None:
    tied = np.array([[[0.4, 0.4, 0.2]], [[0.5, 0.25, 0.25]], [[0.1, 0.45, 0.45]]], np.float32)
    np.testing.assert_allclose(score("variation_ratio", member_probs=tied), [1 / 3], rtol=1e-6)
    np.testing.assert_allclose(score("vote_entropy", member_probs=tied), [0.6365142], rtol=1e-6)


def test_one_member_and_equal_members_agree() -> None:
    one = random_members(1, 30, 6)
    for members in (one, np.repeat(one, 9, axis=0)):
        for name in NAMES:
            np.testing.assert_allclose(score(name, member_probs=members), 0, atol=1e-6, err_msg=name)


def test_small_deviations_are_not_lost() -> None:
    """E p^2 - (E p)^2 in float32 would be rounding noise."""
    low, high = np.float32(0.7), np.float32(0.70001)
    members = np.array([[[low, 1 - low]], [[high, 1 - high]]], np.float32)
    np.testing.assert_allclose(score("mean_std", member_probs=members), members.std(axis=0, dtype=float).mean(), 1e-3)


def test_bald_is_never_negative() -> None:
    members = np.repeat(random_members(1, 3000, 50), 7, axis=0)
    assert (score("bald", member_probs=members) >= 0).all()
    assert (score("kl_consensus", member_probs=members, reduce="max") >= 0).all()


def test_members_come_one_by_one() -> None:
    members = random_members(5, 40, 3)
    alive: list[int] = []

    def load() -> object:
        for member in members:
            alive.append(len(alive))
            yield member.copy()

    streamed = committee.from_stream(load(), {"bald"})
    assert alive == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(streamed["bald"], score("bald", member_probs=members))


@pytest.mark.parametrize("row", [[0.5, 0.4], [0.6, 0.6], [1.1, -0.1], [np.nan, 1], [np.inf, 0], [0, 0]])
def test_rows_that_are_no_probabilities_are_refused(row: list[float]) -> None:
    members = np.full((3, 4, 2), 0.5, np.float32)
    members[2, 3] = row
    calls = [lambda name=name: score(name, member_probs=members) for name in NAMES]
    calls += [
        lambda: score("kl_consensus", member_probs=members, reduce="max"),
        lambda: committee.from_stream(iter(members), {"bald"}),
    ]
    for call in calls:
        with pytest.raises(StrategyError) as caught:
            call()
        assert caught.value.reason == "PROBABILITIES_INVALID"


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 3, 0)])
def test_no_members_or_no_classes_are_refused(shape: tuple[int, int, int]) -> None:
    empty = np.empty(shape, np.float32)
    for call in (committee.from_members, committee.from_stream):
        with pytest.raises(StrategyError) as caught:
            call(empty, {"bald"})
        assert caught.value.reason == "INVALID_ARRAY"
    with pytest.raises(StrategyError) as caught:
        committee.largest_divergence(empty)
    assert caught.value.reason == "INVALID_ARRAY"


def test_members_of_another_shape_or_type_are_refused() -> None:
    first = np.full((3, 2), 0.5, np.float32)
    for other in (first[:2], first.astype(np.float64), np.full((3, 4), 0.25, np.float32)):
        with pytest.raises(StrategyError, match="each member must be float32 \\(3, 2\\)"):
            committee.from_stream([first, other], {"mean_std"})


def test_no_samples_have_no_scores() -> None:
    for name in NAMES:
        assert score(name, member_probs=np.empty((2, 0, 3))).shape == (0,)
    assert committee.from_stream([np.empty((0, 3), np.float32)], {"bald"})["bald"].shape == (0,)
