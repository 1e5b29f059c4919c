"""The kit's checks, one test each, and what the strategy is for."""

import numpy as np
import pytest
from novelty_strategy import novelty

from assay.strategies import score
from assay.strategies.testing import checks_for


@pytest.mark.parametrize("check", [pytest.param(check, id=name) for name, check in checks_for(novelty)])
def test_conforms(check):
    check()


def test_distance_to_the_nearest_labeled_sample():
    embeddings = [[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]]
    labeled = [[0.0, 0.0], [6.0, 8.0]]
    assert score("novelty", embeddings=embeddings, labeled_embeddings=labeled).tolist() == [0.0, 5.0, 0.0]
    assert score("novelty", embeddings=embeddings, labeled_embeddings=labeled, cap=2).tolist() == [0.0, 2.0, 0.0]


def test_nothing_labeled_leaves_nothing_to_tell_apart():
    assert score("novelty", embeddings=np.eye(3)).tolist() == [0.0, 0.0, 0.0]
