"""What the machine can do bare: the yardsticks beside which the server's figures stand."""

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import torch
from sink import METHOD

from assay.strategies import score
from assay.strategies.kernels.topk import top_k

BLOCK_BYTES = 8 << 20
MESSAGE_BYTES = 16 << 20


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


def grpc_stream_seconds(array: np.ndarray) -> float:
    """Sending an array's bytes in messages of 16 MiB to a server in another process that drops them: no storing, no
    checking, no protobuf. What an ingest through Python's gRPC can at best take."""
    view = memoryview(array.reshape(-1).view(np.uint8))
    command = [sys.executable, str(Path(__file__).with_name("sink.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as sink:
        assert sink.stdout is not None
        with grpc.insecure_channel(f"127.0.0.1:{int(sink.stdout.readline())}") as channel:
            send = channel.stream_unary(METHOD)
            start = time.perf_counter()
            received = send(bytes(view[at : at + MESSAGE_BYTES]) for at in range(0, len(view), MESSAGE_BYTES))
            seconds = time.perf_counter() - start
        sink.communicate()
    assert int(received) == len(view)
    return seconds


def matrix_product_seconds(embeddings_ND: np.ndarray, classes: int) -> float:
    """The bare product of all embeddings with a head's weights, into memory that was touched before."""
    weights_DC = torch.randn(embeddings_ND.shape[1], classes)
    out_NC = torch.zeros(len(embeddings_ND), classes)
    start = time.perf_counter()
    torch.mm(torch.from_numpy(embeddings_ND), weights_DC, out=out_NC)
    return time.perf_counter() - start


def margin_pass_seconds(logits_NC: np.ndarray, picks: int) -> float:
    """The library's own fused pass for margins over logits in memory, and the highest of them: what is left of
    Mine(margin) without a server, a pool and a reply around it."""
    start = time.perf_counter()
    top_k(score("margin", logits=logits_NC), picks)
    return time.perf_counter() - start
