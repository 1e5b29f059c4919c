"""Records for tests, and ways around the port to look at a database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, create_engine, make_url, text

from assay.server.adapters.sql.blocks import pack
from assay.server.core.ports.catalog import CatalogTx
from assay.server.core.records.annotations import EventBlock, EventKind, Origin
from assay.server.core.records.leases import LeaseRecord
from assay.server.core.records.metrics import ClassScores, HeadMetrics, Score
from assay.server.core.records.models import (
    BackboneInfo,
    DataFile,
    HeadInfo,
    ModelKind,
    ModelRecord,
    Pooling,
    TensorSpec,
)
from assay.server.core.records.pools import Metric, PoolRecord
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import SegmentFile
from assay.server.core.records.suspects import Rating, SuspectKind, SuspectRecord
from assay.server.core.records.tasks import TaskKind, TaskRecord

BACKBONE = BackboneInfo(
    inputs=(TensorSpec("input_ids", "int64", (-1, -1)), TensorSpec("attention_mask", "int64", (-1, -1))),
    embedding_output="last_hidden_state",
    logits_output="",
    pooling=Pooling.MEAN,
    mask_input="attention_mask",
    normalize=True,
    dimension=384,
    size_bytes=21_000_000_000,
    sha256="ab" * 32,
    data_files=(DataFile("model.onnx.data", 20_999_000_000),),
    classes=0,
    trims_padding=True,
    one_by_one=False,
)
HEAD = HeadInfo(
    kind=TaskKind.CLASSIFICATION,
    classes=tuple(range(1, 20)),
    classes_seen=19,
    members=5,
    labels=400,
    l2=1e-3,
    temperature=1.25,
    metrics=HeadMetrics(
        80,
        {"accuracy": Score(0.71, 0.6, 0.8), "log_loss": Score(0.95), "f1": None},
        (ClassScores(3, 7, {"recall": Score(0.5, 0.25, 0.75), "precision": None}),),
    ),
    balanced=True,
    seed=2**63 + 1,
)


def pool_record(pool_id: str, **changes: Any) -> PoolRecord:
    task = TaskRecord.of_classes(TaskKind.CLASSIFICATION, ("ham", "späm"))
    fields = {"uid": 0, "metric": Metric.COSINE, "task": task, "keep_inputs": True}
    return PoolRecord(pool_id=pool_id, create_time=1_700_000_000.125, **{**fields, **changes})


def segment(file: str, **changes: Any) -> SegmentFile:
    fields = {"kind": "samples", "space": "", "first_row": 0, "last_row": 9, "count": 10, "size": 2**40}
    fields |= {"epoch": 2**40, "rows": b"\0\xff"}
    return SegmentFile(file=file, checksum="0f" * 16, **{**fields, **changes})


def lease(lease_id: str, rows: tuple[int, ...], *, token: int = 1, worker: str = "ann") -> LeaseRecord:
    return LeaseRecord(lease_id, worker, token, 10.0, 910.5, "live", rows)


@dataclass(frozen=True)
class Label:
    """What somebody said of a row."""

    row: int
    class_id: int
    worker: str
    create_time: float
    lease: str = ""


def label(row: int, class_id: int = 0, *, worker: str = "ann", lease: str = "") -> Label:
    return Label(row, class_id, worker, 20.25, lease)


def block(first_number: int, rows: Sequence[int], classes: Sequence[int], **columns: Any) -> EventBlock:
    """Annotations of rows that nobody has annotated before."""
    shared = {"worker": "ann", "create_time": 20.25, "lease_id": "", "origin": Origin.WORKER}
    count = len(rows)
    given = {
        "rows_N": np.array(rows, np.int64),
        "kinds_N": np.full(count, EventKind.ANNOTATE, np.uint8),
        "values": np.array(classes, np.int32),
        "answered_after_N": np.ones(count, np.uint8),
        "previous_N": np.full(count, -1, np.int64),
    }
    return EventBlock(first_number, **{**shared, **given, **columns})  # type: ignore[arg-type]


def put_labels(tx: CatalogTx, pool_uid: int, labels: Sequence[Label]) -> None:
    """Adds labels to the log, whoever they are of, in their order."""
    for (worker, time, lease), found in groupby(labels, lambda one: (one.worker, one.create_time, one.lease)):
        part = list(found)
        pool = tx.pool(pool_uid)
        first = pool.next_event if pool else 0
        rows, classes = [one.row for one in part], [one.class_id for one in part]
        given = block(first, rows, classes, worker=worker, create_time=time, lease_id=lease)
        tx.append_events(pool_uid, pack(given))
        tx.update_pool(pool_uid, next_event=first + len(part))


def labels_of(tx: CatalogTx, pool_uid: int) -> list[Label]:
    """The labels that a pool's log comes to, by row."""
    found: dict[int, Label] = {}
    for one in tx.event_blocks(pool_uid, limit=1_000_000):
        for row, class_id in zip(one.rows_N.tolist(), one.labels.tolist(), strict=True):  # type: ignore[union-attr]
            found[row] = Label(row, class_id, one.worker, one.create_time, one.lease_id)
    return [found[row] for row in sorted(found)]


def model(model_id: str, *, kind: ModelKind = ModelKind.HEAD, file: str = "") -> ModelRecord:
    info = BACKBONE if kind is ModelKind.BACKBONE else HEAD
    return ModelRecord(model_id, kind, f"The {model_id}", 30.5, file or f"pools/1/models/{model_id}", "space-2", info)


def request_key(request_id: str, fingerprint: str = "body", method: str = "NextBatch") -> RequestKey:
    return RequestKey(request_id, method, fingerprint, lambda result: bytes(result))


@contextmanager
def direct(url: str) -> Iterator[Connection]:
    """A connection of our own, committed at the end."""
    parsed = make_url(url)
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    engine = create_engine(parsed)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def rows_of(url: str, query: str) -> list[tuple[Any, ...]]:
    """What a query finds."""
    with direct(url) as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def suspects_of(rows: Sequence[int]) -> SuspectRecord:
    """What an audit found of some rows."""
    count = len(rows)
    return SuspectRecord(
        create_time=12.5,
        epoch=2**40,
        next_event=2**41,
        kinds_M=np.full(count, SuspectKind.DUPLICATES, np.uint8),
        rows_M=np.array(rows, np.int64),
        scores_M=np.linspace(1, 0.5, count, dtype=np.float32),
        suggested_M=np.arange(-1, count - 1, dtype=np.int32),
        rating=Rating(np.arange(count) + 2**50, np.linspace(0, 1, count, dtype=np.float32), 0.25, 1e-6, 8.0),
    )
