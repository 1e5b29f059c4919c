"""Segments made by hand."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from assay.server.core.ports.segments import SampleSegment, SegmentStore, VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray, Scalar
from assay.server.core.records.samples import AttributeColumn, SampleColumns

POOL = 7


def rows(start: int, count: int) -> RowArray:
    return np.arange(start, start + count, dtype=np.int64)


def embeddings(count: int, dimension: int, seed: int = 0) -> FloatArray:
    return np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32)


def keep_all(rows_N: RowArray) -> MaskArray:
    return np.ones(len(rows_N), np.bool_)


def attribute(kind: str, values: Sequence[Scalar | None]) -> AttributeColumn:
    """A column where None means missing."""
    blank: Scalar = "" if kind == "string" else 0
    filled = [blank if value is None else value for value in values]
    dtypes = {"double": np.float64, "int64": np.int64, "bool": np.bool_}
    present = np.array([value is not None for value in values], np.bool_)
    return AttributeColumn(kind, filled if kind == "string" else np.array(filled, dtypes[kind]), present)


def samples(store: SegmentStore, first_row: int, columns: SampleColumns) -> SampleSegment:
    file = store.write_samples(POOL, rows(first_row, len(columns.ids)), columns)
    return store.open_samples(file, verify=True)


def vectors(
    store: SegmentStore, first_row: int, embeddings_ND: FloatArray, logits_NC: FloatArray | None = None
) -> VectorSegment:
    file = store.write_vectors(POOL, "pushed", rows(first_row, len(embeddings_ND)), embeddings_ND, logits_NC)
    return store.open_vectors(file, verify=True)


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def start_python(script: str, *args: object) -> "subprocess.Popen[str]":
    """A process of its own, whose output is read line by line."""
    command = [sys.executable, "-c", script, *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
