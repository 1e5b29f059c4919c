"""The simulated labeling: each kind of predictions is learned, measured and reported, each in its own section."""

import numpy as np
import pytest

from assay.strategies import get
from assay.strategies.serving import PredictionKind, serves
from benchmarks.learning import simulate
from benchmarks.learning.data import DataSet
from benchmarks.learning.entries import BASELINE, ENTRIES
from benchmarks.learning.report import PAGE, TITLES, Runs, picture, write
from benchmarks.learning.simulate import Entry, curve


def data_of(kind):
    """Points that a linear head can learn from."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(130, 6)).astype(np.float32)
    scores = points.astype(np.float64) @ rng.normal(size=(6, 3))
    targets = {
        PredictionKind.CLASSES: scores.argmax(axis=1),
        PredictionKind.LABELS: scores > 1,
        PredictionKind.VALUES: scores + rng.normal(0, 0.1, scores.shape),
    }[kind]
    return DataSet("made up", kind, points[:80], targets[:80], points[80:], targets[80:], 1.0, batch=20)


@pytest.mark.parametrize("kind", ENTRIES)
def test_heads_learn_and_strategies_find_what_they_need(kind, monkeypatch):
    monkeypatch.setattr(simulate, "ROUNDS", 2)
    data = data_of(kind)
    curves = {entry.label: curve(data, entry, seed=0) for entry in ENTRIES[kind]}
    assert all(serves(get(entry.strategy), kind) for entry in ENTRIES[kind])
    assert all(len(qualities) == 2 for qualities in curves.values())
    assert curves[BASELINE] == curve(data, Entry(BASELINE, BASELINE), seed=0)
    assert curves[BASELINE][-1] > 0.5


def test_a_kind_replaces_its_own_section_and_no_other(tmp_path):
    def runs(kind, seed):
        qualities = np.random.default_rng(seed).random((2, 6, simulate.ROUNDS))
        return Runs(kind, [BASELINE, "k_center"], {"made up": qualities}, {"made up": 10})

    write(runs(PredictionKind.VALUES, 0), tmp_path)
    write(runs(PredictionKind.CLASSES, 1), tmp_path)
    before = (tmp_path / PAGE).read_text()
    titles = [line[3:] for line in before.splitlines() if line.startswith("## ")]
    assert titles == [TITLES[PredictionKind.CLASSES], TITLES[PredictionKind.VALUES]]
    assert "(6 seeds, 20 labels a round (10 in made up), 15 rounds)" in before
    write(runs(PredictionKind.VALUES, 2), tmp_path)
    after = (tmp_path / PAGE).read_text()
    section = f"## {TITLES[PredictionKind.VALUES]}"
    assert after.split(section)[0] == before.split(section)[0]
    assert after != before
    write(runs(PredictionKind.VALUES, 0), tmp_path)
    assert (tmp_path / PAGE).read_text() == before
    assert (tmp_path / picture(PredictionKind.VALUES)).read_bytes().startswith(b"\x89PNG")
