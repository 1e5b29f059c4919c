"""Heads for sets of classes: each class's own optimum, calibration and threshold."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from assay.server.adapters.torch_head.multilabel import known, set_folds
from assay.server.adapters.torch_head.platt import HeldOutSets, Platt, best_threshold, fit_platt
from assay.server.adapters.torch_head.training import kept
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.models import SetTargets, TrainedHead
from assay.server.core.records.tasks import TaskKind
from tests.models.test_heads import HEADS, train_on

Embeddings = npt.NDArray[np.float32]
Sets = npt.NDArray[np.bool_]
NEVER_THERE, ALWAYS_THERE = 4, 5


def sets(count: int = 160, dimension: int = 12, seed: int = 0) -> tuple[Embeddings, Sets]:
    """Four classes of falling frequency, one that nobody has and one that everybody has."""
    rng = np.random.default_rng(seed)
    embeddings_ND = (rng.standard_normal((count, dimension)) * np.geomspace(1, 0.1, dimension)).astype(np.float32)
    logits_NC = 2 * embeddings_ND @ rng.standard_normal((dimension, 4)) - np.array([0, 0.5, 1.5, 2.5])
    members_NC = np.zeros((count, 6), np.bool_)
    members_NC[:, :4] = rng.random((count, 4)) < 1 / (1 + np.exp(-logits_NC))
    members_NC[:, ALWAYS_THERE] = True
    return embeddings_ND, members_NC


def train(data: tuple[Embeddings, Sets], **changes: Any) -> TrainedHead:
    return train_on(data[0], SetTargets(data[1]), **changes)


def probabilities(head: TrainedHead, embeddings_ND: Embeddings, columns: int = 6) -> npt.NDArray[np.float32]:
    out_NC = np.full((len(embeddings_ND), columns), np.nan, np.float32)
    HEADS.predict(head.weights, embeddings_ND, out_NC)
    return out_NC


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("count", "dimension"), [(30, 40), (160, 12)])
def test_each_class_is_at_scikit_learns_optimum(count: int, dimension: int, balanced: bool) -> None:
    """Fewer labels than dimensions, and more. The slope of the calibration is a factor of its own."""
    x, members_NC = sets(count, dimension)
    head = train((x, members_NC), l2=0.02, balanced=balanced)
    assert len(head.info.classes) >= 3
    for c in head.info.classes:
        reference = LogisticRegression(
            C=1 / (count * 0.02), class_weight="balanced" if balanced else None, tol=1e-9, max_iter=10_000
        ).fit(x.astype(np.float64), members_NC[:, c])
        logits_N = reference.decision_function(x.astype(np.float64))
        served_N = x @ head.weights.weights_KDC[0, :, c] + head.weights.bias_KC[0, c]
        slope, offset = np.polyfit(logits_N, served_N, 1)
        assert slope > 0
        expected_N = 1 / (1 + np.exp(-(slope * logits_N + offset)))
        np.testing.assert_allclose(probabilities(head, x)[:, c], expected_N, atol=1e-4)


def test_a_class_ends_where_it_would_alone() -> None:
    x, members_NC = sets()
    together_D = train((x, members_NC), l2=0.01).weights.weights_KDC[0, :, 2]
    alone_D = train((x, members_NC[:, 2:3]), l2=0.01).weights.weights_KDC[0, :, 0]
    # Its calibration comes from folds that are spread otherwise.
    direction_D, alone_D = (weights_D / np.linalg.norm(weights_D) for weights_D in (together_D, alone_D))
    np.testing.assert_allclose(direction_D, alone_D, atol=1e-5)


def test_classes_with_one_outcome_and_newer_ones() -> None:
    x, members_NC = sets()
    head = train((x, members_NC))
    assert head.info.kind is TaskKind.MULTILABEL
    assert head.info.classes == (0, 1, 2, 3)
    probs_NC = probabilities(head, 100 * x, 8)
    np.testing.assert_allclose(probs_NC[:, NEVER_THERE], 0.5 / 161, rtol=1e-4)
    np.testing.assert_allclose(probs_NC[:, ALWAYS_THERE], 1 - 0.5 / 161, rtol=1e-4)
    assert probs_NC[:, 6:].max() < 1e-12
    for columns in ([NEVER_THERE], [ALWAYS_THERE, NEVER_THERE]):
        with pytest.raises(AssayError) as caught:
            train((x, members_NC[:, columns]))
        assert caught.value.reason is Reason.TOO_FEW_CLASSES


def test_held_out_quality_is_that_on_fresh_samples() -> None:
    x, members_NC = sets(2_000)
    head = train((x[:600], members_NC[:600]))
    probs_NC, truth_NC = probabilities(head, x[600:])[:, :4], members_NC[600:, :4]
    assert head.weights.thresholds_C is not None
    said_NC = probs_NC >= head.weights.thresholds_C[:4]
    fresh = f1_score(truth_NC, said_NC, average="macro")
    found = head.info.metrics.value("macro_f1")
    assert found is not None
    assert found == pytest.approx(fresh, abs=0.06)
    assert fresh >= f1_score(truth_NC, probs_NC >= 0.5, average="macro") - 0.02
    chosen_NC = np.where(truth_NC, probs_NC, 1 - probs_NC)
    assert head.info.metrics.value("log_loss") == pytest.approx(float(-np.log(chosen_NC).mean()), abs=0.03)
    assert [each.id for each in head.info.metrics.classes] == [0, 1, 2, 3]
    assert np.abs(probs_NC.mean(axis=0) - truth_NC.mean(axis=0)).max() < 0.05
    assert head.predictions_MC.shape == (600, 6)
    assert (head.held_M == np.arange(600)).all()
    assert np.abs(head.predictions_MC[:, :4] - probabilities(head, x[:600])[:, :4]).mean() < 0.1


def test_random_sets_promise_nothing() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 40)).astype(np.float32)
    head = train((x, rng.random((300, 3)) < 0.3))
    base = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert head.info.metrics.value("log_loss") == pytest.approx(base, abs=0.05)


def test_what_is_said_of_held_out_samples_is_what_was_measured() -> None:
    """Each fold by the thresholds of the others; by those that serve, chosen on the same samples, it looks better."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((120, 5)).astype(np.float32)
    members_NC = rng.random((120, 6)) < 0.2
    head = train((x, members_NC))
    assert head.decided_MC is not None
    true_MC = members_NC[head.held_M]
    measured = head.info.metrics.value("macro_f1")
    assert measured == pytest.approx(f1_score(true_MC, head.decided_MC, average="macro", zero_division=0.0))
    seen_before_MC = head.predictions_MC >= head.weights.thresholds_C
    assert f1_score(true_MC, seen_before_MC, average="macro", zero_division=0.0) > measured


def test_one_sample_with_a_class() -> None:
    """The fold that holds it out knows nothing of the class, and is not asked."""
    x, members_NC = sets(40)
    members_NC = np.zeros((40, 2), np.bool_)
    members_NC[::2, 0] = members_NC[7, 1] = True
    head = train((x, members_NC))
    rare = head.info.metrics.classes[1]
    assert (rare.id, rare.samples, rare.scores["f1"], rare.scores["recall"]) == (1, 0, None, None)
    assert head.weights.thresholds_C is not None
    assert head.weights.thresholds_C[1] == 0.5


def test_two_samples_hold_nothing_out() -> None:
    head = train((np.eye(2, 3, dtype=np.float32), np.array([[True], [False]])))
    assert head.info.metrics == HeadMetrics(0)
    assert head.info.metrics.value("macro_f1") is None
    assert len(head.held_M) == 0
    assert probabilities(head, np.eye(2, 3, dtype=np.float32), 1)[:, 0].round(2).tolist() == pytest.approx(
        [0.5, 0.5], abs=0.5
    )


def test_committee_file_and_seed() -> None:
    data = sets(100)
    head, again = (train(data, l2=0.01, members=3, seed=5) for _ in range(2))
    assert np.array_equal(head.weights.weights_KDC, again.weights.weights_KDC)
    probs_KNC = HEADS.predict_members(head.weights, data[0], 7)
    assert probs_KNC.shape == (3, 100, 7)
    np.testing.assert_allclose(probs_KNC[0], probabilities(head, data[0], 7), atol=1e-6)
    assert np.abs(probs_KNC[1:, :, :4] - probs_KNC[0, :, :4]).max(axis=(1, 2)).min() > 1e-3
    decoded = HEADS.decode(io.BytesIO(HEADS.encode(head.weights)))
    assert decoded.kind is TaskKind.MULTILABEL
    assert decoded.thresholds_C is not None
    assert head.weights.thresholds_C is not None
    assert np.array_equal(decoded.thresholds_C, head.weights.thresholds_C)
    assert np.array_equal(decoded.weights_KDC, head.weights.weights_KDC)


def held_out(logits_N: npt.NDArray[np.float64], has_N: npt.NDArray[np.bool_]) -> HeldOutSets:
    """One class, in one fold."""
    count = len(logits_N)
    return HeldOutSets(
        torch.from_numpy(logits_N[:, None].astype(np.float32)),
        torch.from_numpy(has_N[:, None]),
        torch.zeros(count, dtype=torch.int64),
        torch.ones(count, 1, dtype=torch.float64),
        torch.ones(1, 1, dtype=torch.float64),
        None,
    )


@pytest.mark.parametrize(("slope", "offset"), [(0.25, -1.0), (1.0, 0.0), (5.0, 3.0)])
def test_calibration_undoes_a_slope_and_an_offset(slope: float, offset: float) -> None:
    rng = np.random.default_rng(0)
    logits_N = 2 * rng.standard_normal(8_000)
    has_N = rng.random(8_000) < 1 / (1 + np.exp(-(slope * logits_N + offset)))
    found = fit_platt(held_out(logits_N, has_N), Platt.none(1))
    assert float(found.slope_C) == pytest.approx(slope, rel=0.1)
    assert float(found.offset_C) == pytest.approx(offset, abs=0.3)


@settings(max_examples=30)
@given(
    st.lists(st.tuples(st.floats(-60, 60), st.booleans()), min_size=1, max_size=12),
    st.tuples(st.floats(0.05, 20), st.floats(-30, 30)),
)
def test_calibration_is_at_its_minimum_from_anywhere(
    samples: list[tuple[float, bool]], start: tuple[float, float]
) -> None:
    logits_N, has_N = np.array([z for z, _ in samples]), np.array([has for _, has in samples])
    sets_1 = held_out(logits_N, has_N)
    begun = Platt(*(torch.tensor([each], dtype=torch.float64) for each in start))
    found = fit_platt(sets_1, begun)

    def objective(slope: float, offset: float) -> float:
        platt = Platt(torch.tensor([slope], dtype=torch.float64), torch.tensor([offset], dtype=torch.float64))
        return float(sets_1.losses(platt)) + ((slope - 1) ** 2 + offset**2) / (2 * len(samples))

    slope, offset = float(found.slope_C), float(found.offset_C)
    assert 0.05 - 1e-12 <= slope <= 20 + 1e-12
    here = objective(slope, offset)
    for towards in ((0.01, 0.0), (-0.01, 0.0), (0.0, 0.01), (0.0, -0.01)):
        there = (min(max(slope + towards[0], 0.05), 20.0), offset + towards[1])
        assert here <= objective(*there) + 1e-9


@given(st.lists(st.tuples(st.integers(0, 100), st.booleans()), min_size=1, max_size=30))
def test_threshold_has_the_best_f1_and_is_nearest_to_a_half(samples: list[tuple[int, bool]]) -> None:
    def counts(wanted: bool) -> torch.Tensor:
        return torch.tensor([[sum(has is wanted and bin >= t for bin, has in samples) for t in range(101)]])

    def f1(t: int) -> float:
        right = sum(has and bin >= t for bin, has in samples)
        said = sum(bin >= t for bin, _ in samples)
        there = sum(has for _, has in samples)
        return 2 * right / (said + there) if said + there else 0.0

    found = int(best_threshold(counts(True), counts(False)))
    best = max(f1(t) for t in range(1, 100))
    assert f1(found) == pytest.approx(best, abs=1e-6)
    assert abs(found - 50) == min(abs(t - 50) for t in range(1, 100) if f1(t) >= best - 1e-9)


@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=30), st.integers(2, 6))
def test_folds_spread_the_rarest_class_and_know_what_they_are_asked(members: list[list[bool]], folds: int) -> None:
    has_NC = torch.tensor(members)
    fold_N = set_folds(has_NC, folds, seed=1)
    if (fold_N < 0).all():
        return
    sizes = np.bincount(fold_N)
    assert sizes.max() - sizes.min() <= 1
    known_GC = known(has_NC, kept(fold_N)).numpy()
    for fold, known_C in enumerate(known_GC):
        rest_MC = np.array(members)[fold_N != fold]
        assert known_C.tolist() == (rest_MC.any(axis=0) & ~rest_MC.all(axis=0)).tolist()
