"""The server itself."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What a server takes and gives at most.

    Attributes:
        max_message_bytes: bytes of one message, either way.
        max_batch_rows: samples in one message of an ingest.
        max_payload_bytes: bytes of one payload.
        max_dimension: length of an embedding.
        max_classes, max_attributes: of a pool.
        max_model_bytes: bytes of a backbone, its data files included.
        max_picks, max_batch_picks: picks of one `mine`, of one `next_batch`.
        max_ids: sample ids, or labels, in one request.
        max_queries, max_neighbors: queries of one search, and neighbours of one query.
        max_predicted: samples of one `predict`.
        max_page_size: items on a page.
        max_lease: longest lease.
        request_memory: for how long a repeated request id gets its first reply.
    """

    max_message_bytes: int
    max_batch_rows: int
    max_payload_bytes: int
    max_dimension: int
    max_classes: int
    max_attributes: int
    max_model_bytes: int
    max_picks: int
    max_batch_picks: int
    max_ids: int
    max_queries: int
    max_neighbors: int
    max_predicted: int
    max_page_size: int
    max_lease: timedelta
    request_memory: timedelta


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """A server.

    Attributes:
        version: such as "0.2.0".
        start_time: when it was started, by its clock.
        uptime: for how long it has been running, whatever its clock did.
        tasks: kinds of tasks that its pools can have.
        strategies, presets: how many it has.
    """

    version: str
    start_time: datetime | None
    uptime: timedelta
    tasks: tuple[str, ...]
    strategies: int
    presets: int
    limits: ServerLimits
