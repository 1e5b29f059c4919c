"""Bounds on what a caller may ask, set by the configuration."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds; each is checked where its value enters the domain.

    Attributes:
        max_batch_rows: samples in one ingest batch.
        max_payload_bytes: bytes of one payload.
        max_dimension: length of an embedding.
        max_classes: classes of a pool.
        max_attributes: distinct attributes of a pool.
        max_model_bytes: bytes of a backbone.
        max_picks: picks of one Mine.
        max_batch_picks: picks of one NextBatch.
        max_selector_bytes: embeddings that a selector may hold at once; a plan beyond it needs a shortlist.
        max_reply_bytes: bytes of one reply.
        verify_bytes: files up to this total are read against their checksums before the pool serves; those beyond it
            are read in the background afterwards.
        segment_bytes: size up to which small files are merged.
        quiet_seconds: a pool is at rest so long after its last batch; background work waits for that, within bounds.
        request_memory_s: how long responses are remembered by request id.
    """

    max_batch_rows: int = 65_536
    max_payload_bytes: int = 65_536
    max_dimension: int = 65_536
    max_classes: int = 10_000
    max_attributes: int = 256
    max_model_bytes: int = 2048 * MIB
    max_picks: int = 100_000
    max_batch_picks: int = 10_000
    max_selector_bytes: int = 4096 * MIB
    max_reply_bytes: int = 64 * MIB
    verify_bytes: int = 8192 * MIB
    segment_bytes: int = 256 * MIB
    quiet_seconds: float = 1.0
    request_memory_s: float = 7 * 86_400.0
