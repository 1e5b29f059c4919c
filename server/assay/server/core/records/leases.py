"""Leases as the catalog keeps them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A claim of a worker on rows.

    Attributes:
        lease_id: server-made id, unique in the pool.
        fencing_token: grows with every lease of the pool.
        create_time: seconds since the Unix epoch.
        expire_time: when it ends, on the steady clock.
        state: "live", "done" or "expired".
        rows: rows it still holds, ascending.
    """

    lease_id: str
    worker: str
    fencing_token: int
    create_time: float
    expire_time: float
    state: str
    rows: tuple[int, ...]
