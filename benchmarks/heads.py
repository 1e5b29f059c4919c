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
HEAD = "labels x dimension x classes"
USUAL = ("few", "text", "separable", "images", "classes")


def labels(count: int, dimension: int, classes: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings with correlated axes and classes that overlap."""
    rng = np.random.default_rng(0)
    classes_N = rng.permutation(np.arange(count) % classes).astype(np.int32)
    centres_CD = np.zeros((classes, dimension), dtype=np.float32)
    centres_CD[:, :TELLING] = apart * rng.standard_normal((classes, min(TELLING, dimension)))
    noise_ND = rng.standard_normal((count, dimension), dtype=np.float32)
    scale_D = np.arange(1, dimension + 1, dtype=np.float32) ** -0.5
    axes_DD = np.linalg.qr(rng.standard_normal((dimension, dimension), dtype=np.float32))[0]
    return ((centres_CD[classes_N] + noise_ND) * scale_D) @ axes_DD, classes_N


def train(case: str, gaps: bool) -> dict[str, Any]:
    """One head in this process."""
    from assay.server.adapters.torch_head import TorchHeads

    embeddings_ND, classes_N = labels(*CASES[case])
    # Heads of before knew their space.
    older: dict[str, Any] = {"space": "s"} if "space" in inspect.signature(TorchHeads.train).parameters else {}
    asked: list[float] = []

    def stop() -> bool:
        asked.append(time.thread_time())  # dear on some machines, so not while training is timed
        return False

    begun, start = time.thread_time(), time.process_time()
    _, info = TorchHeads().train(
        embeddings_ND,
        classes_N,
        CASES[case][2],
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
    return {
        "seconds": seconds,
        "gap": float(np.diff([begun, *asked, time.thread_time()]).max()),
        "accuracy": info.metrics.accuracy,
        "log_loss": info.metrics.log_loss,
        "l2": info.l2,
    }


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, help="another checkout to compare with")
    parser.add_argument("--case", nargs="+", choices=CASES, default=USUAL)
    parser.add_argument("--train", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--gaps", action="store_true", help="train once more to see the longest time between two looks")
    arguments = parser.parse_args()
    if arguments.train:
        print(json.dumps(train(arguments.train, arguments.gaps)))
        return
    print(f"{HEAD:30}{'seconds':>9}{'before':>9}{'ratio':>7}{'worst gap':>11}  held-out log loss")
    for case in arguments.case:
        now = measured(case, ROOT)
        gap = f"{measured(case, ROOT, gaps=True)['gap']:.3f}" if arguments.gaps else "-"
        before = measured(case, arguments.against.resolve()) if arguments.against else None
        shape = " x ".join(f"{size:,}" for size in CASES[case][:3])
        was, ratio, loss = "-", "-", ""
        if before:
            was, ratio = f"{before['seconds']:.2f}", f"{now['seconds'] / before['seconds']:.2f}"
            loss = f" (before {before['log_loss']:.4f})"
        print(
            f"{shape:30}{now['seconds']:9.2f}{was:>9}{ratio:>7}{gap:>11}  {now['log_loss']:.4f}{loss}",
            flush=True,
        )


if __name__ == "__main__":
    main()
