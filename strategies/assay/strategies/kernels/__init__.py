"""Shared numerics: each kernel is a pure function over arrays that knows no strategy."""
