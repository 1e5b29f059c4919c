"""Strategies that look for samples like given examples."""
