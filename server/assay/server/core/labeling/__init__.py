"""Leased batches out, labels in. Imports mining and below."""
