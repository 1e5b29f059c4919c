"""Training asks whether to stop after every little work, and does nothing more once it is told to.

Work is counted by looking at each of torch's operations. Blocks are made small here, so that a small problem has many.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from assay.server.adapters.torch_head import TorchHeads, basis, blocks, scaling
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import ClassTargets, NumberTargets, SetTargets, Targets
from tests.models.test_heads import blobs

ROWS, DIMENSION, CLASSES = 600, 24, 20
LIMIT = 1 << 14  # multiplications of a block
BETWEEN = 5 * LIMIT  # work between two looks at the stop; a whole pass over the samples is at least twice that

CUBIC = {"_linalg_eigh", "linalg_cholesky_ex", "linalg_qr", "_linalg_svd"}
VIEWS = {
    "slice",
    "select",
    "permute",
    "transpose",
    "t",
    "view",
    "_unsafe_view",
    "unsqueeze",
    "expand",
    "detach",
    "alias",
}
PRODUCTS = {"mm", "addmm", "addmm_", "linalg_solve_triangular"}


class Work(TorchDispatchMode):
    """Counts what torch's operations compute: multiplications of matrices, entries of everything else."""

    def __init__(self) -> None:
        super().__init__()
        self.since_asked = 0
        self.names: list[str] = []
        self.most = (0, [""])
        self.asked = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        name = function.__name__.split(".")[0]
        self.since_asked += _work(name, [value for value in (*args, out) if isinstance(value, torch.Tensor)])
        self.names.append(name)
        return out

    def ask(self) -> None:
        self.asked += 1
        self.most = max(self.most, (self.since_asked, self.names))
        self.since_asked, self.names = 0, []


def _work(name: str, tensors: list[torch.Tensor]) -> int:
    if name in CUBIC:
        return max(tensor.shape[-1] ** 3 for tensor in tensors)
    if name in PRODUCTS:
        left, right = tensors[-3:-1]
        return left.shape[0] * left.shape[1] * right.shape[1]
    return 0 if name in VIEWS else max((tensor.numel() for tensor in tensors), default=0)


@pytest.fixture(params=[768, 0], ids=["turned", "factored"])
def small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(basis, "_TURN_AT_MOST", request.param)
    monkeypatch.setattr(scaling, "_PANEL", 8)
    monkeypatch.setattr(blocks, "_ENTRIES", LIMIT // 8)
    monkeypatch.setattr(blocks, "_MULTIPLICATIONS", LIMIT)
    monkeypatch.setattr(blocks, "_FEWEST_ROWS", 8)


def train(stop: Callable[[], bool], kind: str, **changes: Any) -> None:
    options: dict[str, Any] = {"l2": None, "balanced": True, "members": 2, "folds": 2, "seed": 0}
    embeddings_ND, classes_N = blobs(ROWS, CLASSES, DIMENSION, spread=12.0)
    members_NC = classes_N[:, None] == np.arange(CLASSES)
    targets: dict[str, Targets] = {
        "classes": ClassTargets(classes_N.astype(np.int64), CLASSES),
        "sets": SetTargets(members_NC | members_NC[::-1]),
        "numbers": NumberTargets(embeddings_ND[:, :CLASSES] + members_NC),
    }
    TorchHeads().train(
        embeddings_ND,
        targets[kind],
        progress=lambda done, total: None,
        stop=stop,
        **{**options, **changes},
    )


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("kind", ["classes", "sets", "numbers"])
def test_little_is_done_between_two_looks_at_the_stop(kind: str) -> None:
    work = Work()

    def stop() -> bool:
        work.ask()
        return False

    with work:
        train(stop, kind, l2=30.0)
        work.ask()
    assert work.most[0] <= BETWEEN, work.most
    assert BETWEEN <= ROWS * (DIMENSION + 1) * CLASSES / 2


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("kind", "share"),
    [*(("classes", share) for share in np.linspace(0.0, 0.99, 5)), ("sets", 0.5), ("sets", 0.99), ("numbers", 0.9)],
)
def test_nothing_is_done_once_told_to_stop(kind: str, share: float) -> None:
    """Wherever in the training that is: while the basis is made, in a fit, or in the calibration after it."""
    looks = 0

    def count() -> bool:
        nonlocal looks
        looks += 1
        return False

    train(count, kind, l2=30.0)
    last = int(share * looks)
    work = Work()

    def stop() -> bool:
        work.ask()
        return work.asked > last

    with work, pytest.raises(AssayError) as caught:
        train(stop, kind, l2=30.0)
    assert caught.value.reason is Reason.CANCELLED
    assert work.asked <= last + 2  # the look that ends it, and the one that says why
    assert work.since_asked == 0


@pytest.mark.parametrize("size", [1, 7, 128, 300])
def test_factors_are_those_of_one_call(size: int) -> None:
    root = torch.randn(size, size + 5, dtype=torch.float64, generator=torch.manual_seed(0))
    matrix = root @ root.T
    torch.testing.assert_close(scaling.factored(matrix.clone()), torch.linalg.cholesky(matrix), rtol=1e-9, atol=1e-9)
