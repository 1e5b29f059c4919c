"""Strategies that weigh uncertainty and diversity together."""
