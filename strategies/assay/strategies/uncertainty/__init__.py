"""Strategies that ask how unsure the model is."""
