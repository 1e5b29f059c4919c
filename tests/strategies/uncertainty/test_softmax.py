"""The softmax scorers and their kernel against plain formulas, from logits and from probabilities."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assay.strategies import Candidates, Need, StrategyError, score
from assay.strategies.kernels import fused
from assay.strategies.kernels.tensors import alone, borrow, spread
from tests.strategies import references
from tests.strategies.uncertainty import formulas

LOGITS = hnp.arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 7)), elements=st.floats(-30, 30, width=32))


def from_logits(measure: str, logits: np.ndarray) -> np.ndarray:
    return fused.from_logits(logits.astype(np.float32), {measure})[measure]


def from_probs(measure: str, probs: np.ndarray) -> np.ndarray:
    return fused.from_probs(probs.astype(np.float32), {measure})[measure]


def test_hand_made_probabilities() -> None:
    probs = np.array([[1, 0, 0], [0.5, 0.5, 0], [0.6, 0.3, 0.1]], np.float32)
    np.testing.assert_allclose(score("least_confidence", probs=probs), [0, 0.5, 0.4], atol=1e-7)
    np.testing.assert_allclose(score("margin", probs=probs), [0, 1, 0.7], atol=1e-7)
    np.testing.assert_allclose(score("ratio", probs=probs), [0, 1, 0.5], atol=1e-7)
    np.testing.assert_allclose(score("entropy", probs=probs), [0, np.log(2), 0.8979457], atol=1e-6)


def test_hand_made_logits() -> None:
    logits = np.log(np.array([[1, 1, 1, 1], [8, 1, 1, 1e-9], [2, 2, 1, 1]], np.float32))
    np.testing.assert_allclose(score("least_confidence", logits=logits), [0.75, 0.2, 2 / 3], atol=1e-6)
    np.testing.assert_allclose(score("margin", logits=logits), [1, 0.3, 1], atol=1e-6)
    np.testing.assert_allclose(score("ratio", logits=logits), [1, 0.125, 1], atol=1e-6)
    np.testing.assert_allclose(score("entropy", logits=logits), [np.log(4), 0.6390318, 1.3296614], atol=1e-6)


@given(LOGITS)
def test_logits_match_the_formulas(logits: np.ndarray) -> None:
    expected = formulas.uncertainty(references.softmax(logits))
    for measure, scores in fused.from_logits(logits, fused.MEASURES).items():
        np.testing.assert_allclose(scores, expected[measure], atol=2e-6)


@given(LOGITS)
def test_probabilities_match_the_formulas(logits: np.ndarray) -> None:
    probs = references.softmax(logits).astype(np.float32)
    expected = formulas.uncertainty(probs)
    for measure, scores in fused.from_probs(probs, fused.MEASURES).items():
        np.testing.assert_allclose(scores, expected[measure], atol=2e-6)


@pytest.mark.parametrize("classes", [2, 3, 20, 100])
def test_many_blocks_match_scipy_and_numpy(classes: int) -> None:
    logits = np.random.default_rng(classes).normal(0, 3, (1_200_000 // classes, classes)).astype(np.float32)
    probs = scipy.special.softmax(logits.astype(np.float64), axis=1)
    second, first = np.partition(probs, -2, axis=1)[:, -2:].T
    scores = fused.from_logits(logits, fused.MEASURES)
    np.testing.assert_allclose(scores["least_confidence"], 1 - first, atol=1e-6)
    np.testing.assert_allclose(scores["margin"], 1 - (first - second), atol=1e-6)
    np.testing.assert_allclose(scores["ratio"], second / first, rtol=1e-5)
    np.testing.assert_allclose(scores["gradient_length"], formulas.gradient_length(probs), atol=1e-6)
    np.testing.assert_allclose(scores["entropy"], scipy.stats.entropy(probs, axis=1), atol=2e-6)


def test_one_pass_gives_what_separate_passes_give() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (500, 9)).astype(np.float32)
    together = fused.from_logits(logits, fused.MEASURES)
    for measure in fused.MEASURES:
        np.testing.assert_allclose(fused.from_logits(logits, [measure])[measure], together[measure], rtol=1e-6)


def test_a_temperature_leaves_the_order_by_ratio() -> None:
    logits = np.random.default_rng(3).normal(0, 3, (300, 6)).astype(np.float32)
    np.testing.assert_array_equal(
        np.argsort(score("ratio", logits=logits)), np.argsort(score("ratio", logits=logits / 4))
    )


def test_confident_samples_keep_their_order() -> None:
    """1 - p1 in float32 would be 0 from a gap of 17 on."""
    gaps = np.arange(15, 80, dtype=np.float32)
    for classes in (2, 3):
        logits = np.zeros((len(gaps), classes), np.float32)
        logits[:, 0] = gaps
        for scores in fused.from_logits(logits, fused.MEASURES).values():
            assert (np.diff(scores) < 0).all()
            assert (scores > 0).all()


def test_ties_at_the_top() -> None:
    logits = np.array([[5, 5, 0], [5, 5, 5]], np.float32)
    np.testing.assert_allclose(score("margin", logits=logits), [1, 1])
    np.testing.assert_allclose(score("least_confidence", logits=logits)[1], 2 / 3, rtol=1e-6)
    np.testing.assert_allclose(score("margin", probs=np.full((1, 4), 0.25)), [1])


@pytest.mark.parametrize("scale", [1e4, 1e30, 3e38])
@pytest.mark.parametrize("classes", [2, 3])
def test_logits_of_any_size_are_safe(scale: float, classes: int) -> None:
    logits = np.array([[scale, -scale, 0][:classes], [-scale, -scale, -scale][:classes]], np.float32)
    scores = fused.from_logits(logits, fused.MEASURES)
    np.testing.assert_allclose(scores["margin"], [0, 1])
    np.testing.assert_allclose(scores["least_confidence"], [0, 1 - 1 / classes], rtol=1e-6)
    np.testing.assert_allclose(scores["entropy"], [0, np.log(classes)], rtol=1e-6)


def test_one_class_is_certain() -> None:
    for measure in fused.MEASURES:
        np.testing.assert_array_equal(from_logits(measure, np.array([[3], [-4]])), [0, 0])
        np.testing.assert_array_equal(from_probs(measure, np.ones((2, 1))), [0, 0])


def test_no_samples_have_no_scores() -> None:
    assert score("margin", logits=np.empty((0, 3))).shape == (0,)
    assert score("margin", probs=np.empty((0, 3))).shape == (0,)


def test_no_classes_are_refused() -> None:
    for name in ("logits", "probs"):
        with pytest.raises(StrategyError) as caught:
            score("margin", **{name: np.empty((3, 0))})
        assert caught.value.reason == "INVALID_ARRAY"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("classes", [2, 5])
def test_logits_that_are_not_finite_are_refused(bad: float, classes: int) -> None:
    logits = np.zeros((400_000, classes), np.float32)
    logits[-2, 1] = bad
    with pytest.raises(StrategyError) as caught:
        score("margin", logits=logits)
    assert caught.value.reason == "NOT_FINITE"


@pytest.mark.parametrize("row", [[0.5, 0.4], [0.6, 0.6], [1.1, -0.1], [np.nan, 1], [np.inf, 0], [0, 0]])
def test_rows_that_are_no_probabilities_are_refused(row: list[float]) -> None:
    probs = np.array([[0.5, 0.5], row], np.float32)
    for measure in fused.MEASURES:
        with pytest.raises(StrategyError) as caught:
            from_probs(measure, probs)
        assert caught.value.reason == "PROBABILITIES_INVALID"


def test_rounded_probabilities_are_accepted() -> None:
    np.testing.assert_allclose(score("margin", probs=np.array([[0.3333, 0.3333, 0.3333]])), [1], atol=1e-6)


def test_logits_are_used_where_there_are_both() -> None:
    logits = np.array([[2, 0, -1]], np.float32)
    scores = score("margin", logits=logits, probs=np.full((1, 3), 1 / 3))
    np.testing.assert_array_equal(scores, score("margin", logits=logits))


def test_mapped_files_are_read_in_place(tmp_path: Path) -> None:
    logits = np.random.default_rng(0).normal(0, 1, (1000, 4)).astype(np.float32)
    logits.tofile(tmp_path / "logits.bin")
    mapped = np.memmap(tmp_path / "logits.bin", np.float32, "r", shape=logits.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert borrow(mapped).data_ptr() == mapped.ctypes.data
        scores = get_margin(mapped)
    np.testing.assert_array_equal(scores, get_margin(logits))


@pytest.mark.parametrize("view", ["transposed", "reversed", "strided", "columns"])
def test_any_memory_layout_gives_the_same(view: str) -> None:
    base = np.random.default_rng(0).normal(0, 1, (40, 40)).astype(np.float32)
    views = {"transposed": base.T, "reversed": base[::-1], "strided": base[::3, ::2], "columns": base[:, 3:9]}
    np.testing.assert_array_equal(get_margin(views[view]), get_margin(views[view].copy()))


def get_margin(logits: np.ndarray) -> np.ndarray:
    logits.flags.writeable = False
    return fused.from_logits(Candidates(len(logits), {Need.LOGITS: logits}).logits_NC, ["margin"])["margin"]


def test_threads_are_single_and_torch_elsewhere_is_left_alone() -> None:
    before = torch.get_num_threads()
    inside: list[int] = []

    def count(start: int, stop: int) -> None:
        torch.ones(300, 300) @ torch.ones(300, 300)
        inside.append(torch.get_num_threads())

    spread(count, 8, 1)
    alone(lambda: spread(count, 8, 1))
    alone(lambda: count(0, 1))
    fresh: list[int] = []
    thread = threading.Thread(target=lambda: fresh.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert inside == [1] * 17
    assert [torch.get_num_threads(), *fresh] == [before, before]


def test_spread_covers_everything_once_and_raises_what_a_block_raises() -> None:
    touched = np.zeros(1003, np.int64)

    def add(start: int, stop: int) -> None:
        touched[start:stop] += 1

    spread(add, 1003, 10)
    assert (touched == 1).all()

    def fail(start: int, stop: int) -> None:
        if start == 20:
            raise StrategyError("NOT_FINITE", "block 20")

    with pytest.raises(StrategyError, match="block 20"):
        spread(fail, 1003, 10)


@pytest.mark.parametrize("size", [39, 80, 141])
@pytest.mark.parametrize("measure", fused.MEASURES)
@pytest.mark.parametrize("measured", [from_logits, from_probs])
def test_copies_score_alike_wherever_they_are(
    measured: Callable[[str, np.ndarray], np.ndarray], measure: str, size: int
) -> None:
    rows_RC = scipy.special.softmax(np.random.default_rng(1).normal(0, 2, (40, 6)), axis=1)
    for row_C in rows_RC:
        assert len(np.unique(measured(measure, np.tile(row_C, (size, 1))))) == 1
