"""Heads for numbers: the ridge solution, its strength, its committee and its units."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import Ridge, RidgeCV

from assay.server.adapters.torch_head import ridge
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.metrics import HeadMetrics
from assay.server.core.records.models import NumberTargets, TrainedHead
from assay.server.core.records.tasks import TaskKind
from tests.models.test_heads import HEADS, train_on

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.float64]]
UNITS = np.array([1.0, 1e-6, 1e7])


def numbers(count: int = 200, dimension: int = 10, seed: int = 0) -> Data:
    """Three numbers in very different units, which embeddings explain well, less and not at all."""
    rng = np.random.default_rng(seed)
    embeddings_ND = (rng.standard_normal((count, dimension)) * np.geomspace(1, 0.1, dimension)).astype(np.float32)
    signal_NT = embeddings_ND @ rng.standard_normal((dimension, 3)) * np.array([1.0, 1.0, 0.0])
    noise_NT = rng.standard_normal((count, 3)) * np.array([0.1, 1.0, 1.0])
    return embeddings_ND, (signal_NT + noise_NT + np.array([3.0, -2.0, 50.0])) * UNITS


def train(data: Data, weights_N: npt.NDArray[np.float64] | None = None, **changes: Any) -> TrainedHead:
    return train_on(data[0], NumberTargets(data[1]), weights_N=weights_N, **changes)


def predict(head: TrainedHead, embeddings_ND: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    out_NT = np.empty((len(embeddings_ND), head.weights.bias_KC.shape[1]), np.float32)
    HEADS.predict(head.weights, embeddings_ND, out_NT)
    return out_NT


@pytest.mark.parametrize("step_by_step", [False, True])
@pytest.mark.parametrize(("count", "dimension"), [(20, 30), (200, 10)])
def test_optimum_is_scikit_learns(
    count: int, dimension: int, step_by_step: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fewer labels than dimensions, and more; samples that weigh more; embeddings that are too wide to solve for."""
    if step_by_step:
        monkeypatch.setattr(ridge, "CORRELATE_AT_MOST", 1)
    x, y = numbers(count, dimension)
    weights_N = np.random.default_rng(1).uniform(0.5, 2.0, count)
    head = train((x, y), weights_N, l2=0.03)
    reference = Ridge(alpha=0.03 * weights_N.sum()).fit(x.astype(np.float64), y / UNITS, sample_weight=weights_N)
    np.testing.assert_allclose(predict(head, x) / UNITS, reference.predict(x.astype(np.float64)), atol=1e-4)
    assert head.info.kind is TaskKind.REGRESSION
    assert head.info.l2 == 0.03


def test_strength_is_as_good_as_scikit_learns() -> None:
    x, y = numbers(1_200, 40)
    head = train((x[:150], y[:150]))
    reference = RidgeCV(alphas=np.geomspace(1e-4, 1e4, 60)).fit(x[:150].astype(np.float64), (y / UNITS)[:150])
    truth_NT = (y / UNITS)[150:]
    ours = np.square(predict(head, x[150:]) / UNITS - truth_NT).mean()
    assert ours <= 1.05 * np.square(reference.predict(x[150:].astype(np.float64)) - truth_NT).mean()


def test_held_out_quality_is_that_on_fresh_samples() -> None:
    x, y = numbers(2_000)
    head = train((x[:400], y[:400]))
    error_NT = predict(head, x[400:]) - y[400:]
    assert head.info.metrics.samples == 400
    for number, fresh_N, truth_N in zip(head.info.metrics.classes, error_NT.T, y[400:].T, strict=True):
        scores = {name: score.value for name, score in number.scores.items() if score is not None}
        assert scores["rmse"] == pytest.approx(float(np.sqrt(np.square(fresh_N).mean())), rel=0.15)
        assert scores["mae"] == pytest.approx(float(np.abs(fresh_N).mean()), rel=0.15)
        assert scores["r2"] == pytest.approx(1 - float(np.square(fresh_N).mean() / truth_N.var()), abs=0.1)
    assert (head.held_M == np.arange(400)).all()
    np.testing.assert_allclose(head.predictions_MC / UNITS, predict(head, x[:400]) / UNITS, atol=0.4)


def test_noise_is_met_by_its_mean() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((120, 60)).astype(np.float32), rng.standard_normal((120, 1))
    head = train((x, y))
    assert predict(head, rng.standard_normal((500, 60)).astype(np.float32)).std() < 0.25
    assert head.info.metrics.value("r2") == pytest.approx(0.0, abs=0.1)


def test_committee_spreads_where_little_is_known() -> None:
    x, y = numbers(60)
    head = train((x, y), l2=1e-4, members=8)
    far = np.concatenate([x[:20], 10 * x[:20]])
    values_KNT = HEADS.predict_members(head.weights, far, 3)
    assert values_KNT.shape == (8, 40, 3)
    spread_NT = values_KNT.std(axis=0)
    assert (spread_NT[20:].mean(axis=0) > 3 * spread_NT[:20].mean(axis=0)).all()
    np.testing.assert_allclose(values_KNT[0], predict(head, far), rtol=1e-6)
    decoded = HEADS.decode(io.BytesIO(HEADS.encode(head.weights)))
    assert decoded.kind is TaskKind.REGRESSION
    assert decoded.thresholds_C is None
    assert np.array_equal(decoded.bias_KC, head.weights.bias_KC)


def test_constant_numbers_and_constant_embeddings() -> None:
    x, y = numbers(30)
    y[:, 0] = 7.0
    head = train((x, y))
    np.testing.assert_allclose(predict(head, 5 * x)[:, 0], 7.0, rtol=1e-6)
    assert head.info.metrics.classes[0].scores["r2"] is None
    flat = train((np.ones_like(x), y), l2=0.1)
    np.testing.assert_allclose(predict(flat, np.ones_like(x[:1]))[0] / UNITS, (y / UNITS).mean(axis=0), rtol=1e-5)


def test_two_labels_and_one() -> None:
    x, y = numbers(2)
    assert np.isfinite(predict(train((x, y)), x)).all()
    with pytest.raises(AssayError) as caught:
        train((x[:1], y[:1]))
    assert caught.value.reason is Reason.TOO_FEW_LABELS
    assert HeadMetrics(0).value("r2") is None


def test_numbers_beyond_float32() -> None:
    x, y = numbers(30)
    assert np.isfinite(predict(train((x, y * 1e25), l2=0.1), x)).all()
    with pytest.raises(AssayError) as caught:
        train((x, y * 1e200), l2=0.1)
    assert caught.value.reason is Reason.NOT_FINITE
