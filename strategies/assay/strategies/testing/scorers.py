"""Checks of a scorer: one score per row that depends on nothing but the row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from assay.strategies.base import Scorer, finished
from assay.strategies.testing.examples import SIZE, example_arrays, given, reordered, repeated, require, score


def _scores_have_shape(scorer: Scorer) -> None:
    for size in (SIZE, 1, 0):
        scores_N = score(scorer, example_arrays(size))
        require(scores_N.shape == (size,), f"{scores_N.shape} scores for {size} candidates")
        require(scores_N.dtype == np.float32, f"scores are {scores_N.dtype}, not float32")


def _scores_repeat(scorer: Scorer) -> None:
    require(np.array_equal(score(scorer, example_arrays()), score(scorer, example_arrays())), "two runs differ")


def _scores_follow_their_row(scorer: Scorer) -> None:
    order = np.random.default_rng(3).permutation(SIZE)
    straight, moved = score(scorer, example_arrays()), score(scorer, reordered(example_arrays(), order))
    require(np.allclose(straight[order], moved, rtol=1e-6, atol=1e-6), "a score depends on the order of the rows")


def _scores_stream(scorer: Scorer) -> None:
    candidates = given(scorer, example_arrays())
    parts = [scorer.score(candidates.block(start, start + 17), scorer.params()) for start in range(0, SIZE, 17)]
    whole = scorer.score(candidates, scorer.params())
    require(np.allclose(whole, np.concatenate(parts), rtol=1e-6, atol=1e-6), "a score depends on the rows beside it")


def _copies_score_alike(scorer: Scorer) -> None:
    order = np.arange(SIZE) // 2
    scores_N = score(scorer, repeated(example_arrays(), order))
    require(np.array_equal(scores_N[::2], scores_N[1::2]), "two equal rows have different scores")


def _finish_is_sound(scorer: Scorer) -> None:
    """A second look at all scores, where the scorer takes one."""
    for size in (SIZE, 1, 0):
        candidates = given(scorer, example_arrays(size))
        scores_N = scorer.score(candidates, scorer.params())
        before_N = scores_N.copy()
        finished_N = finished(scorer, scores_N, candidates, scorer.params())
        require(finished_N.shape == (size,), f"finish gives {finished_N.shape} scores for {size} candidates")
        require(finished_N.dtype == np.float32, f"finished scores are {finished_N.dtype}, not float32")
        require(bool(np.isfinite(finished_N).all()), "a finished score is NaN or infinite")
        require(np.array_equal(scores_N, before_N), "finish changed the scores that it was given")
        again_N = finished(scorer, scores_N, candidates, scorer.params())
        require(np.array_equal(finished_N, again_N), "finish gives something else the second time")


SCORER_CHECKS: dict[str, Callable[[Any], None]] = {
    "scores_have_shape": _scores_have_shape,
    "scores_repeat": _scores_repeat,
    "scores_follow_their_row": _scores_follow_their_row,
    "scores_stream": _scores_stream,
    "copies_score_alike": _copies_score_alike,
    "finish_is_sound": _finish_is_sound,
}
