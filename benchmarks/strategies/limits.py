"""What this machine can do at best: `python -m benchmarks.strategies.limits` prints it as JSON."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

_SIDE = 4_096
_VALUES = 1 << 28
_EXP_VALUES, _EXP_ROUNDS = 1 << 18, 200
_REPEATS = 5


def measure() -> dict[str, Any]:
    """The machine, and its rates per second: matrix products in float32 and bfloat16, memory reads, exponentials."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "kernel": platform.release(),
        "torch": torch.__version__,
        "f32_flops": _product_rate(torch.float32),
        "bf16_flops": _product_rate(torch.bfloat16),
        "read_bytes": _read_rate(),
        "exponentials": _exponential_rate(),
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def _product_rate(dtype: torch.dtype) -> float:
    left, right = (torch.randn(_SIDE, _SIDE).to(dtype) for _ in range(2))
    out = torch.empty(_SIDE, _SIDE, dtype=dtype)
    return 2 * _SIDE**3 / _seconds(lambda: torch.mm(left, right, out=out))


def _read_rate() -> float:
    values = torch.ones(_VALUES)
    return 4 * _VALUES / _seconds(lambda: values.sum())


def _exponential_rate() -> float:
    values = torch.linspace(-20, 0, _EXP_VALUES)
    out = torch.empty_like(values)

    def call() -> None:
        for _ in range(_EXP_ROUNDS):
            torch.exp(values, out=out)

    return _EXP_VALUES * _EXP_ROUNDS / _seconds(call)


def _seconds(call: Callable[[], object]) -> float:
    call()
    times = []
    for _ in range(_REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return median(times)


if __name__ == "__main__":
    print(json.dumps(measure()))
