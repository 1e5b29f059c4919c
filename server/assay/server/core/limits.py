"""Bounds on what a caller may ask: those that are the same everywhere, and those that the configuration sets.

This is the one home of each: the wire's checks and the domain's read them here.
"""

from dataclasses import dataclass

MIB = 1 << 20
# Texts, in bytes of UTF-8.
MAX_ID_BYTES = 256
MAX_URI_BYTES = 2048
MAX_TEXT_BYTES = 4096
MAX_REASON_BYTES = 1024
# One value of an annotation: bytes encoded, boxes or spans, attributes of a box, and how deep JSON is nested.
MAX_VALUE_BYTES = MIB
MAX_OBJECTS = 10_000
MAX_OBJECT_ATTRIBUTES = 64
MAX_JSON_DEPTH = 64
# Numbers that a regression asks for.
MAX_TARGETS = 64
# Numbers in one vector.
MAX_DIMENSION = 65_536
# Things in one request.
MAX_IDS = 100_000
# Annotations that are wanted of one sample.
MAX_ANNOTATIONS = 100
# Metadata of a pool.
MAX_METADATA = 64
MAX_PREDICTED = 10_000
MAX_QUERIES = 1000
# A search: neighbours of a query, and of all its queries together.
MAX_K = 10_000
MAX_HITS = 100_000
# A reply: picks of Mine and of NextBatch, samples in a chunk of scores, and predictions beside a pick.
MAX_PICKS = 100_000
MAX_BATCH_PICKS = 10_000
MAX_CHUNK = 100_000
MAX_PREDICTIONS = 100
# Seconds that an annotation takes.
MAX_DURATION = 30 * 86_400.0
# Seconds that a lease lasts.
MIN_TTL = 1.0
MAX_TTL = 7 * 86_400.0


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
        keep_requests_s, keep_requests: how long responses are remembered by request id, and how many of all pools.
        keep_leases_s: how long leases that ended are kept.
        keep_operations_s: how long operations that ended are kept.
        keep_changes_s, keep_changes: how long changes are kept for who follows a pool, and how many of all pools.
        keep_heads: heads of a pool that are kept, the newest, beside those that serve or may be gone back to.
        keep_activations: activations of a pool that are kept of each kind, the newest, and the last in each space.
    """

    max_batch_rows: int = 65_536
    max_payload_bytes: int = 65_536
    max_dimension: int = MAX_DIMENSION
    max_classes: int = 10_000
    max_attributes: int = 256
    max_model_bytes: int = 2048 * MIB
    max_picks: int = MAX_PICKS
    max_batch_picks: int = MAX_BATCH_PICKS
    max_selector_bytes: int = 4096 * MIB
    max_reply_bytes: int = 64 * MIB
    verify_bytes: int = 8192 * MIB
    segment_bytes: int = 256 * MIB
    quiet_seconds: float = 1.0
    keep_requests_s: float = 86_400.0
    keep_requests: int = 500_000
    keep_leases_s: float = 30 * 86_400.0
    keep_operations_s: float = 30 * 86_400.0
    keep_changes_s: float = 7 * 86_400.0
    keep_changes: int = 500_000
    keep_heads: int = 100
    keep_activations: int = 1000
