"""The pairwise penalty matrix by hand and against scipy's paired t test in plain loops."""

import numpy as np
import pytest
from scipy import stats

from assay.strategies.errors import StrategyError
from assay.strategies.evaluation import penalty_matrix

REPEATS = np.array([0.0, 0.01, -0.01, 0.02, -0.02])


def test_by_hand():
    """0 beats 1 at the second checkpoint only; both beat 2 at both, at the first by the same in all repeats."""
    even_R = 0.8 + REPEATS
    setting_SRQ = np.stack(
        [
            np.stack([even_R, even_R], axis=1),
            np.stack([even_R, even_R - 0.1 + REPEATS], axis=1),
            np.stack([even_R - 0.125, even_R - 0.125], axis=1),
        ]
    )
    result = penalty_matrix([setting_SRQ])
    assert result.wins_SS.tolist() == [[0, 0.5, 1], [0, 0, 1], [0, 0, 0]]
    assert result.losses_S == pytest.approx([0, 0.5 / 3, 2 / 3])
    twice = penalty_matrix([setting_SRQ, setting_SRQ[:, :, :1]])
    assert twice.settings == 2
    assert twice.wins_SS.tolist() == [[0, 0.5, 2], [0, 0, 2], [0, 0, 0]]


def test_the_threshold_is_that_of_the_repeats():
    """t = sqrt(5) mean / deviation on either side of 2.776."""
    deviation = REPEATS.std(ddof=1)
    for t, wins in [(2.77, 0), (2.78, 1)]:
        differences_R = REPEATS + t * deviation / np.sqrt(5)
        setting_SRQ = np.stack([differences_R, np.zeros(5)])[:, :, None]
        assert penalty_matrix([setting_SRQ]).wins_SS[0, 1] == wins
    assert penalty_matrix([setting_SRQ], confidence=0.99).wins_SS[0, 1] == 0


@pytest.mark.parametrize("repeats", [2, 5, 12])
def test_is_that_of_plain_loops(repeats):
    rng = np.random.default_rng(repeats)
    settings = [rng.normal(size=(4, repeats, checkpoints)) + np.arange(4)[:, None, None] for checkpoints in (1, 3, 6)]
    wins_SS = np.zeros((4, 4))
    for setting in settings:
        for i in range(4):
            for j in range(4):
                for checkpoint in range(setting.shape[2]):
                    first_R, second_R = setting[i, :, checkpoint], setting[j, :, checkpoint]
                    if i != j and first_R.mean() > second_R.mean() and stats.ttest_rel(first_R, second_R).pvalue < 0.05:
                        wins_SS[i, j] += 1 / setting.shape[2]
    assert penalty_matrix(settings).wins_SS == pytest.approx(wins_SS)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ([], "INVALID_ARRAY"),
        ([np.zeros((2, 5))], "INVALID_ARRAY"),
        ([np.zeros((2, 1, 3))], "INVALID_ARRAY"),
        ([np.zeros((2, 5, 0))], "INVALID_ARRAY"),
        ([np.zeros((2, 5, 3)), np.zeros((3, 5, 3))], "INVALID_ARRAY"),
        ([np.full((2, 5, 3), np.nan)], "NOT_FINITE"),
    ],
)
def test_refusals(settings, reason):
    with pytest.raises(StrategyError) as refused:
        penalty_matrix(settings)
    assert refused.value.reason == reason
