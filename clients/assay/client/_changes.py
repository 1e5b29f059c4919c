"""The call that follows a pool."""

from assay.client import _replies, results
from assay.client._names import pool_name
from assay.client._values import number, text, whole
from assay.client._wire import Feed, feed
from assay.v1 import changes_pb2, methods


def watch_pool(
    pool: str,
    *,
    since_epoch: int | None = None,
    cursor: str | None = None,
    heartbeats: bool = False,
    heartbeat: float = 30.0,
) -> Feed[results.PoolChanges]:
    """What changes in a pool, in order and without an end: since a cursor or an epoch, else from now on.

    It goes on by itself where the server was away, for as long as the client's RetryPolicy says. Nothing is missed; a
    change may come twice. Keep the `cursor` of what you have dealt with, and go on there after a restart of your own.

    Args:
        pool: id or name.
        since_epoch: tell what changed after this epoch, as `get_pool` or a result told it.
        cursor: go on after what had this cursor.
        heartbeats: give heartbeats too, whose changes are empty: to know that all up to their epoch was told. One comes
            first, at once.
        heartbeat: seconds within which the server says that it is there.

    Raises:
        ChangesForgotten: changes after the cursor or epoch are no longer kept. Read the pool anew, and watch it since
            the epoch that `get_pool` tells.
        NotFound: the pool is not there, or was deleted.
    """
    if since_epoch is not None and cursor is not None:
        raise ValueError("give since_epoch or cursor, not both")
    request = changes_pb2.WatchPoolRequest(pool=pool_name(pool))
    request.heartbeat.FromMicroseconds(round(number(heartbeat, "heartbeat") * 1e6))
    if cursor is not None:
        request.cursor = text(cursor, "cursor")
    if since_epoch is not None:
        request.since_epoch = whole(since_epoch, "since_epoch", 0, (1 << 63) - 1)

    def parse(message: changes_pb2.WatchPoolResponse) -> results.PoolChanges | None:
        return _replies.pool_changes(message) if message.changes or heartbeats else None

    return feed(methods.WATCH_POOL, request, parse, _after)


def _after(
    request: changes_pb2.WatchPoolRequest, message: changes_pb2.WatchPoolResponse
) -> changes_pb2.WatchPoolRequest:
    """The request that goes on after a message."""
    return changes_pb2.WatchPoolRequest(pool=request.pool, cursor=message.cursor, heartbeat=request.heartbeat)
