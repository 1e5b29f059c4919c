"""Embeddings scaled to length 1, each row by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assay.strategies.kernels.tensors import spread

_BLOCK_VALUES = 1 << 18


def unit_rows(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length, a copy; a zero row stays one. NaN and infinity come out as NaN."""
    size, dim = embeddings_ND.shape
    units_ND = np.empty((size, dim), np.float32)

    def block(start: int, stop: int) -> None:
        rows_BD = embeddings_ND[start:stop]
        with np.errstate(invalid="ignore"):
            lengths_B = np.sqrt(np.einsum("nd,nd->n", rows_BD, rows_BD, dtype=np.float64))
            lengths_B[lengths_B == 0] = 1
            units_ND[start:stop] = rows_BD / lengths_B[:, None]

    spread(block, size, max(1, _BLOCK_VALUES // max(dim, 1)))
    return units_ND
