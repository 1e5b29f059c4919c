"""Makes a model version the current one: everything is computed beside the old version, then swapped in one change."""

from collections.abc import Iterator, Sequence

import numpy as np

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.operations.service import Task
from assay.server.core.pools.pool import Change, Pool
from assay.server.core.pools.snapshot import ActiveBackbone, ActiveHead, Snapshot
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock
from assay.server.core.ports.models import BackboneLoader, Heads
from assay.server.core.ports.segments import SampleSegment, SegmentStore, VectorSegment
from assay.server.core.records.arrays import RowArray
from assay.server.core.records.models import BackboneInfo, HeadInfo, ModelKind, ModelRecord
from assay.server.core.records.pools import LIVE_STATES
from assay.server.core.records.samples import SegmentFile

# Samples embedded between two looks at the stop flag, and per file of a new space.
EMBED_BLOCK = 256
EMBED_FILE_ROWS = 16_384
# Passes over the pool before ingests are held up for the last one.
ROUNDS = 3


class Activation:
    """Activates heads and backbones."""

    def __init__(
        self, catalog: Catalog, segments: SegmentStore, backbones: BackboneLoader, heads: Heads, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._segments = segments
        self._backbones = backbones
        self._heads = heads
        self._clock = clock

    def check(self, snapshot: Snapshot, record: ModelRecord) -> None:
        """Raises AssayError(MODEL_SPACE_MISMATCH | INPUTS_NOT_KEPT) for a version that cannot be activated now."""
        if record.kind is ModelKind.HEAD:
            self.check_head(snapshot, record)
        elif snapshot.pool.space != record.space:
            self._check_inputs(snapshot, record)

    def check_head(self, snapshot: Snapshot, record: ModelRecord) -> None:
        """Raises AssayError(MODEL_SPACE_MISMATCH | INVALID_ARGUMENT) for a head that cannot serve this snapshot."""
        if not isinstance(record.info, HeadInfo):
            raise AssayError(Reason.INVALID_ARGUMENT, f"Model {record.model_id!r} is a backbone, not a head.")
        if record.space != snapshot.pool.space:
            raise AssayError(
                Reason.MODEL_SPACE_MISMATCH,
                f"Head {record.model_id!r} was trained in the embedding space {record.space!r}; the pool is in "
                f"{snapshot.pool.space!r}. Train a new head, or activate the backbone that it belongs to.",
                model=record.model_id,
            )

    def _check_inputs(self, snapshot: Snapshot, record: ModelRecord) -> None:
        assert isinstance(record.info, BackboneInfo)
        needed = {spec.name for spec in record.info.inputs}
        missing = self._uncovered(snapshot, record.space)
        for segment in snapshot.samples:
            wanted = np.isin(segment.rows_N, missing)
            if set(segment.input_names) == needed:
                for start, stop in segment.input_runs:
                    wanted[start:stop] = False
            if wanted.any():
                raise AssayError(
                    Reason.INPUTS_NOT_KEPT,
                    f"{np.count_nonzero(wanted)} samples of the pool have no stored inputs {sorted(needed)}, so this "
                    "backbone cannot embed them. Add them again with on_conflict REPLACE and these inputs, or delete "
                    "them.",
                    model=record.model_id,
                )

    def previous(self, snapshot: Snapshot, kind: ModelKind) -> str:
        """The version that was active before the current one and still exists. Raises
        AssayError(NOTHING_TO_ROLL_BACK)."""
        current = snapshot.pool.backbone if kind is ModelKind.BACKBONE else snapshot.pool.head
        with self._catalog.reading() as tx:
            for model_id, space in reversed(tx.activations(snapshot.pool.uid, kind)):
                fits = kind is ModelKind.BACKBONE or space == snapshot.pool.space
                if model_id not in ("", current) and fits and tx.model(snapshot.pool.uid, model_id) is not None:
                    return model_id
        raise AssayError(
            Reason.NOTHING_TO_ROLL_BACK, f"No other {kind} was active before {current or 'now'!r} in this pool."
        )

    def load_head(self, record: ModelRecord) -> ActiveHead:
        """A head, from its file. Raises AssayError(SEGMENT_DAMAGED | STORAGE_FAILED)."""
        try:
            with self._segments.open_model(record.file) as stream:
                return ActiveHead(record, self._heads.decode(stream))
        except OSError as error:
            raise AssayError(
                Reason.STORAGE_FAILED,
                f"The file of the head {record.model_id!r} cannot be read: {error.strerror}. Look at the disk, then "
                "try again.",
            ) from error

    def load_backbone(self, record: ModelRecord) -> ActiveBackbone:
        """A backbone, from its file. Raises AssayError(MODEL_INVALID | SEGMENT_DAMAGED)."""
        assert isinstance(record.info, BackboneInfo)
        return ActiveBackbone(record, self._backbones.open(self._segments.model_path(record.file), record.info))

    def run(self, pool: Pool, record: ModelRecord, task: Task) -> None:
        """Activates a version. Raises AssayError(CANCELLED, ...), having changed nothing."""
        if record.kind is ModelKind.HEAD:
            self._activate_head(pool, record, task)
            return
        self._activate_backbone(pool, record, task)

    # --- heads -----------------------------------------------------------------------------------------------------

    def _activate_head(self, pool: Pool, record: ModelRecord, task: Task) -> None:
        head = self.load_head(record)
        snapshot = pool.snapshot
        predictions = pool.derived.get(PredictionCache).of(snapshot, head)
        if predictions is not None:
            predictions.extend(snapshot, lambda done, total: task.report("score", done, total))
        _check_stop(task)
        with pool.change() as change:
            _require_model(change, record)
            self.check_head(change.before, record)
            self._set_head(change, head, record.space)

    def _set_head(self, change: Change, head: ActiveHead | None, space: str) -> None:
        """Makes a head the active one, None for none, of the space that is active from then on."""
        model_id = head.record.model_id if head else ""
        change.tx.record_activation(change.before.pool.uid, ModelKind.HEAD, model_id, space, self._clock.now())
        change.replace_pool(head=model_id)
        change.replace(head=head)

    # --- backbones -------------------------------------------------------------------------------------------------

    def _activate_backbone(self, pool: Pool, record: ModelRecord, task: Task) -> None:
        backbone = self.load_backbone(record)
        space = record.space
        # Once for all samples, then for those that came meanwhile: little is left to do while ingests wait.
        for _ in range(ROUNDS if pool.snapshot.pool.space != space else 0):
            self._fill(pool, backbone, task)
        # What arrived meanwhile is embedded under the ingest lock, so that the swap misses nothing.
        with pool.ingest_lock:
            if pool.snapshot.pool.space != space:
                self._fill(pool, backbone, task)
            _check_stop(task)
            with pool.change() as change:
                _require_model(change, record)
                self._swap(change, backbone)

    def _fill(self, pool: Pool, backbone: ActiveBackbone, task: Task) -> None:
        """Embeds the rows that the new space lacks, file by file; each file is durable, so a later try goes on from
        it."""
        snapshot, space = pool.snapshot, backbone.record.space
        missing = self._uncovered(snapshot, space)
        done = 0
        for segment in snapshot.samples:
            wanted = np.flatnonzero(np.isin(segment.rows_N, missing))
            for start in range(0, len(wanted), EMBED_FILE_ROWS):
                positions = wanted[start : start + EMBED_FILE_ROWS]
                file = self._embed_file(snapshot, backbone, segment, positions, task, done, len(missing))
                done += len(positions)
                with pool.leftovers.of_change(new=[file.file]), pool.change() as change:
                    _require_model(change, backbone.record)
                    change.tx.add_segments(snapshot.pool.uid, [file])

    def _embed_file(
        self,
        snapshot: Snapshot,
        backbone: ActiveBackbone,
        segment: SampleSegment,
        positions: RowArray,
        task: Task,
        done: int,
        total: int,
    ) -> SegmentFile:
        embeddings, logits = [], []
        for block in _blocks(positions, segment.input_runs):
            _check_stop(task)
            stored = segment.inputs(int(block[0]), int(block[-1]) + 1)
            if stored is None:
                raise AssayError(Reason.INPUTS_NOT_KEPT, "A sample of the pool has no stored inputs.")
            inputs = {name: tensor[block - block[0]] for name, tensor in stored.items()}
            vectors_BD, logits_BC = backbone.runtime.embed(inputs)
            embeddings.append(checks.embeddings(vectors_BD, backbone.runtime.info.dimension, snapshot.pool.metric))
            if logits_BC is not None:
                logits.append(logits_BC)
            done += len(block)
            task.report("embed", done, total)
        return self._segments.write_vectors(
            snapshot.pool.uid,
            backbone.record.space,
            segment.rows_N[positions],
            np.concatenate(embeddings),
            np.concatenate(logits) if logits else None,
        )

    def _uncovered(self, snapshot: Snapshot, space: str) -> RowArray:
        """Rows of the pool that a space has no vectors for."""
        needed = snapshot.mask(LIVE_STATES)
        for segment in self._open_space(snapshot, space):
            needed[segment.rows_N[segment.rows_N < len(needed)]] = False
        return np.flatnonzero(needed)

    def _open_space(self, snapshot: Snapshot, space: str) -> tuple[VectorSegment, ...]:
        """The files of a space as the catalog names them. Where the pool is in that space by now, or its model is
        deleted, they may be replaced between the look into the catalog and their opening: then it is looked again."""
        uid = snapshot.pool.uid
        files = self._files_of(uid, space)
        while True:
            try:
                opened = [self._segments.open_vectors(file, verify=False) for file in files]
            except AssayError as error:
                named = self._files_of(uid, space)
                if error.reason is not Reason.SEGMENT_DAMAGED or named == files:
                    raise
                files = named
            else:
                return tuple(sorted(opened, key=lambda segment: segment.file.first_row))

    def _files_of(self, pool_uid: int, space: str) -> list[SegmentFile]:
        with self._catalog.reading() as tx:
            return [file for file in tx.segments(pool_uid) if file.kind == "vectors" and file.space == space]

    def _swap(self, change: Change, backbone: ActiveBackbone) -> None:
        pool, info = change.before.pool, backbone.runtime.info
        model_id, space = backbone.record.model_id, backbone.record.space
        change.tx.record_activation(pool.uid, ModelKind.BACKBONE, model_id, space, self._clock.now())
        change.replace_pool(backbone=model_id, space=space, dimension=info.dimension)
        change.replace(backbone=backbone)
        if pool.space == space:
            return
        change.replace(vectors=self._open_space(change.before, space), index=None)
        change.replace_pool(search_index="")
        head = self._last_head(change, space)
        if head is not None or change.before.head is not None:
            self._set_head(change, head, space)

    def _last_head(self, change: Change, space: str) -> ActiveHead | None:
        """The head that served a space when it was last active."""
        uid = change.before.pool.uid
        for model_id, head_space in reversed(change.tx.activations(uid, ModelKind.HEAD)):
            record = change.tx.model(uid, model_id) if model_id and head_space == space else None
            if record is not None:
                return self.load_head(record)
        return None


def _check_stop(task: Task) -> None:
    if task.stopped():
        raise AssayError(Reason.CANCELLED, "The operation was cancelled before the model was active.")


def _require_model(change: Change, record: ModelRecord) -> None:
    """Raises AssayError(MODEL_NOT_FOUND) if the version was deleted while it was being activated; another one may have
    its id by now."""
    if change.tx.model(change.before.pool.uid, record.model_id) != record:
        raise AssayError(
            Reason.MODEL_NOT_FOUND,
            f"Model {record.model_id!r} was deleted while it was being activated.",
            model=record.model_id,
        )


def _blocks(positions: RowArray, runs: Sequence[tuple[int, int]]) -> Iterator[RowArray]:
    """Positions in blocks whose inputs have one shape."""
    for first, end in runs:
        inside = positions[(positions >= first) & (positions < end)]
        for start in range(0, len(inside), EMBED_BLOCK):
            yield inside[start : start + EMBED_BLOCK]
