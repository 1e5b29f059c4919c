"""Heads that a plan goes by though another one is active, or none: versions of the pool's model as sources."""

from dataclasses import replace

from assay.server.core.errors import AssayError, Reason
from assay.server.core.models.activation import Activation
from assay.server.core.models.predictions import VERSIONS
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.ports.catalog import Catalog


class ChosenHeads:
    """Opens the heads that plans name."""

    def __init__(self, catalog: Catalog, activation: Activation) -> None:
        self._catalog = catalog
        self._activation = activation

    def seen_by(self, snapshot: Snapshot, source: str) -> Snapshot:
        """A snapshot as it would be if the head were active that a source "models/ID" names; as it is for other
        sources. Its predictions are computed at the first use, in a product over the whole pool.

        Raises AssayError(MODEL_NOT_FOUND | MODEL_SPACE_MISMATCH | INVALID_ARGUMENT), and as Activation.load_head."""
        if not source.startswith(VERSIONS):
            return snapshot
        model_id = source.removeprefix(VERSIONS)
        if snapshot.head is not None and snapshot.head.record.model_id == model_id:
            return snapshot
        with self._catalog.reading() as tx:
            record = tx.model(snapshot.pool.uid, model_id)
        if record is None:
            raise AssayError(
                Reason.MODEL_NOT_FOUND,
                f"Pool {snapshot.pool.pool_id!r} has no model {model_id[:100]!r}. List its models.",
                model=model_id[:100],
            )
        self._activation.check_head(snapshot, record)
        head = self._activation.load_head(record)
        return replace(snapshot, head=head, pool=replace(snapshot.pool, head=model_id))
