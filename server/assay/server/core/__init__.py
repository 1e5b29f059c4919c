"""The domain: pools, snapshots, scoring, selection, leases. Knows numpy and strategies; no wire, no storage engine."""
