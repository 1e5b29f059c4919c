"""Runs a bound plan: pickers, quotas, spacing."""
