"""What the current model says of every row: logits or probabilities, and the scores made of them.

All of it is derived: computed once per version, extended when rows arrive, dropped when the version is no longer used.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.pools.snapshot import ActiveHead, Snapshot
from assay.server.core.ports.machine import Scratch
from assay.server.core.ports.models import Heads
from assay.server.core.ports.segments import VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.models import HeadWeights
from assay.strategies import Candidates, Need, Scorer

# About the size of a core's share of the last-level cache at a few hundred dimensions; also how often a stop is seen.
BLOCK_ROWS = 8192
KEPT_SCORES = 16
KEPT_SOURCES = 2

Report = Callable[[int, int], None]
Stop = Callable[[], bool]


class Source(Protocol):
    """Where class predictions come from."""

    @property
    def key(self) -> str:
        """Names the version: same key, same predictions."""

    @property
    def name(self) -> str:
        """ "head", "backbone" or "pushed"."""

    @property
    def need(self) -> Need:
        """LOGITS or PROBS: what it gives."""

    def fill(self, snapshot: Snapshot, first_row: int, out_NC: FloatArray, report: Report, stop: Stop) -> None:
        """Writes the predictions of rows from first_row on; out_NC[i] is row i."""


@dataclass(frozen=True, slots=True)
class HeadSource:
    """Logits of a head over the pool's embeddings. N x D reads and 2 N D C operations."""

    head_id: str
    weights: HeadWeights
    heads: Heads
    name: str = "head"
    need: Need = Need.LOGITS

    @property
    def key(self) -> str:
        return f"head:{self.head_id}"

    def fill(self, snapshot: Snapshot, first_row: int, out_NC: FloatArray, report: Report, stop: Stop) -> None:
        total = snapshot.row_count - first_row
        for segment in snapshot.vectors:
            start = int(np.searchsorted(segment.rows_N, first_row))
            for begin in range(start, segment.file.count, BLOCK_ROWS):
                if stop():
                    raise AssayError(Reason.CANCELLED, "The operation was cancelled while it scored the pool.")
                rows = segment.rows_N[begin : begin + BLOCK_ROWS]
                self._fill_block(rows, segment.embeddings_ND[begin : begin + BLOCK_ROWS], out_NC)
                report(int(rows[-1]) + 1 - first_row, total)

    def _fill_block(self, rows: RowArray, embeddings_BD: FloatArray, out_NC: FloatArray) -> None:
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == len(rows):
            self.heads.logits(self.weights, embeddings_BD, out_NC[first : last + 1])
            return
        block_BC = np.empty((len(rows), out_NC.shape[1]), np.float32)
        self.heads.logits(self.weights, embeddings_BD, block_BC)
        out_NC[rows] = block_BC


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """Logits that the backbone gave when it embedded the rows."""

    space: str
    name: str = "backbone"
    need: Need = Need.LOGITS

    @property
    def key(self) -> str:
        return f"backbone:{self.space}"

    def fill(self, snapshot: Snapshot, first_row: int, out_NC: FloatArray, report: Report, stop: Stop) -> None:
        for segment in snapshot.vectors:
            start = int(np.searchsorted(segment.rows_N, first_row))
            if start < segment.file.count:
                rows = segment.rows_N[start:]
                out_NC[rows] = np.nan if segment.logits_NC is None else segment.logits_NC[start:]


@dataclass(frozen=True, slots=True)
class PushedSource:
    """Probabilities that came with the samples."""

    name: str = "pushed"
    need: Need = Need.PROBS
    key: str = "pushed"

    def fill(self, snapshot: Snapshot, first_row: int, out_NC: FloatArray, report: Report, stop: Stop) -> None:
        for segment in snapshot.samples:
            start = int(np.searchsorted(segment.rows_N, first_row))
            if start < segment.file.count:
                rows = segment.rows_N[start:]
                out_NC[rows] = np.nan if segment.predictions_NC is None else segment.predictions_NC[start:]


def probabilities(source: Source, values_NC: FloatArray) -> FloatArray:
    """Class probabilities from what a source gives."""
    return values_NC if source.need is Need.PROBS else softmax(values_NC)


def softmax(logits_NC: FloatArray) -> FloatArray:
    """Class probabilities from logits."""
    probs_NC: FloatArray = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    probs_NC /= probs_NC.sum(axis=1, keepdims=True)
    return probs_NC


def source_of(snapshot: Snapshot, heads: Heads, head: ActiveHead | None = None) -> Source | None:
    """The best source that a pool has: a head, the backbone's own logits, pushed probabilities, or None."""
    chosen = head or snapshot.head
    if chosen is not None:
        return HeadSource(chosen.record.model_id, chosen.weights, heads)
    if any(_has_logits(segment) for segment in snapshot.vectors):
        return BackboneSource(snapshot.pool.space)
    if any(segment.predictions_NC is not None for segment in snapshot.samples):
        return PushedSource()
    return None


def _has_logits(segment: VectorSegment) -> bool:
    return segment.logits_NC is not None


class Predictions:
    """Predictions of one source over all rows, and the scores made of them; grows with the pool.

    Memory: 4 N C bytes, in memory or in a scratch file as the Scratch port decides, and 4 N per kept score.
    """

    def __init__(self, source: Source, class_count: int, scratch: Scratch) -> None:
        self.source = source
        self._class_count = class_count
        self._scratch = scratch
        self._lock = threading.Lock()
        self._values_NC: FloatArray = scratch.array((0, class_count))
        self._known_N: MaskArray = np.empty(0, np.bool_)
        self._complete = True
        self._filled = 0
        self._scores: OrderedDict[str, FloatArray] = OrderedDict()
        self._classes_N: npt.NDArray[np.int32] = np.empty(0, np.int32)

    def extend(self, snapshot: Snapshot, report: Report = lambda done, total: None, stop: Stop = lambda: False) -> None:
        """Computes what is missing up to the snapshot's last row."""
        with self._lock:
            self._extend(snapshot, report, stop)

    def values(self, snapshot: Snapshot) -> FloatArray:
        """Logits or probabilities of every row. Shape [row_count, C]; rows that nothing is known of hold a
        placeholder."""
        with self._lock:
            self._extend(snapshot, lambda done, total: None, lambda: False)
            return self._values_NC[: snapshot.row_count]

    def known(self, snapshot: Snapshot) -> MaskArray:
        """Rows that the source predicts. Shape [row_count]."""
        self.values(snapshot)
        return self._known_N[: snapshot.row_count]

    def complete(self, snapshot: Snapshot) -> bool:
        """Whether the source predicts every row."""
        self.values(snapshot)
        return self._complete

    def classes(self, snapshot: Snapshot) -> npt.NDArray[np.int32]:
        """Index of the most likely class of every row, the lowest of equals. Shape [row_count]."""
        with self._lock:
            self._extend(snapshot, lambda done, total: None, lambda: False)
            have_N = self._classes_N
            if len(have_N) < self._filled:
                fresh_N = self._values_NC[len(have_N) : self._filled].argmax(axis=1).astype(np.int32)
                self._classes_N = np.concatenate([have_N, fresh_N])
            return self._classes_N[: snapshot.row_count]

    def scores(self, snapshot: Snapshot, scorer: Scorer, params: Any, params_json: Mapping[str, Any]) -> FloatArray:
        """Scores of every row by a scorer that needs nothing but predictions. Shape [row_count]."""
        key = f"{scorer.name}:{json.dumps(params_json, sort_keys=True)}"
        with self._lock:
            self._extend(snapshot, lambda done, total: None, lambda: False)
            have = self._scores.pop(key, np.empty(0, np.float32))
            if len(have) < self._filled:
                fresh = scorer.score(self._candidates(len(have), self._filled), params)
                have = np.concatenate([have, fresh])
            self._scores[key] = have
            while len(self._scores) > KEPT_SCORES:
                self._scores.popitem(last=False)
            return have[: snapshot.row_count]

    def _candidates(self, start: int, stop: int) -> Candidates:
        return Candidates(stop - start, {self.source.need: self._values_NC[start:stop]})

    def _extend(self, snapshot: Snapshot, report: Report, stop: Stop) -> None:
        count = snapshot.row_count
        if count <= self._filled:
            return
        self._reserve(count)
        fresh_NC = self._values_NC[self._filled : count]
        # Rows that no segment holds must still be harmless to a scorer.
        fresh_NC[:] = 1.0 / self._class_count
        self.source.fill(snapshot, self._filled, self._values_NC, report, stop)
        unknown = np.isnan(fresh_NC[:, 0])
        fresh_NC[unknown] = 1.0 / self._class_count
        self._known_N[self._filled : count] = ~unknown
        self._complete = self._complete and not unknown.any()
        self._filled = count

    def _reserve(self, count: int) -> None:
        if count <= len(self._values_NC):
            return
        capacity = max(count, 2 * len(self._values_NC)) if len(self._values_NC) else count
        grown = self._scratch.array((capacity, self._class_count))
        grown[: self._filled] = self._values_NC[: self._filled]
        known = np.zeros(capacity, np.bool_)
        known[: self._filled] = self._known_N[: self._filled]
        # Readers keep the old arrays; what they see of them never changes.
        self._values_NC, self._known_N = grown, known


class PredictionCache:
    """The predictions in use, by source; the least recently used beyond a few are dropped, the serving ones never."""

    def __init__(self, heads: Heads, scratch: Scratch) -> None:
        self.heads = heads
        self._scratch = scratch
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Predictions] = OrderedDict()
        self._serving = ""

    def of(self, snapshot: Snapshot, head: ActiveHead | None = None) -> Predictions | None:
        """Predictions of a snapshot's best source (or of a given head); None where nothing predicts."""
        source = source_of(snapshot, self.heads, head)
        if source is None:
            return None
        # The space is part of the key: rows mean other vectors in another space.
        key = f"{snapshot.pool.space}/{source.key}"
        with self._lock:
            if head is None:
                # While other heads are scored beside it, a request must not have to score the pool again.
                self._serving = key
            found = self._kept.pop(key, None) or Predictions(source, len(snapshot.pool.class_names), self._scratch)
            self._kept[key] = found
            unused = [kept for kept in self._kept if kept not in (key, self._serving)]
            for dropped in unused[: max(0, len(self._kept) - KEPT_SOURCES)]:
                del self._kept[dropped]
            return found
