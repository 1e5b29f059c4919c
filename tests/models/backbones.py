"""Backbones as the tests of models make them: the trial in this process, which is quicker than in one of its own."""

import hashlib
from pathlib import Path

from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.adapters.onnx_backbone.backbone import OnnxBackbone
from assay.server.adapters.onnx_backbone.batching import BatchLimits
from assay.server.adapters.onnx_backbone.trial import TrialLimits, examine
from assay.server.core.records.models import BackboneInfo, BackboneSpec, DataFile

MIB = 1 << 20
NOTHING_DECLARED = BackboneSpec()


def find(
    path: str,
    spec: BackboneSpec = NOTHING_DECLARED,
    *,
    data_files: tuple[DataFile, ...] = (),
    run_seconds: float = 60.0,
    memory_bytes: int = 1024 * MIB,
) -> BackboneInfo:
    """What a trial finds out."""
    sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest() if Path(path).exists() else ""
    limits = TrialLimits(1, run_seconds, memory_bytes, BatchLimits())
    return examine(path, spec, data_files, sha256, limits)


def serve(
    path: str,
    spec: BackboneSpec = NOTHING_DECLARED,
    *,
    data_files: tuple[DataFile, ...] = (),
    threads: int = 1,
    limits: BatchLimits | None = None,
    run_seconds: float = 60.0,
    memory_bytes: int = 1024 * MIB,
) -> OnnxBackbone:
    """A backbone that has passed its trial."""
    loader = OnnxBackboneLoader(threads, limits, run_seconds=run_seconds, memory_bytes=memory_bytes)
    return loader.open(path, find(path, spec, data_files=data_files))
