"""Deletes heads, and forgets activations, that are old and that no rollback needs."""

from assay.server.core.limits import Limits
from assay.server.core.pools.pool import Pool
from assay.server.core.ports.catalog import Catalog, CatalogTx
from assay.server.core.records.changes import ModelAction, ModelChanged
from assay.server.core.records.models import ModelKind, ModelRecord

# Heads deleted, and activations forgotten, in one change.
AT_ONCE = 50


def prune(catalog: Catalog, pool: Pool, limits: Limits) -> bool:
    """Deletes some heads of a pool beyond those to keep, or forgets some activations; returns whether there were any.
    Raises what the catalog raises."""
    with catalog.reading() as tx:
        heads = _old_heads(tx, pool, limits.keep_heads)
    if heads:
        files: list[str] = []
        with pool.leftovers.of_change(old=files), pool.change() as change:
            for head in heads:
                if head.model_id != change.before.pool.head:
                    change.tell(ModelChanged(ModelAction.DELETED, head.model_id, head.kind))
                    change.tx.delete_model(change.before.pool.uid, head.model_id)
                    files.append(head.file)
        return bool(files)
    with catalog.transaction() as tx:
        uid = pool.snapshot.pool.uid
        dropped = [tx.forget_activations(uid, kind, limits.keep_activations, AT_ONCE) for kind in ModelKind]
    return any(dropped)


def _old_heads(tx: CatalogTx, pool: Pool, keep: int) -> list[ModelRecord]:
    """Heads beyond the newest that neither serve nor may be gone back to, the newest of them first."""
    record = pool.snapshot.pool
    old = tx.models(record.uid, kind=ModelKind.HEAD, beyond=keep, limit=1)
    if not old:
        return []
    needed = {record.head, *_may_come_back(tx.activations(record.uid, ModelKind.HEAD))}
    old = tx.models(record.uid, kind=ModelKind.HEAD, beyond=keep, limit=AT_ONCE + len(needed))
    return [head for head in old if head.model_id not in needed]


def _may_come_back(history: list[tuple[str, str]]) -> set[str]:
    """The last two heads that were active in each space: the one that a return to the space brings, and the one before
    it, for a rollback."""
    last: dict[str, list[str]] = {}
    for model_id, space in reversed(history):
        known = last.setdefault(space, [])
        if model_id and model_id not in known and len(known) < 2:
            known.append(model_id)
    return {model_id for known in last.values() for model_id in known}
