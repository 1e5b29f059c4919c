"""Disagreement of annotators and of copies, against plain loops."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.strategies.audit import annotator_disagreement, duplicate_disagreement, near_duplicates
from assay.strategies.errors import StrategyError

ANSWERS = st.lists(st.lists(st.integers(0, 3), max_size=5), max_size=8)


@given(ANSWERS)
def test_disagreement_is_the_share_of_pairs_that_differ(samples):
    pairs = [[left != right for left, right in combinations(answers, 2)] for answers in samples]
    found = annotator_disagreement(np.cumsum([0, *map(len, samples)]), [c for answers in samples for c in answers])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [np.mean(differ) if differ else 0 for differ in pairs], rtol=1e-6)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 2)), min_size=1, max_size=12))
def test_copies_contradict_by_share(samples):
    groups, labels = np.array(samples).T
    expected = []
    for i, (group, label) in enumerate(samples):
        others = [c for j, (g, c) in enumerate(samples) if j != i and g == group and c >= 0]
        expected.append(np.mean([c != label for c in others]) if others and label >= 0 else 0)
    np.testing.assert_allclose(duplicate_disagreement(groups, labels), expected, rtol=1e-6)


def test_copies_with_different_labels_are_found():
    points = np.array([[0, 0], [0.001, 0], [5, 5], [5, 5.001], [9, 9]], np.float32)
    found = duplicate_disagreement(near_duplicates(points, 0.01), [0, 1, 2, 2, 0])
    assert found.tolist() == [1, 1, 0, 0, 0]


def test_refusals():
    with pytest.raises(StrategyError, match="offsets end at 3"):
        annotator_disagreement([0, 3], [0, 1])
    with pytest.raises(StrategyError, match="0 or more"):
        annotator_disagreement([0, 1], [-1])
    with pytest.raises(StrategyError, match="0 or more"):
        duplicate_disagreement([0, 0], [0, -2])
    with pytest.raises(StrategyError, match="1 labels for 2 samples"):
        duplicate_disagreement([0, 0], [0])
