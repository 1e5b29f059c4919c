"""Similarity of candidates to a set of queries: examples of what is looked for."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.kernels.tensors import borrow, spread

_BLOCK_VALUES = 1 << 19


def unit_queries(candidates: Candidates) -> torch.Tensor:
    """float64 queries of length 1, shape (Q, D). Raises NeedMissing, or StrategyError NO_QUERIES or INVALID_ARRAY."""
    queries_QD = candidates.query_embeddings_QD
    dim = candidates.embeddings_ND.shape[1]
    if not len(queries_QD):
        raise StrategyError("NO_QUERIES", "there are no queries: give the embeddings of some examples")
    if queries_QD.shape[1] != dim:
        raise StrategyError("INVALID_ARRAY", f"queries have {queries_QD.shape[1]} dims, candidates {dim}")
    return _unit(borrow(queries_QD))


def cosines(embeddings_ND: NDArray[np.float32], targets_QD: torch.Tensor) -> torch.Tensor:
    """float64 x.q / |x| of each candidate x and target q, shape (Q, N); 0 for a candidate without direction."""
    size, dim = embeddings_ND.shape
    cosines_QN = torch.empty((len(targets_QD), size), dtype=torch.float64)

    def block(start: int, stop: int) -> None:
        torch.mm(targets_QD, _unit(borrow(embeddings_ND[start:stop])).t(), out=cosines_QN[:, start:stop])

    if size:
        spread(block, size, max(1, _BLOCK_VALUES // max(dim, 1)))
    return cosines_QN


def _unit(rows_MD: torch.Tensor) -> torch.Tensor:
    rows = rows_MD.double()
    lengths_M = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows.div_(lengths_M.clamp_min_(torch.finfo(torch.float64).tiny))
