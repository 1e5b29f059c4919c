"""Strategies that spread picks over the space of embeddings."""
