"""Heads trained on labels: the optimum, its calibration, committees, files and use."""

import io
import mmap
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression

from assay.server.adapters.torch_head import TorchHeads
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.models import ClassTargets, HeadInfo, HeadWeights, Targets, TrainedHead
from assay.server.core.records.tasks import TaskKind

HEADS = TorchHeads()
Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]


def train(data: Data, class_count: int, **changes: Any) -> tuple[HeadWeights, HeadInfo]:
    embeddings_ND, classes_N = data
    trained = train_on(embeddings_ND, ClassTargets(classes_N.astype(np.int64), class_count), **changes)
    return trained.weights, trained.info


def train_on(embeddings_ND: npt.NDArray[np.float32], targets: Targets, **changes: Any) -> TrainedHead:
    options: dict[str, Any] = {
        "l2": None,
        "balanced": False,
        "members": 1,
        "folds": 5,
        "seed": 0,
        "progress": lambda done, total: None,
        "stop": lambda: False,
    }
    return HEADS.train(embeddings_ND, targets, **{**options, **changes})


def probs(weights: HeadWeights, embeddings_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return members(weights, embeddings_ND)[0]


def members(weights: HeadWeights, embeddings_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return HEADS.predict_members(weights, embeddings_ND, weights.bias_KC.shape[1])


def value(info: HeadInfo, measure: str) -> float:
    found = info.metrics.value(measure)
    assert found is not None
    return found


def blobs(count: int, classes: int, dimension: int = 8, spread: float = 1.0, seed: int = 0) -> Data:
    rng = np.random.default_rng(seed)
    classes_N = np.arange(count) % classes
    centres_CD = 3 * rng.standard_normal((classes, dimension))
    embeddings_ND = centres_CD[classes_N] + spread * rng.standard_normal((count, dimension))
    return embeddings_ND.astype(np.float32), classes_N.astype(np.int32)


def digits(count: int) -> Data:
    x, y = load_digits(return_X_y=True)
    return x[:count].astype(np.float32), y[:count].astype(np.int32)


def cancer() -> Data:
    x, y = load_breast_cancer(return_X_y=True)
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), y.astype(np.int32)


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("count", "l2"), [(40, 0.1), (200, 0.3)])
def test_optimum_is_scikit_learns(count: int, l2: float, balanced: bool) -> None:
    """Fewer labels (40) than dimensions (64), and more."""
    x, y = digits(count)
    x, y = x[y != 9], y[y != 9]
    weights, info = train((x, y), 10, l2=l2, balanced=balanced)
    reference = LogisticRegression(
        C=1 / (len(y) * l2), class_weight="balanced" if balanced else None, tol=1e-7, max_iter=10_000
    ).fit(x.astype(np.float64), y)
    found_CD = weights.weights_KDC[0].T[:9] * info.temperature
    np.testing.assert_allclose(found_CD, reference.coef_, atol=1e-3 * np.abs(reference.coef_).max())
    served = torch.softmax(torch.from_numpy(reference.decision_function(x) / info.temperature), dim=1).numpy()
    np.testing.assert_allclose(probs(weights, x)[:, :9], served, atol=1e-4)


def test_two_classes_are_scikit_learns() -> None:
    """A softmax over two classes spreads the weights evenly, so its penalty is half that of one sigmoid."""
    x, y = cancer()
    weights, info = train((x, y), 2, l2=0.01)
    reference = LogisticRegression(C=2 / (len(y) * 0.01), tol=1e-9, max_iter=10_000).fit(x.astype(np.float64), y)
    difference_D = (weights.weights_KDC[0, :, 1] - weights.weights_KDC[0, :, 0]) * info.temperature
    np.testing.assert_allclose(difference_D, reference.coef_[0], atol=1e-3)


def test_chosen_strength_is_about_as_good_as_any() -> None:
    x, y = digits(1000)
    mixed = np.random.default_rng(0).permutation(1000)
    known, rest = mixed[:300], mixed[300:]
    weights, info = train((x[known], y[known]), 10)
    accuracy = (probs(weights, x[rest]).argmax(axis=1) == y[rest]).mean()
    fits = (LogisticRegression(C=1 / (300 * l2), max_iter=300).fit(x[known], y[known]) for l2 in (0.01, 0.1, 1.0, 10.0))
    assert accuracy >= max(fit.score(x[rest], y[rest]) for fit in fits) - 0.02
    assert info.metrics.samples == 300
    assert abs(value(info, "accuracy") - accuracy) < 0.05


def test_held_out_quality_is_honest_on_noise() -> None:
    """Random labels: no better than chance, and the probabilities say so."""
    rng = np.random.default_rng(0)
    data = rng.standard_normal((400, 50)).astype(np.float32), rng.integers(0, 4, 400).astype(np.int32)
    _, info = train(data, 4)
    assert abs(value(info, "accuracy") - 0.25) < 0.1
    assert abs(value(info, "log_loss") - np.log(4)) < 0.1
    assert value(info, "calibration_error") < 0.12


def test_class_without_labels_has_almost_no_probability() -> None:
    data = blobs(60, 3)
    weights, info = train((data[0], data[1] * 2), 6)  # classes 0, 2, 4 of 6
    assert info.classes_seen == 3
    far = 100 * np.random.default_rng(1).standard_normal((50, 8)).astype(np.float32)
    for embeddings_ND in (data[0], far):
        assert probs(weights, embeddings_ND)[:, [1, 3, 5]].max() < 1e-12
    assert np.isfinite(weights.weights_KDC).all()
    assert np.isfinite(weights.bias_KC).all()


@pytest.mark.parametrize("labels", [[], [3], [3, 3, 3]])
def test_too_few_classes(labels: list[int]) -> None:
    with pytest.raises(AssayError) as caught:
        train((np.ones((len(labels), 4), np.float32), np.array(labels, np.int32)), 5)
    assert caught.value.reason is Reason.TOO_FEW_CLASSES
    assert caught.value.metadata == {"labels": str(len(labels)), "classes_seen": str(len(set(labels)))}


@pytest.mark.parametrize("l2", [None, 0.5])
def test_one_sample_per_class_holds_nothing_out(l2: float | None) -> None:
    data = blobs(3, 3)
    weights, info = train(data, 3, l2=l2)
    assert info.metrics == HeadMetrics(0)
    assert info.metrics.value("accuracy") is None
    assert info.temperature == 1.0
    assert l2 is None or info.l2 == l2
    assert probs(weights, data[0]).argmax(axis=1).tolist() == [0, 1, 2]


def test_lone_sample_of_a_class_always_trains() -> None:
    x, y = blobs(21, 2)
    y[20] = 2
    _, info = train((x, y), 3)
    assert info.metrics.samples == 20


@pytest.mark.parametrize("l2", [None, 0.0])
def test_separable_data_stays_finite(l2: float | None) -> None:
    data = blobs(100, 4, spread=0.01)
    weights, info = train(data, 4, l2=l2)
    assert value(info, "accuracy") == 1.0
    assert np.abs(weights.weights_KDC).max() < 1e4
    assert probs(weights, data[0]).argmax(axis=1).tolist() == data[1].tolist()


def test_constant_embeddings_give_class_frequencies() -> None:
    y = np.array([0] * 30 + [1] * 10, np.int32)
    weights, info = train((np.full((40, 5), 2.0, np.float32), y), 2, l2=1.0)
    expected = torch.softmax(torch.tensor([0.75, 0.25]).log() / info.temperature, dim=0).numpy()
    np.testing.assert_allclose(probs(weights, np.full((1, 5), 2.0, np.float32))[0], expected, atol=1e-4)


def test_constant_feature_gets_no_weight() -> None:
    x, y = blobs(60, 3)
    x[:, 4] = 7.0
    weights, _ = train((x, y), 3, l2=0.01)
    assert np.abs(weights.weights_KDC[0, 4]).max() < 1e-5


def test_doubled_labels_change_nothing() -> None:
    """The loss is a mean."""
    x, y = digits(200)
    once, info = train((x, y), 10, l2=0.5)
    twice, info_twice = train((np.tile(x, (2, 1)), np.tile(y, 2)), 10, l2=0.5)
    np.testing.assert_allclose(
        twice.weights_KDC * info_twice.temperature, once.weights_KDC * info.temperature, atol=1e-5
    )


def test_shift_of_the_embeddings_changes_nothing() -> None:
    """Embeddings far from the origin are where float32 would fail without centring."""
    x, y = blobs(90, 3)
    near, _ = train((x, y), 3, l2=0.1)
    far, _ = train((x + np.float32(1000), y), 3, l2=0.1)
    np.testing.assert_allclose(far.weights_KDC, near.weights_KDC, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("scale", [1e-12, 1e10])
def test_units_of_the_embeddings_do_not_matter(scale: float) -> None:
    x, y = blobs(90, 3, spread=2.0)
    plain, _ = train((x, y), 3)
    scaled, _ = train((x * np.float32(scale), y), 3)
    np.testing.assert_allclose(probs(scaled, x * np.float32(scale)), probs(plain, x), atol=1e-3)


def test_embeddings_whose_squares_overflow() -> None:
    x, y = blobs(30, 3)
    with pytest.raises(AssayError) as caught:
        train((x * np.float32(1e30), y), 3)
    assert caught.value.reason is Reason.NOT_FINITE


def test_seed_decides() -> None:
    data = digits(150)
    (first, info), (again, info_again), (other, _) = (train(data, 10, members=3, seed=seed) for seed in (7, 7, 8))
    assert np.array_equal(first.weights_KDC, again.weights_KDC)
    assert info == info_again
    assert not np.array_equal(first.weights_KDC[1], other.weights_KDC[1])


def test_committee_disagrees_and_is_led_by_the_plain_head() -> None:
    data = digits(150)
    plain, _ = train(data, 10)
    committee, info = train(data, 10, members=4)
    assert info.members == 4
    assert committee.weights_KDC.shape == (4, 64, 10)
    assert np.array_equal(committee.weights_KDC[0], plain.weights_KDC[0])
    probs_KNC = members(committee, data[0])
    assert probs_KNC.shape == (4, 150, 10)
    np.testing.assert_allclose(probs_KNC.sum(axis=2), 1.0, atol=1e-5)
    assert np.abs(probs_KNC[1:] - probs_KNC[0]).max(axis=(1, 2)).min() > 1e-3


def test_progress_ends_at_its_total_and_stop_stops() -> None:
    seen: list[tuple[int, int]] = []
    train(digits(150), 10, members=2, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (7 * 5 + 2, 7 * 5 + 2)
    seen.clear()
    with pytest.raises(AssayError) as caught:
        train(digits(150), 10, progress=lambda done, total: seen.append((done, total)), stop=lambda: len(seen) >= 3)
    assert caught.value.reason is Reason.CANCELLED
    assert len(seen) == 3


def test_training_leaves_thread_counts_alone() -> None:
    """That of its own thread, and that of threads which start while it runs."""
    torch.set_num_threads(2)
    inside: list[int] = []

    def note(done: int, total: int) -> None:
        with ThreadPoolExecutor(1) as pool:
            inside.append(pool.submit(_threads_after_first_use).result())

    train(blobs(30, 3), 3, l2=1.0, progress=note)
    assert torch.get_num_threads() == 2
    assert set(inside) == {2}


def _threads_after_first_use() -> int:
    torch.ones(2).add_(1)
    return torch.get_num_threads()


def test_file_round_trip() -> None:
    weights, _ = train(blobs(30, 3), 4, members=2)
    decoded = HEADS.decode(io.BytesIO(HEADS.encode(weights)))
    assert np.array_equal(decoded.weights_KDC, weights.weights_KDC)
    assert np.array_equal(decoded.bias_KC, weights.bias_KC)


def test_file_of_0_1_0() -> None:
    """Its header knew no kind."""
    weights, _ = train(blobs(30, 3), 4, members=2)
    body = weights.weights_KDC.astype("<f4").tobytes() + weights.bias_KC.astype("<f4").tobytes()
    old = struct.pack("<8s4I", b"assayhd1", 2, 8, 4, zlib.crc32(body)) + body
    decoded = HEADS.decode(io.BytesIO(old))
    assert decoded.kind is TaskKind.CLASSIFICATION
    assert decoded.thresholds_C is None
    assert np.array_equal(decoded.weights_KDC, weights.weights_KDC)
    assert np.array_equal(decoded.bias_KC, weights.bias_KC)
    for bad in (old[:-1], old[:20], old[:-1] + bytes([old[-1] ^ 1])):
        with pytest.raises(AssayError) as caught:
            HEADS.decode(io.BytesIO(bad))
        assert caught.value.reason is Reason.SEGMENT_DAMAGED


def test_damaged_files() -> None:
    good = HEADS.encode(train(blobs(30, 3), 3)[0])
    huge = good[:12] + b"\xff" * 12 + good[24:]
    unknown = good[:8] + b"\x09" + good[9:]
    flipped = good[:-5] + bytes([good[-5] ^ 1]) + good[-4:]
    for bad in (b"", b"garbage", b"x" * 500, good[:-1], good + b"\0", huge, unknown, flipped):
        with pytest.raises(AssayError) as caught:
            HEADS.decode(io.BytesIO(bad))
        assert caught.value.reason is Reason.SEGMENT_DAMAGED


def test_logits_of_mapped_embeddings_without_a_warning(tmp_path: Path) -> None:
    """Embeddings of a segment are mapped read-only; out may be a part of a larger array."""
    weights, _ = train(blobs(30, 3), 3)
    embeddings_ND = np.random.default_rng(0).standard_normal((1000, 8)).astype(np.float32)
    (tmp_path / "x").write_bytes(embeddings_ND.tobytes())
    with (tmp_path / "x").open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.float32).reshape(1000, 8)
        assert not mapped.flags.writeable
        out_NC = np.full((1002, 3), 5.0, np.float32)
        HEADS.predict(HEADS.decode(io.BytesIO(HEADS.encode(weights))), mapped, out_NC[1:-1])
        np.testing.assert_allclose(
            members(weights, mapped)[0], torch.softmax(torch.from_numpy(out_NC[1:-1]), dim=1), atol=1e-6
        )
    expected_NC = embeddings_ND @ weights.weights_KDC[0] + weights.bias_KC[0]
    np.testing.assert_allclose(out_NC[1:-1], expected_NC, rtol=1e-4, atol=1e-4)
    assert (out_NC[[0, -1]] == 5.0).all()


def test_classes_that_are_newer_than_the_head_are_unseen() -> None:
    """A pool that has got more classes asks for more columns; those of the head stay where they were."""
    data = blobs(60, 3)
    weights, info = train((data[0], data[1] * 2), 5)
    assert info.classes == (0, 2, 4)
    plain_NC, wider_NC = np.empty((60, 5), np.float32), np.full((60, 8), np.nan, np.float32)
    HEADS.predict(weights, data[0], plain_NC)
    HEADS.predict(weights, data[0], wider_NC)
    np.testing.assert_allclose(wider_NC[:, :5], plain_NC, rtol=1e-5, atol=1e-5)
    probs_KNC = HEADS.predict_members(weights, 100 * data[0], 8)
    assert probs_KNC[..., 5:].max() < 1e-12
    np.testing.assert_allclose(probs_KNC.sum(axis=2), 1.0, atol=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_soft_targets_are_scikit_learns_samples_of_every_class(balanced: bool) -> None:
    """A sample that is 0.7 of one class and 0.3 of another is a sample of each, with these weights."""
    x, y = digits(120)
    x, y = x[y < 4], y[y < 4]
    rng = np.random.default_rng(0)
    probs_NC = 0.7 * np.eye(4)[y] + 0.3 * rng.dirichlet(np.ones(4), len(y))
    weights_N = rng.uniform(0.5, 2.0, len(y))
    targets = ClassTargets(probs_NC.argmax(axis=1).astype(np.int64), 6, np.pad(probs_NC, ((0, 0), (0, 2))))
    head = train_on(x, targets, weights_N=weights_N, l2=0.3, balanced=balanced)
    shares_NC = weights_N[:, None] * probs_NC
    if balanced:
        # A sample weighs as its classes do in the mean, and still is of each of them in its share.
        factors_C = shares_NC.sum() / (4 * shares_NC.sum(axis=0))
        shares_NC *= (probs_NC @ factors_C)[:, None]
    reference = LogisticRegression(C=1 / (0.3 * shares_NC.sum()), tol=1e-8, max_iter=10_000).fit(
        np.tile(x.astype(np.float64), (4, 1)), np.repeat(np.arange(4), len(y)), sample_weight=shares_NC.T.ravel()
    )
    logits_NC = reference.decision_function(x) / head.info.temperature
    served = torch.softmax(torch.from_numpy(logits_NC), dim=1).numpy()
    np.testing.assert_allclose(probs(head.weights, x)[:, :4], served, atol=1e-4)
    assert head.info.classes == (0, 1, 2, 3)
    assert probs(head.weights, x)[:, 4:].max() < 1e-12


def test_hard_soft_targets_are_hard_ones() -> None:
    x, y = digits(150)
    classes_N = y.astype(np.int64)
    hard = train_on(x, ClassTargets(classes_N, 10))
    soft = train_on(x, ClassTargets(classes_N, 10, np.eye(10)[y]))
    np.testing.assert_allclose(probs(soft.weights, x), probs(hard.weights, x), atol=1e-5)
    assert soft.info.l2 == hard.info.l2
    np.testing.assert_allclose(soft.predictions_MC, hard.predictions_MC, atol=1e-4)


def test_out_of_fold_predictions_are_those_that_were_measured() -> None:
    x, y = blobs(90, 3, spread=3.0)
    y[0] = 5
    head = train_on(x, ClassTargets(y.astype(np.int64), 6))
    assert head.held_M.tolist() == list(range(1, 90))
    assert head.predictions_MC.shape == (89, 6)
    right_M = head.predictions_MC.argmax(axis=1) == y[1:]
    assert head.info.metrics.value("accuracy") == pytest.approx(float(right_M.mean()))
    chosen_M = head.predictions_MC[np.arange(89), y[1:]]
    assert head.info.metrics.value("log_loss") == pytest.approx(float(-np.log(chosen_M).mean()), rel=1e-5)


def test_block_of_no_rows() -> None:
    weights, _ = train(blobs(30, 3), 3, members=2)
    none = np.empty((0, 8), np.float32)
    HEADS.predict(weights, none, np.empty((0, 3), np.float32))
    assert members(weights, none).shape == (2, 0, 3)
