"""The benchmark of the strategies: it measures, keeps what it measured, and reports it, beside plain numpy."""

import json
import sys

import numpy as np
import pytest

from benchmarks.strategies import data as datasets
from benchmarks.strategies import quality, report, runs
from benchmarks.strategies.__main__ import main
from benchmarks.strategies.data import Data, Size
from benchmarks.strategies.runs import Outcome
from benchmarks.strategies.works import HERE, OURS, WORKS, Cost, find, named

TOP_K = find("top_k-20000000-1000k")


LIMITS = {
    "processor": "a processor",
    "cores": 2,
    "memory_bytes": 1 << 30,
    "kernel": "6.1",
    "torch": "2.13",
    "f32_flops": 1e11,
    "bf16_flops": 2e11,
    "read_bytes": 1e10,
    "exponentials": 1e9,
}


def settings(folder, **more):
    return runs.Settings({HERE: sys.executable}, folder / "results", folder, LIMITS, say=lambda _: None, **more)


def test_a_work_is_measured_kept_and_reported(tmp_path):
    runs.run(TOP_K, settings(tmp_path, scale=1_000, repeats=1))
    kept = json.loads(runs.result_path(tmp_path / "results", TOP_K).read_text())
    assert kept["size"]["rows"] == 20_000
    assert set(kept["outcomes"]) == {OURS, "torch.topk", "np.argpartition"}
    for outcome in kept["outcomes"].values():
        assert outcome["failure"] == ""
        assert outcome["seconds"][0] > 0
    assert len({outcome["quality"] for outcome in kept["outcomes"].values()}) == 1
    assert kept["growth"]["failure"] == ""
    out = tmp_path / "out"
    main(["--report-only", "--scale", "1000", "--out", str(out), "--results", str(tmp_path / "results")])
    assert (out / "strategy-benchmarks.png").read_bytes().startswith(b"\x89PNG")
    page = (out / "strategy-benchmarks.md").read_text()
    assert "Sizes divided by 1000" in page
    assert "| torch.topk |" in page


def test_a_run_that_takes_too_long_gives_a_lower_bound(tmp_path):
    datasets.save(datasets.make("clustered", Size(5_000, dim=64, picks=5_000), ("embeddings",), 0), tmp_path)
    work = find("k_center-100000-256d-1000k")
    outcome = runs._in_process(work.key, work.peer("numpy loop"), tmp_path, settings(tmp_path), repeats=1, wait_s=0.01)
    assert outcome.failure == "timeout"
    assert runs.describe(outcome) == "did not finish in 0 s"
    line = report.Line(work, work.size, {}, {OURS: Outcome([0.001])}, None)
    assert line.ratio(outcome) == pytest.approx(10)


def test_a_failing_runner_says_why(tmp_path):
    datasets.save(Data(Size(10, picks=50), {"scores": np.zeros(10, np.float32)}), tmp_path)
    outcome = runs._in_process(
        TOP_K.key, TOP_K.peer("np.argpartition"), tmp_path, settings(tmp_path), repeats=1, wait_s=60
    )
    assert outcome.seconds == []
    assert "ValueError" in outcome.failure


def test_ours_before_and_after_the_peers_is_one_result():
    joined = Outcome([1, 3], peak_bytes=5, quality=1.0).joined(Outcome([2], peak_bytes=7, quality=1.0))
    assert joined.median == 2
    assert joined.peak_bytes == 7
    assert Outcome([1]).joined(Outcome(failure="out of memory")).failure == "out of memory"


def test_data_are_the_same_for_a_seed_and_belong_together(tmp_path):
    names = ("embeddings", "probs", "head_weights", "head_bias", "labeled_embeddings", "labeled_probs", "radius")
    made = datasets.make("clustered", Size(500, dim=16, classes=7), names, seed=3)
    datasets.save(made, tmp_path)
    loaded = datasets.load(tmp_path)
    again = datasets.make("clustered", Size(500, dim=16, classes=7), names, seed=3)
    assert loaded.size == made.size
    for name in names:
        assert np.array_equal(loaded[name], again[name])
    logits_NC = made["embeddings"] @ made["head_weights"].T + made["head_bias"]
    assert np.allclose(datasets.softmax(logits_NC), made["probs"], atol=1e-5)
    assert made["embeddings"].shape == (500, 16)
    assert len(made["labeled_embeddings"]) == len(made["labeled_probs"]) > 0


def test_quality_by_hand():
    data = Data(Size(4, dim=1), {"embeddings": np.array([[0], [1], [3], [7]], np.float32), "radius": np.array(2.5)})
    picks = np.array([0, 3])
    assert quality.cover_radius.measure(picks, data) == pytest.approx(3)
    assert quality.mean_squared_distance.measure(picks, data) == pytest.approx(10 / 4)
    assert quality.covered_share.measure(picks, data) == 0.75


def test_quality_in_gradient_space_is_that_of_the_products():
    data = datasets.make("clustered", Size(60, dim=5, classes=4), ("embeddings", "probs"), seed=0)
    residuals_NC = data["probs"] - np.eye(4)[data["probs"].argmax(1)]
    gradients = (residuals_NC[:, :, None] * data["embeddings"][:, None, :]).reshape(60, -1)
    picks = np.array([3, 8, 40])
    nearest_N = ((gradients[:, None] - gradients[picks]) ** 2).sum(-1).min(1)
    assert quality.gradient_spread.measure(picks, data) == pytest.approx(nearest_N.mean(), rel=1e-3)


def test_the_least_time_is_that_of_the_dearest_part():
    cost = Cost(flops=10, bytes=30, exponentials=2)
    assert cost.seconds(10, 10, 1) == 3


def test_works_are_named_once_and_found():
    assert len({work.key for work in WORKS}) == len(WORKS)
    assert all(len({peer.name for peer in work.peers} | {OURS}) == len(work.peers) + 1 for work in WORKS)
    assert {work.name for work in named(["badge"])} == {"badge"}
    with pytest.raises(ValueError, match="no work is named"):
        named(["no_such_work"])
