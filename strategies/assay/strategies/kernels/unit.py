"""Embeddings scaled to length 1, each row by itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_rows(embeddings_ND: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row divided by its length, a copy; a zero row stays one. NaN and infinity come out as NaN."""
    with np.errstate(invalid="ignore"):
        lengths_N = np.sqrt(np.einsum("nd,nd->n", embeddings_ND, embeddings_ND, dtype=np.float64))
        lengths_N[lengths_N == 0] = 1
        units_ND: NDArray[np.float32] = (embeddings_ND / lengths_N[:, None]).astype(np.float32)
    return units_ND
