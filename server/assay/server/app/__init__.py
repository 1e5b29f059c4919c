"""Composition root: configuration, the object graph, start, drain and stop."""
