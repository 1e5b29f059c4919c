"""Weights of a head as a file: a fixed header, then little-endian float32 weights [K, D, C] and biases [K, C], and of a
multi-label head the thresholds [C].

A file that begins with "assayhd1" was written by 0.1.0: its header has no kind, and all heads are of classes.
"""

import struct
import zlib
from typing import BinaryIO

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import HeadWeights
from assay.server.core.records.tasks import TaskKind

_MAGIC, _OLD_MAGIC = b"assayhd2", b"assayhd1"
_HEADER = struct.Struct("<8s5I")  # magic, kind, members, dimension, outputs, crc32 of what follows
_OLD_HEADER = struct.Struct("<8s4I")
_KINDS = (TaskKind.CLASSIFICATION, TaskKind.MULTILABEL, TaskKind.REGRESSION)


def encode(weights: HeadWeights) -> bytes:
    """Weights as bytes."""
    parts = [weights.weights_KDC, weights.bias_KC]
    if weights.thresholds_C is not None:
        parts.append(weights.thresholds_C)
    body = b"".join(part.astype("<f4").tobytes() for part in parts)
    return _HEADER.pack(_MAGIC, _KINDS.index(weights.kind), *weights.weights_KDC.shape, zlib.crc32(body)) + body


def decode(stream: BinaryIO) -> HeadWeights:
    """Weights from bytes; the arrays are read-only. Raises AssayError(SEGMENT_DAMAGED)."""
    data = stream.read()
    header = _OLD_HEADER if data.startswith(_OLD_MAGIC) else _HEADER
    if len(data) < header.size:
        raise _damaged("it is too short")
    magic, *fields = header.unpack_from(data)
    if magic not in (_MAGIC, _OLD_MAGIC):
        raise _damaged("it is no file of head weights")
    kind = 0 if magic == _OLD_MAGIC else fields.pop(0)
    members, dimension, outputs, checksum = fields
    if kind >= len(_KINDS):
        raise _damaged("its kind is unknown")
    count = members * dimension * outputs
    thresholds = outputs if _KINDS[kind] is TaskKind.MULTILABEL else 0
    if len(data) != header.size + 4 * (count + members * outputs + thresholds):
        raise _damaged("its length does not fit its header")
    if zlib.crc32(memoryview(data)[header.size :]) != checksum:
        raise _damaged("its checksum is wrong")
    values = np.frombuffer(data, dtype="<f4", offset=header.size)
    biases = count + members * outputs
    return HeadWeights(
        kind=_KINDS[kind],
        weights_KDC=values[:count].reshape(members, dimension, outputs),
        bias_KC=values[count:biases].reshape(members, outputs),
        thresholds_C=values[biases:] if thresholds else None,
    )


def _damaged(problem: str) -> AssayError:
    return AssayError(
        Reason.SEGMENT_DAMAGED,
        f"The file of a head is damaged: {problem}. Train the head again, or activate another version.",
        problem=problem,
    )
