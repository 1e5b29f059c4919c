"""Records for tests, and ways around the port to look at a database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
from sqlalchemy import Connection, create_engine, make_url, text

from assay.server.core.ports.catalog import CatalogTx
from assay.server.core.records.labels import LabelRecord, LeaseRecord
from assay.server.core.records.models import (
    BackboneInfo,
    DataFile,
    HeadInfo,
    HeadMetrics,
    ModelKind,
    ModelRecord,
    Pooling,
    TensorSpec,
)
from assay.server.core.records.pools import Metric, PoolRecord
from assay.server.core.records.requests import RequestKey
from assay.server.core.records.samples import SegmentFile

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
    classes_seen=19,
    members=5,
    labels=400,
    l2=1e-3,
    temperature=1.25,
    metrics=HeadMetrics(accuracy=0.71, log_loss=0.95, calibration_error=0.04, samples=80),
    balanced=True,
    seed=2**63 + 1,
)


def pool_record(pool_id: str, **changes: Any) -> PoolRecord:
    fields = {"uid": 0, "metric": Metric.COSINE, "class_names": ("ham", "späm"), "keep_inputs": True}
    return PoolRecord(pool_id=pool_id, create_time=1_700_000_000.125, **{**fields, **changes})


def segment(file: str, **changes: Any) -> SegmentFile:
    fields = {"kind": "samples", "space": "", "first_row": 0, "last_row": 9, "count": 10, "size": 2**40}
    return SegmentFile(file=file, checksum="0f" * 16, **{**fields, **changes})


def lease(lease_id: str, rows: tuple[int, ...], *, token: int = 1, worker: str = "ann") -> LeaseRecord:
    return LeaseRecord(lease_id, worker, token, 10.0, 910.5, "live", rows)


def label(row: int, class_index: int = 0, *, worker: str = "ann", lease: str = "") -> LabelRecord:
    return LabelRecord(row, class_index, worker, 20.25, lease)


def put_labels(tx: CatalogTx, pool_uid: int, labels: Sequence[LabelRecord]) -> None:
    """Stores labels, whoever they are of, in their order."""
    for (worker, time, lease), found in groupby(labels, lambda one: (one.worker, one.create_time, one.lease)):
        part = list(found)
        rows, classes = [one.row for one in part], [one.class_index for one in part]
        tx.put_label_columns(pool_uid, np.array(rows), np.array(classes, np.int32), worker, time, lease)


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
