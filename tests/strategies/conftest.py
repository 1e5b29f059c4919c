"""Kernels that choose their type by the processor, in every type that they may take."""

import pytest

from assay.strategies.kernels import clustering, coarse
from assay.strategies.kernels.screen import SWITCH


@pytest.fixture(params=["float32", "bfloat16"])
def each_screen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Runs a test in each type, on any processor, and for pools of any size."""
    monkeypatch.setenv(SWITCH, request.param)
    monkeypatch.setattr(clustering, "_WORTH_ROUNDING", 0)
    monkeypatch.setattr(coarse, "_FEWEST_DIMS", 0)
    monkeypatch.setattr(coarse, "_FEWEST_CENTRES", 0)
    return str(request.param)
