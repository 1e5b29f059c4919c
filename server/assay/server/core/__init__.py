"""The domain: pools, snapshots, scoring, selection, leases. Knows numpy and the strategies; no wire, no storage engine."""
