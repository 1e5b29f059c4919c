"""What makes a repeated request recognisable."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestKey:
    """Idempotency of one mutation.

    Attributes:
        request_id: the caller's key; empty means that the request is not remembered.
        scope: what the key is unique within: method and pool.
        fingerprint: digest of the request body; another body under the same key is refused.
        encode: turns the domain's result into the response to remember.
    """

    request_id: str
    scope: str
    fingerprint: str
    encode: Callable[[Any], bytes]
