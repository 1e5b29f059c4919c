"""Samples cut into the batches that a graph is run on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from assay.server.adapters.onnx_backbone.signature import Signature

Arrays = Mapping[str, npt.NDArray[Any]]
Samples = slice | npt.NDArray[np.int64]


def positions_of(samples: Samples) -> npt.NDArray[np.int64]:
    """Where samples stand in their batch."""
    return np.arange(samples.start, samples.stop) if isinstance(samples, slice) else samples


def halves(samples: Samples) -> tuple[Samples, Samples]:
    """Two or more samples as two batches, in order."""
    if isinstance(samples, slice):
        middle = (samples.start + samples.stop) // 2
        return slice(samples.start, middle), slice(middle, samples.stop)
    middle = len(samples) // 2
    return samples[:middle], samples[middle:]


@dataclass(frozen=True)
class BatchLimits:
    """How large one run may be.

    Attributes:
        samples: most samples.
        tokens: most tokens, padding included, of a graph with a mask. Few are enough to keep the cores busy, and short
            batches waste less on padding.
        elements: most elements of all inputs of a graph without a mask.
    """

    samples: int = 256
    tokens: int = 1024
    elements: int = 1 << 22


@dataclass(frozen=True)
class Trimming:
    """Which axes of which inputs run along the tokens: trailing padding is cut from all of them."""

    mask_input: str
    axes: Mapping[str, tuple[int, ...]]

    def lengths(self, arrays: Arrays) -> npt.NDArray[np.int64]:
        """Tokens of each sample up to the last that is no padding, at least 1."""
        mask_NT = arrays[self.mask_input] != 0
        last_N = mask_NT.shape[1] - np.argmax(mask_NT[:, ::-1], axis=1)
        return np.where(mask_NT.any(axis=1), last_N, 1).astype(np.int64)

    def cut(self, name: str, array: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        """An input without what lies beyond a length."""
        index = [slice(None)] * array.ndim
        for axis in self.axes.get(name, ()):
            index[axis] = slice(length)
        return array[tuple(index)]


def find_trimming(signature: Signature) -> Trimming | None:
    """The token axes, if the graph names them: the second of the mask, and all that share its name."""
    if not signature.mask_input:
        return None
    mask = next(item for item in signature.inputs if item.spec.name == signature.mask_input)
    batch, tokens = mask.symbols
    if not tokens or tokens == batch:
        return None
    axes = {
        item.spec.name: tuple(axis for axis, symbol in enumerate(item.symbols) if symbol == tokens)
        for item in signature.inputs
    }
    return Trimming(signature.mask_input, axes)


def by_length(lengths_N: npt.NDArray[np.int64], limits: BatchLimits) -> Iterator[tuple[Samples, int]]:
    """Batches of samples of alike length, the shortest first, with the length of their longest."""
    order_N = np.argsort(lengths_N, kind="stable")
    sorted_N = lengths_N[order_N]
    start = 0
    while start < len(order_N):
        stop = start + 1
        while stop < len(order_N) and _fits(stop + 1 - start, int(sorted_N[stop]), limits):
            stop += 1
        yield order_N[start:stop], int(sorted_N[stop - 1])
        start = stop


def _fits(samples: int, length: int, limits: BatchLimits) -> bool:
    return samples <= limits.samples and samples * length <= limits.tokens


def in_order(arrays: Arrays, mask_input: str, limits: BatchLimits) -> Iterator[Samples]:
    """Batches of neighbours: views of the inputs, nothing is moved."""
    count = len(next(iter(arrays.values())))
    if mask_input:
        most = limits.tokens // max(1, arrays[mask_input].shape[1])
    else:
        most = limits.elements * count // max(1, sum(array.size for array in arrays.values()))
    size = max(1, min(limits.samples, most))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
