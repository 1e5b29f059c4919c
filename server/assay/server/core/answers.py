"""What a mutation answers: looked for before anything is computed, made before anything is stored, and remembered in
the same transaction. The one home of idempotency.

A reply that could not be sent takes no effect: the answer to a request without an id is made and measured too.
"""

from assay.server.core.errors import RequestReplayed
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.records.requests import Remembered, RequestKey


def replay(catalog: Catalog, pool_uid: int, key: RequestKey) -> None:
    """Raises RequestReplayed if a request to a pool was answered before, AssayError(REQUEST_ID_REUSED) if its id was
    used for another one."""
    if key.request_id:
        with catalog.reading() as tx:
            replay_within(tx, pool_uid, key)


def replay_within(tx: CatalogTx, pool_uid: int, key: RequestKey) -> None:
    """As replay, in a transaction."""
    again(tx.recall(pool_uid, key))


def again(remembered: Remembered | None) -> None:
    """Raises RequestReplayed with what is remembered of a request, if anything is."""
    if remembered is not None:
        raise RequestReplayed(remembered.response)


class Answer:
    """The answer to one request.

    Args:
        key: the request's.
    """

    def __init__(self, key: RequestKey) -> None:
        self._key = key
        self._remembered: bytes | None = None

    def give(self, result: object) -> None:
        """Makes the reply of a result. Raises AssayError(TOO_LARGE) if it could not be sent."""
        self._remembered = self._key.encode(result)

    def remember(self, tx: CatalogTx, pool_uid: int, now: float) -> None:
        """Remembers the answer with what the request changed, if the request has an id."""
        if self._key.request_id:
            assert self._remembered is not None, "a request with an id has an answer"
            tx.remember(pool_uid, self._key, self._remembered, now)
