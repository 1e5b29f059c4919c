"""Times the training of heads: processor time of one thread, and the longest that training goes without asking to stop.

    python benchmarks/heads.py [--against CHECKOUT] [--case NAME ...] [--gaps]

With --against, the heads of another checkout (`git worktree add ../before COMMIT`) are trained on the same labels in
the same run, one after the other, and the ratio of the processor times is printed.
"""

import argparse
import inspect
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
TELLING = 32  # axes along which classes differ
# labels, dimension, classes, and how far apart the centres of classes are, in deviations along an axis
CASES = {
    "few": (200, 64, 5, 0.7),
    "text": (1_000, 384, 20, 0.9),
    "separable": (1_000, 384, 20, 3.0),
    "images": (3_000, 768, 5, 0.6),
    "classes": (10_000, 128, 1_000, 1.5),
    "wide": (10_000, 2_048, 100, 1.2),
    "very many classes": (20_000, 64, 10_000, 3.0),
}
# labels, dimension, and classes of a set or numbers
SETS = {"sets": (10_000, 128, 100), "rare sets": (10_000, 384, 500)}
NUMBERS = {"numbers": (10_000, 384, 8), "wide numbers": (10_000, 2_048, 8)}
HEAD = "labels x dimension x outputs"
USUAL = ("few", "text", "separable", "images", "classes", "sets", "numbers")


def axes(dimension: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal axes, each with less variance than the one before it."""
    scale_D = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    return scale_D[:, None] * np.linalg.qr(rng.standard_normal((dimension, dimension), dtype=np.float32))[0]


def classes_of(count: int, dimension: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with correlated axes and classes that overlap."""
    rng = np.random.default_rng(0)
    classes_N = rng.permutation(np.arange(count) % classes)
    centres_CD = np.zeros((classes, dimension), dtype=np.float32)
    centres_CD[:, :TELLING] = apart * rng.standard_normal((classes, min(TELLING, dimension)))
    noise_ND = rng.standard_normal((count, dimension), dtype=np.float32)
    scale_D = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    axes_DD = np.linalg.qr(rng.standard_normal((dimension, dimension), dtype=np.float32))[0]
    return ((centres_CD[classes_N] + noise_ND) * scale_D) @ axes_DD, classes_N


def signals(count: int, dimension: int, outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with correlated axes, and what they say of so many outputs, of variance 1."""
    rng = np.random.default_rng(0)
    embeddings_ND = rng.standard_normal((count, dimension), dtype=np.float32) @ axes(dimension, rng)
    signal_NT = embeddings_ND.astype(np.float64) @ rng.standard_normal((dimension, outputs))
    return embeddings_ND, signal_NT / signal_NT.std(axis=0)


def sets_of(count: int, dimension: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Sets of classes that half to a hundredth of the samples have."""
    embeddings_ND, signal_NC = signals(count, dimension, classes)
    noise_NC = np.random.default_rng(1).logistic(size=signal_NC.shape)
    thresholds_C = np.quantile(3 * signal_NC + noise_NC, 1 - np.geomspace(0.5, 0.01, classes), axis=0).diagonal()
    return embeddings_ND, 3 * signal_NC + noise_NC > thresholds_C


def given(case: str) -> tuple[np.ndarray, tuple[Any, ...]]:
    """Embeddings, and what their labels are to the heads of this checkout."""
    if case in CASES:
        embeddings_ND, classes_N = classes_of(*CASES[case])
        try:
            from assay.server.core.records.models import ClassTargets
        except ImportError:
            # Heads of before took classes only, as they were.
            return embeddings_ND, (classes_N.astype(np.int32), CASES[case][2])
        return embeddings_ND, (ClassTargets(classes_N, CASES[case][2]),)
    from assay.server.core.records.models import NumberTargets, SetTargets

    if case in SETS:
        embeddings_ND, members_NC = sets_of(*SETS[case])
        return embeddings_ND, (SetTargets(members_NC),)
    embeddings_ND, signal_NT = signals(*NUMBERS[case])
    return embeddings_ND, (NumberTargets(signal_NT + np.random.default_rng(1).standard_normal(signal_NT.shape)),)


def train(case: str, gaps: bool) -> dict[str, Any]:
    """One head in this process."""
    from assay.server.adapters.torch_head import TorchHeads

    embeddings_ND, targets = given(case)
    # Heads of before knew their space.
    older: dict[str, Any] = {"space": "s"} if "space" in inspect.signature(TorchHeads.train).parameters else {}
    asked: list[float] = []

    def stop() -> bool:
        asked.append(time.thread_time())  # dear on some machines, so not while training is timed
        return False

    begun, start = time.thread_time(), time.process_time()
    trained = TorchHeads().train(
        embeddings_ND,
        *targets,
        l2=None,
        balanced=False,
        members=1,
        folds=5,
        seed=0,
        progress=lambda done, total: None,
        stop=stop if gaps else lambda: False,
        **older,
    )
    seconds = time.process_time() - start
    info = trained[1] if isinstance(trained, tuple) else trained.info
    measure = "r2" if case in NUMBERS else "log_loss"
    quality = info.metrics.log_loss if isinstance(trained, tuple) else info.metrics.value(measure)
    gap = float(np.diff([begun, *asked, time.thread_time()]).max())
    return {"seconds": seconds, "gap": gap, "quality": f"{measure} {quality:.4f}", "l2": info.l2}


def measured(case: str, checkout: Path, gaps: bool = False) -> dict[str, Any]:
    """One head in a process of its own, with the code of a checkout."""
    parts = ("server", "strategies", "clients")
    path = os.pathsep.join(str(checkout / part) for part in parts)
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--train", case, *(["--gaps"] if gaps else [])]
    answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def main() -> None:
    every = {**{case: sizes[:3] for case, sizes in CASES.items()}, **SETS, **NUMBERS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to compare with, in heads for classes")
    parser.add_argument("--case", nargs="+", choices=every, default=USUAL)
    parser.add_argument("--train", choices=every, help=argparse.SUPPRESS)
    parser.add_argument("--gaps", action="store_true", help="train once more to see the longest time between two looks")
    arguments = parser.parse_args()
    if arguments.train:
        print(json.dumps(train(arguments.train, arguments.gaps)))
        return
    print(f"{HEAD:30}{'seconds':>9}{'before':>9}{'ratio':>7}{'worst gap':>11}  held-out quality")
    for case in arguments.case:
        now = measured(case, ROOT)
        gap = f"{measured(case, ROOT, gaps=True)['gap']:.3f}" if arguments.gaps else "-"
        comparable = arguments.against and case in CASES
        before = measured(case, arguments.against.resolve()) if comparable else None
        shape = " x ".join(f"{size:,}" for size in every[case])
        was, ratio, quality = "-", "-", ""
        if before:
            was, ratio = f"{before['seconds']:.2f}", f"{now['seconds'] / before['seconds']:.2f}"
            quality = f" (before {before['quality']})"
        print(
            f"{shape:30}{now['seconds']:9.2f}{was:>9}{ratio:>7}{gap:>11}  {now['quality']}{quality}",
            flush=True,
        )


if __name__ == "__main__":
    main()
