"""Pools: snapshot and change, samples in and out, search, upkeep of files. Imports operations and the ground floor."""
