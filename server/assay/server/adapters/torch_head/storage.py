"""Weights of a head as a file: a fixed header, then little-endian float32 weights [K, D, C] and biases [K, C]."""

import struct
import zlib
from typing import BinaryIO

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import HeadWeights

_MAGIC = b"assayhd1"
_HEADER = struct.Struct("<8s4I")  # magic, members, dimension, classes, crc32 of what follows


def encode(weights: HeadWeights) -> bytes:
    """Weights as bytes."""
    members, dimension, classes = weights.weights_KDC.shape
    body = weights.weights_KDC.astype("<f4").tobytes() + weights.bias_KC.astype("<f4").tobytes()
    return _HEADER.pack(_MAGIC, members, dimension, classes, zlib.crc32(body)) + body


def decode(stream: BinaryIO) -> HeadWeights:
    """Weights from bytes; the arrays are read-only. Raises AssayError(SEGMENT_DAMAGED)."""
    data = stream.read()
    if len(data) < _HEADER.size:
        raise _damaged("it is too short")
    magic, members, dimension, classes, checksum = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise _damaged("it is no file of head weights")
    count = members * dimension * classes
    if len(data) != _HEADER.size + 4 * (count + members * classes):
        raise _damaged("its length does not fit its header")
    if zlib.crc32(memoryview(data)[_HEADER.size :]) != checksum:
        raise _damaged("its checksum is wrong")
    values = np.frombuffer(data, dtype="<f4", offset=_HEADER.size)
    return HeadWeights(
        weights_KDC=values[:count].reshape(members, dimension, classes),
        bias_KC=values[count:].reshape(members, classes),
    )


def _damaged(problem: str) -> AssayError:
    return AssayError(
        Reason.SEGMENT_DAMAGED,
        f"The file of a head is damaged: {problem}. Train the head again, or activate another version.",
        problem=problem,
    )
