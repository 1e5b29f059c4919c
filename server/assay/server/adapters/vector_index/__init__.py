"""Nearest neighbours over a pool's embeddings: exact over mapped segments, approximate through FAISS."""

from assay.server.adapters.vector_index.approximate import FaissIndex
from assay.server.adapters.vector_index.builder import FaissIndexBuilder
from assay.server.adapters.vector_index.exact import BlockedExactSearch

__all__ = ["BlockedExactSearch", "FaissIndex", "FaissIndexBuilder"]
