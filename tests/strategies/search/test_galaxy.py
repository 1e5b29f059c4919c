"""galaxy against a plain transcription: every row walked anew for every pick."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assay.strategies import StrategyError, select
from assay.strategies.candidates import softmax
from assay.strategies.hybrid.galaxy import galaxy
from assay.strategies.testing import checks_for

rng = np.random.default_rng(4)

pytestmark = pytest.mark.usefixtures("each_screen")


def _plain(
    probs_NC: NDArray[Any], labeled_LC: NDArray[Any], classes_L: NDArray[Any], size: int
) -> tuple[list[int], list[str]]:
    """Picks, and by which rule each was made."""
    count = len(probs_NC)
    probs = [list(row) for row in np.concatenate([probs_NC, labeled_LC])]
    predicted = [row.index(max(row)) for row in probs]
    known = {count + i: int(c) if c >= 0 else predicted[count + i] for i, c in enumerate(classes_L)}
    rows = [
        sorted(range(len(probs)), key=lambda i, c=c: (probs[i][c] - max(probs[i]), max(probs[i]), i))
        for c in range(probs_NC.shape[1])
    ]
    second = [sorted([*row, 0.0])[-2] if len(row) > 1 else 1.0 for row in probs]
    picks, rules, turn = [], [], len(classes_L)
    while len(picks) < min(size, count):
        gaps, steps = [], []
        for c, row in enumerate(rows):
            order = (c - turn) % len(rows)
            at = [place for place, i in enumerate(row) if i in known]
            for left, right in pairwise(at):
                if (known[row[left]] == c) == (known[row[right]] == c):
                    continue
                if right - left > 1:
                    gaps.append((order, right - left - 1, left, row[(left + right) // 2]))
                for place in range(left - 1, -1, -1) if right - left == 1 else ():
                    if row[place] not in known:
                        steps.append((order, right - place, right, place, row[place]))
                        break
                for place in range(right + 1, len(row)) if right - left == 1 else ():
                    if row[place] not in known:
                        steps.append((order, place - left, left, place, row[place]))
                        break
        if gaps or steps:
            order = min(min(found)[0] for found in (gaps, steps) if found)
            mine = [gap for gap in gaps if gap[0] == order]
            picks.append(min(mine or [step for step in steps if step[0] == order])[-1])
            rules.append("gap" if mine else "step")
            turn += order + 1
        else:
            picks.append(min(set(range(count)) - set(known), key=lambda i: (max(probs[i]) - second[i], i)))
            rules.append("margin")
        known[picks[-1]] = predicted[picks[-1]]
    return picks, rules


@pytest.mark.parametrize(("_name", "check"), checks_for(galaxy))
def test_conforms(_name: str, check: Any) -> None:
    check()


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("labeled", [0, 1, 9, 40])
@pytest.mark.parametrize("unknown", [False, True])
def test_picks_are_those_of_the_plain_walk(classes: int, labeled: int, unknown: bool) -> None:
    probs_NC = softmax(rng.normal(0, 2, (60, classes)).astype(np.float32))
    labeled_LC = softmax(rng.normal(0, 2, (labeled, classes)).astype(np.float32))
    classes_L = rng.integers(-1 if unknown else 0, classes, labeled)
    selection = select("galaxy", size=60, probs=probs_NC, labeled_probs=labeled_LC, labeled_classes=classes_L)
    picks, rules = _plain(probs_NC, labeled_LC, classes_L, 60)
    np.testing.assert_array_equal(selection.indices, picks)
    assert labeled < 9 or {"gap", "step"} <= set(rules)


def test_bisects_the_gap_between_classes_in_the_row_of_each() -> None:
    """One row of 17 with labels at 0 and 8 (not of class 0), 12 and 16 (of it): a border is between 8 and 12. The row
    of class 1 is the same backwards."""
    row = np.linspace(0.1, 0.9, 17).astype(np.float32)
    probs_MC = np.stack([row, 1 - row], axis=1)
    labeled = np.array([0, 8, 12, 16])
    rest = np.setdiff1d(np.arange(17), labeled)
    picks = select(
        "galaxy", size=4, probs=probs_MC[rest], labeled_probs=probs_MC[labeled], labeled_classes=[1, 1, 0, 0]
    )
    # 10 and 9 count as class 0, so the border is between 8 and 9: 7 is two places from beyond it. In the row of class 1
    # 11 and 6 are both three places from beyond it, and 6 is the farther down.
    np.testing.assert_array_equal(rest[picks.indices], [10, 9, 7, 6])


@pytest.mark.parametrize("labeled", [[], [1, 1, 1]])
def test_without_a_border_the_margin_decides_first(labeled: list[int]) -> None:
    probs_NC = softmax(rng.normal(0, 2, (30, 3)).astype(np.float32))
    probs_NC[:, 1] += 1
    probs_NC /= probs_NC.sum(axis=1, keepdims=True)
    arrays = {"labeled_probs": np.tile([0.1, 0.8, 0.1], (len(labeled), 1)).reshape(-1, 3), "labeled_classes": labeled}
    picks = select("galaxy", size=30, probs=probs_NC, **arrays)
    by_margin = select("margin", size=30, probs=probs_NC)
    np.testing.assert_array_equal(picks.indices, by_margin.indices)
    np.testing.assert_allclose(picks.scores, by_margin.scores)


def test_refusals() -> None:
    probs = np.full((4, 2), 0.5)
    for arrays, reason in (
        ({"labeled_probs": probs, "labeled_classes": [0, 1, 2, 0]}, "CLASS_OUT_OF_RANGE"),
        ({"labeled_probs": probs, "labeled_classes": [0, 1]}, "INVALID_ARRAY"),
        ({"labeled_probs": np.full((2, 3), 0.3), "labeled_classes": [0, 1]}, "INVALID_ARRAY"),
    ):
        with pytest.raises(StrategyError) as caught:
            select("galaxy", size=1, probs=probs, **arrays)
        assert caught.value.reason == reason
