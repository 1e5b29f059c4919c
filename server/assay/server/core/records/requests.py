"""What makes a repeated request recognisable."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

# In place of a pool's uid, for requests that outlive their pool.
NO_POOL = 0


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Idempotency of one mutation, within one life of a pool: a pool that is deleted and created again under its name
    knows nothing of the requests before.

    Attributes:
        request_id: the caller's key; empty means that the request is not remembered.
        method: what the key is unique within, together with the pool's uid.
        fingerprint: digest of the request body; another body under the same key is refused.
        encode: makes the reply of the domain's result, and gives what to remember of it: little, for what the server
            knows anyway is put back when the request is repeated. Raises AssayError(TOO_LARGE) for a reply that could
            not be sent.
    """

    request_id: str
    method: str
    fingerprint: str
    encode: Callable[[Any], bytes]

    def by_name(self, pool_id: str) -> "RequestKey":
        """The key of a request that outlives its pool: within the pool's name, under NO_POOL."""
        return replace(self, method=f"{self.method}/{pool_id}")


@dataclass(frozen=True, slots=True)
class Remembered:
    """What is remembered of a request that was answered. create_time: steady seconds."""

    response: bytes
    create_time: float
