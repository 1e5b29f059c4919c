"""What the machine can do bare: the yardsticks beside which the server's figures stand."""

import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

BLOCK_BYTES = 8 << 20


def describe() -> dict[str, object]:
    """The machine, in a few words."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(pages / 2**30),
        "kernel": platform.release(),
    }


def raw_write_seconds(folder: Path, array: np.ndarray) -> float:
    """Writing an array's bytes to one file in blocks, and an fsync at the end."""
    path = folder / "raw-write"
    view = memoryview(array.reshape(-1).view(np.uint8))
    start = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for offset in range(0, len(view), BLOCK_BYTES):
            file.write(view[offset : offset + BLOCK_BYTES])
        os.fsync(file.fileno())
    seconds = time.perf_counter() - start
    path.unlink()
    return seconds


def matrix_product_seconds(embeddings_ND: np.ndarray, classes: int) -> float:
    """The bare product of all embeddings with a head's weights, into memory that was touched before."""
    weights_DC = torch.randn(embeddings_ND.shape[1], classes)
    out_NC = torch.zeros(len(embeddings_ND), classes)
    start = time.perf_counter()
    torch.mm(torch.from_numpy(embeddings_ND), weights_DC, out=out_NC)
    return time.perf_counter() - start


def margin_pass_seconds(logits_NC: np.ndarray, picks: int) -> float:
    """A bare pass for margins over logits in blocks of the cache's size, two threads of it as cores allow, then the
    highest scores: maximum, second maximum and normaliser are all that a margin needs."""
    logits = torch.from_numpy(logits_NC)
    scores = torch.empty(len(logits))
    rows = max(1, (1 << 20) // logits[0].nbytes)
    start = time.perf_counter()
    for begin in range(0, len(logits), rows):
        block = logits[begin : begin + rows]
        top = block.topk(2, dim=1).values
        normaliser = torch.logsumexp(block, dim=1)
        probs = torch.exp(top - normaliser[:, None])
        scores[begin : begin + rows] = 1 - (probs[:, 0] - probs[:, 1])
    torch.topk(scores, picks)
    return time.perf_counter() - start
