"""A head is the same on every processor and for every number of threads: to 1e-4 in its probabilities.

What a processor may do is asked for by the environment of a process of its own: vectors of other lengths in torch, in
its matrix library and in oneDNN, and other numbers of threads all sum in another order.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from assay.server.adapters.torch_head import TorchHeads
from assay.server.core.records.models import ClassTargets, HeadInfo, NumberTargets, SetTargets, Targets

Data = tuple[npt.NDArray[np.float32], npt.NDArray[np.int32]]

PROCESSORS = {
    "old": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "MKL_CBWR": "COMPATIBLE",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "OMP_NUM_THREADS": "1",
    },
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "OMP_NUM_THREADS": "2",
        "OMP_WAIT_POLICY": "PASSIVE",  # threads that wait for each other do not spin on a busy machine
    },
}
PROGRAM = """
import sys
import numpy as np
from assay.server.adapters.torch_head import heads
from tests.models.test_processors import everything
heads._SMALL = int(sys.argv[2])
np.savez(sys.argv[1], **everything())
"""


def blobs(count: int, classes: int, dimension: int, apart: float, seed: int) -> Data:
    rng = np.random.default_rng(seed)
    classes_N = rng.permutation(np.arange(count) % classes)
    centres_CD = apart * rng.standard_normal((classes, dimension))
    scale_D = np.geomspace(1, 0.05, dimension)
    embeddings_ND = scale_D * (centres_CD[classes_N] + rng.standard_normal((count, dimension)))
    return embeddings_ND.astype(np.float32), classes_N.astype(np.int32)


POOLS = {
    "ten_labels": blobs(10, 3, 16, 0.7, 0),
    "fewer_than_dimensions": blobs(40, 4, 64, 0.4, 1),
    "hard": blobs(150, 4, 16, 0.3, 2),
    "separable": blobs(60, 3, 12, 4.0, 3),
    "many_classes": blobs(120, 40, 16, 2.0, 4),
}


def train(data: Data, **changes: Any) -> tuple[npt.NDArray[np.float32], HeadInfo]:
    """Probabilities [K, N, C] of the labeled samples, and what is known of the head."""
    options: dict[str, Any] = {"l2": None, "balanced": False, "members": 1, "seed": 0}
    heads = TorchHeads()
    trained = heads.train(
        data[0],
        ClassTargets(data[1].astype(np.int64), int(data[1].max()) + 1),
        folds=5,
        progress=lambda done, total: None,
        stop=lambda: False,
        **{**options, **changes},
    )
    weights = trained.weights
    return heads.predict_members(weights, data[0], weights.bias_KC.shape[1]), trained.info


def everything() -> dict[str, npt.NDArray[Any]]:
    """Probabilities and strengths of heads on every pool, and of a balanced committee."""
    found: dict[str, npt.NDArray[Any]] = {}
    for name, data in POOLS.items():
        found[name], info = train(data)
        found[f"{name} l2"] = np.array(info.l2)
    found["committee"], _ = train(POOLS["hard"], balanced=True, members=3)
    found["sets"], found["sets l2"], found["thresholds"] = sets()
    found["numbers"], found["numbers l2"], _ = head_of(
        NumberTargets(np.sin(POOLS["hard"][0][:, :2].astype(np.float64)))
    )
    return found


def sets() -> tuple[npt.NDArray[Any], ...]:
    """A committee for sets of classes, of which one is rare."""
    classes_N = POOLS["hard"][1]
    members_NC = classes_N[:, None] == np.arange(4)
    members_NC |= members_NC[:, ::-1] & (np.arange(150) % 3 == 0)[:, None]
    members_NC[:, 3] = np.arange(150) % 50 == 0
    return head_of(SetTargets(members_NC), balanced=True)


def head_of(targets: Targets, balanced: bool = False) -> tuple[npt.NDArray[Any], ...]:
    """What a committee says of the samples, its strength, and its thresholds if it has any."""
    embeddings_ND = POOLS["hard"][0]
    heads = TorchHeads()
    head = heads.train(
        embeddings_ND,
        targets,
        l2=None,
        balanced=balanced,
        members=2,
        folds=5,
        seed=0,
        progress=lambda done, total: None,
        stop=lambda: False,
    )
    thresholds_C = np.zeros(0) if head.weights.thresholds_C is None else head.weights.thresholds_C
    columns = head.weights.bias_KC.shape[1]
    return heads.predict_members(head.weights, embeddings_ND, columns), np.array(head.info.l2), thresholds_C


@pytest.fixture(scope="module")
def here() -> dict[str, npt.NDArray[Any]]:
    return everything()


@pytest.mark.parametrize(
    ("processor", "small"),
    [pytest.param("old", 10**9, marks=pytest.mark.slow, id="one_thread"), pytest.param("avx2", 0, id="two_threads")],
)
def test_heads_are_those_of_another_processor(
    processor: str, small: int, here: dict[str, npt.NDArray[Any]], tmp_path: Path
) -> None:
    environment = os.environ | PROCESSORS[processor]
    there_path = tmp_path / "there.npz"
    subprocess.run([sys.executable, "-c", PROGRAM, there_path, str(small)], env=environment, check=True, timeout=240)
    with np.load(there_path) as there:
        assert set(there) == set(here)
        for name, values in here.items():
            np.testing.assert_allclose(there[name], values, rtol=1e-9 if name.endswith("l2") else 0, atol=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_ten_labels_see_no_rounding(seed: int) -> None:
    """Other axes, and embeddings that differ by what another processor's backbone rounds: strength and head stay."""
    rng = np.random.default_rng(seed)
    embeddings_ND, classes_N = blobs(10 + seed, 3, 16, 0.7, seed)
    probs_KNC, info = train((embeddings_ND, classes_N), seed=seed)
    axes_DD = np.linalg.qr(rng.standard_normal((16, 16)))[0]
    noise_ND = 1e-7 * np.abs(embeddings_ND).max() * rng.standard_normal(embeddings_ND.shape)
    turned_ND = (embeddings_ND + noise_ND) @ axes_DD
    turned_KNC, info_turned = train((turned_ND.astype(np.float32), classes_N), seed=seed)
    assert info_turned.l2 == pytest.approx(info.l2, rel=1e-5)
    assert info_turned.temperature == pytest.approx(info.temperature, rel=1e-4)
    np.testing.assert_allclose(turned_KNC, probs_KNC, atol=1e-4)


@pytest.mark.parametrize("l2", [None, 1e-6, 1e-3, 1.0])
def test_order_of_the_dimensions_changes_nothing(l2: float | None) -> None:
    embeddings_ND, classes_N = POOLS["fewer_than_dimensions"]
    probs_KNC, _ = train((embeddings_ND, classes_N), l2=l2)
    turned_KNC, _ = train((np.ascontiguousarray(embeddings_ND[:, ::-1]), classes_N), l2=l2)
    np.testing.assert_allclose(turned_KNC, probs_KNC, atol=1e-5)
