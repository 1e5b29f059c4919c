"""Messages of server.proto."""

from assay.server.core.limits import MAX_IDS, MAX_K, MAX_PREDICTED, MAX_QUERIES, MAX_TTL, Limits
from assay.server.rpc.convert.paging import MAX_PAGE
from assay.server.rpc.convert.scalars import duration_message, timestamp_message
from assay.server.rpc.convert.tasks import SERVED
from assay.v1 import server_pb2


def server_info_message(
    version: str, start_time: float, uptime: float, limits: Limits, strategies: int, presets: int
) -> server_pb2.ServerInfo:
    """What a server tells of itself; times in seconds."""
    return server_pb2.ServerInfo(
        version=version,
        start_time=timestamp_message(start_time),
        uptime=duration_message(uptime),
        limits=_limits_message(limits),
        tasks=SERVED,
        strategies=strategies,
        presets=presets,
    )


def _limits_message(limits: Limits) -> server_pb2.ServerLimits:
    return server_pb2.ServerLimits(
        max_message_bytes=limits.max_reply_bytes,
        max_batch_rows=limits.max_batch_rows,
        max_payload_bytes=limits.max_payload_bytes,
        max_dimension=limits.max_dimension,
        max_classes=limits.max_classes,
        max_attributes=limits.max_attributes,
        max_model_bytes=limits.max_model_bytes,
        max_picks=limits.max_picks,
        max_batch_picks=limits.max_batch_picks,
        max_ids=MAX_IDS,
        max_queries=MAX_QUERIES,
        max_neighbors=MAX_K,
        max_predicted=MAX_PREDICTED,
        max_page_size=MAX_PAGE,
        max_lease=duration_message(MAX_TTL),
        request_memory=duration_message(limits.keep_requests_s),
    )
