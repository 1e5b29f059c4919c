"""Samples: the columns of a batch, what a file knows of one, the files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray, MaskArray, Scalar


class OnConflict(StrEnum):
    """What an ingest does with an id that the pool already has."""

    ERROR = "error"
    SKIP = "skip"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True)
class SegmentFile:
    """One immutable file of a pool.

    Attributes:
        file: path below the data directory.
        kind: "samples" (ids, attributes, payloads, predictions, inputs), "vectors" (embeddings, logits), "overlay"
            (what of samples was changed since) or "predictions" (what a named source says of samples).
        space: embedding space of a vectors file, source of a predictions file, else "".
        first_row, last_row: rows of its first and last sample; rows ascend within a file.
        count: number of samples.
        size: bytes.
        checksum: xxh3-128 of the whole file, hexadecimal.
        epoch: of an overlay or of predictions, the epoch that it belongs to; of samples, the last epoch whose overlays
            are in it.
        rows: of an overlay or of predictions, its rows (RowSet.packed), so that they are known where the file cannot be
            read.
    """

    file: str
    kind: str
    space: str
    first_row: int
    last_row: int
    count: int
    size: int
    checksum: str
    epoch: int = 0
    rows: bytes = b""


@dataclass(frozen=True, slots=True)
class AttributeColumn:
    """One attribute of every sample of a batch; `values` is a list for text, else an array. kind: "string", "double",
    "int64" or "bool"."""

    kind: str
    values: Sequence[str] | npt.NDArray[Any]
    present_N: MaskArray | None = None


@dataclass(frozen=True, slots=True)
class SampleColumns:
    """Columns of a samples segment; those not given are None. All have one entry per id."""

    ids: Sequence[str]
    uris: Sequence[str] | None = None
    payloads: Sequence[bytes] | None = None
    payload_media_type: str = ""
    attributes: Mapping[str, AttributeColumn] = field(default_factory=dict)
    predictions_NC: FloatArray | None = None
    inputs: Mapping[str, npt.NDArray[Any]] | None = None


@dataclass(frozen=True, slots=True)
class SampleRecord:
    """What a samples segment knows of one sample."""

    id: str
    uri: str = ""
    payload: bytes = b""
    payload_media_type: str = ""
    attributes: Mapping[str, Scalar] = field(default_factory=dict)
