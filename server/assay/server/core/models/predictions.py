"""What the current model says of every row: logits or probabilities, and the scores made of them.

All of it is derived: computed once per version, extended when rows arrive, dropped when the version is no longer used.
It is extended block by block, by one thread at a time: what a block gives is kept, so that who goes on after a caller
that left, or waited for it, does not begin again.
"""

import json
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from assay.server.core.models.merged import UNSEEN_LOGIT, fold, version
from assay.server.core.pools.snapshot import ActiveHead, Snapshot
from assay.server.core.ports.machine import Scratch
from assay.server.core.ports.models import Heads
from assay.server.core.ports.segments import SampleSegment, VectorSegment
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.models import HeadWeights
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Candidates, Need, Scorer, checkpoint
from assay.strategies.candidates import softmax
from assay.strategies.interrupt import holding, interruptible

# Rows of embeddings in one product with a head: about a core's share of the last-level cache at a few hundred
# dimensions; and its multiplications, which take some hundredths of a second.
PRODUCT_ROWS = 8192
PRODUCT_WORK = 1 << 30
# Rows in a block of predictions or scores, and its values: between two blocks a caller can leave.
BLOCK_ROWS = 1 << 16
BLOCK_VALUES = 1 << 22
KEPT_SCORES = 16
KEPT_SOURCES = 2
# A head that a plan names as its source: "models/ID".
VERSIONS = "models/"

Report = Callable[[int, int], None]

_HEAD_NEEDS = {
    TaskKind.CLASSIFICATION: Need.LOGITS,
    TaskKind.MULTILABEL: Need.LABEL_PROBS,
    TaskKind.REGRESSION: None,
}

Filed = TypeVar("Filed", SampleSegment, VectorSegment)


class Source(Protocol):
    """Where predictions come from."""

    @property
    def key(self) -> str:
        """Names the version: same key, same predictions."""

    @property
    def name(self) -> str:
        """ "head", "backbone", "pushed" or "named"."""

    @property
    def need(self) -> Need | None:
        """What it gives: LOGITS, PROBS or LABEL_PROBS; None for numbers, of which strategies read the members'."""

    def columns(self, snapshot: Snapshot) -> int:
        """How many values it gives of a row: one for every class of the pool, or for every number."""

    def fill(self, snapshot: Snapshot, first_row: int, end_row: int, out_NC: FloatArray) -> None:
        """Writes the predictions of the rows first_row..end_row-1; out_NC[i] is row i. Raises Interrupted."""


@dataclass(frozen=True, slots=True)
class HeadSource:
    """What a head says of the pool's embeddings. N x D reads and 2 N D C operations."""

    head_id: str
    weights: HeadWeights
    heads: Heads
    name: str = "head"

    @property
    def key(self) -> str:
        return f"head:{self.head_id}"

    @property
    def need(self) -> Need | None:
        return _HEAD_NEEDS[self.weights.kind]

    def columns(self, snapshot: Snapshot) -> int:
        of_numbers = self.weights.kind is TaskKind.REGRESSION
        return self.weights.bias_KC.shape[1] if of_numbers else len(snapshot.pool.task.classes)

    def fill(self, snapshot: Snapshot, first_row: int, end_row: int, out_NC: FloatArray) -> None:
        for segment, start, stop in _inside(snapshot.vectors, first_row, end_row):
            self._fill_part(segment.rows_N[start:stop], segment.embeddings_ND[start:stop], out_NC)

    def apply(self, embeddings_ND: FloatArray, out_NC: FloatArray) -> None:
        """Writes the logits of any embeddings. Raises Interrupted."""
        work = max(1, self.weights.weights_KDC[0].size)
        step = max(1, min(PRODUCT_ROWS, PRODUCT_WORK // work))
        for start in range(0, len(embeddings_ND), step):
            checkpoint()
            part = slice(start, start + step)
            self.heads.predict(self.weights, embeddings_ND[part], out_NC[part])

    def _fill_part(self, rows: RowArray, embeddings_MD: FloatArray, out_NC: FloatArray) -> None:
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 == len(rows):
            self.apply(embeddings_MD, out_NC[first : last + 1])
            return
        part_MC = np.empty((len(rows), out_NC.shape[1]), np.float32)
        self.apply(embeddings_MD, part_MC)
        out_NC[rows] = part_MC


@dataclass(frozen=True, slots=True)
class BackboneSource:
    """Logits that the backbone gave when it embedded the rows."""

    space: str
    name: str = "backbone"
    need: Need = Need.LOGITS

    @property
    def key(self) -> str:
        return f"backbone:{self.space}"

    def columns(self, snapshot: Snapshot) -> int:
        return len(snapshot.pool.task.classes)

    def fill(self, snapshot: Snapshot, first_row: int, end_row: int, out_NC: FloatArray) -> None:
        for segment, start, stop in _inside(snapshot.vectors, first_row, end_row):
            part_MC = None if segment.logits_NC is None else segment.logits_NC[start:stop]
            _put(out_NC, segment.rows_N[start:stop], part_MC, UNSEEN_LOGIT)


@dataclass(frozen=True, slots=True)
class PushedSource:
    """Probabilities that came with the samples."""

    name: str = "pushed"
    need: Need = Need.PROBS
    key: str = "pushed"

    def columns(self, snapshot: Snapshot) -> int:
        return len(snapshot.pool.task.classes)

    def fill(self, snapshot: Snapshot, first_row: int, end_row: int, out_NC: FloatArray) -> None:
        for segment, start, stop in _inside(snapshot.samples, first_row, end_row):
            part_MC = None if segment.predictions_NC is None else segment.predictions_NC[start:stop]
            _put(out_NC, segment.rows_N[start:stop], part_MC, 0.0)


_NAMED_NEEDS = {
    TaskKind.CLASSIFICATION: Need.PROBS,
    TaskKind.MULTILABEL: Need.LABEL_PROBS,
    TaskKind.REGRESSION: None,
}


@dataclass(frozen=True, slots=True)
class NamedSource:
    """Probabilities or numbers that a user's own model gave, under its name."""

    source: str
    version: str
    kind: TaskKind
    name: str = "named"

    @property
    def key(self) -> str:
        return f"named:{self.source}:{self.version}"

    @property
    def need(self) -> Need | None:
        return _NAMED_NEEDS[self.kind]

    def columns(self, snapshot: Snapshot) -> int:
        task = snapshot.pool.task
        return len(task.targets) if self.kind is TaskKind.REGRESSION else len(task.classes)

    def fill(self, snapshot: Snapshot, first_row: int, end_row: int, out_NC: FloatArray) -> None:
        rows = np.arange(first_row, end_row)
        _put(out_NC, rows, None, 0.0)
        for opened, positions, places in snapshot.sources[self.source].locate(rows):
            values_NX = opened.columns.values_NX
            assert values_NX is not None
            _put(out_NC, rows[positions], values_NX[places], 0.0)


def _put(out_NC: FloatArray, rows: RowArray, part_MC: FloatArray | None, unseen: float) -> None:
    """Writes what is known of rows, NaN where nothing is; classes that came later than it are unseen."""
    if part_MC is None:
        out_NC[rows] = np.nan
        return
    out_NC[rows, : part_MC.shape[1]] = part_MC
    out_NC[rows, part_MC.shape[1] :] = unseen


def _inside(segments: Iterable[Filed], first_row: int, end_row: int) -> Iterator[tuple[Filed, int, int]]:
    """The segments that hold any of the rows first_row..end_row-1, and from where to where they do."""
    for segment in segments:
        if segment.file.first_row < end_row:
            start, stop = np.searchsorted(segment.rows_N, (first_row, end_row)).tolist()
            if start < stop:
                yield segment, start, stop


def probabilities(source: Source, values_NC: FloatArray) -> FloatArray:
    """Probabilities from what a source of classes gives."""
    return softmax(values_NC) if source.need is Need.LOGITS else values_NC


def deviations(head: HeadSource | None, embeddings_ND: FloatArray) -> FloatArray | None:
    """How far the members of a head for numbers scatter around their mean: standard deviations [N, T]; None without a
    committee."""
    if head is None or len(head.weights.bias_KC) < 2:
        return None
    members_KNT = head.heads.predict_members(head.weights, embeddings_ND, head.weights.bias_KC.shape[1])
    spread_NT: FloatArray = members_KNT.std(axis=0, dtype=np.float64).astype(np.float32)
    return spread_NT


def source_of(snapshot: Snapshot, heads: Heads, head: ActiveHead | None = None, name: str = "") -> Source | None:
    """The best source that a pool has: a head, the backbone's own logits, pushed probabilities, or None.

    Args:
        head: a head to take instead.
        name: the only source to take: "head" (or "models/ID", of a snapshot that was made for it), "backbone",
            "pushed", or one of the user's own. None where it is not there, or predicts objects, which make no matrix.
    """
    chosen = head or snapshot.head
    if chosen is not None and of_head(name):
        return HeadSource(chosen.record.model_id, chosen.weights, heads)
    kind = snapshot.pool.task.kind
    if name in snapshot.sources and kind in _NAMED_NEEDS:
        return NamedSource(name, snapshot.sources[name].version, kind)
    if kind is not TaskKind.CLASSIFICATION:
        return None  # What comes with samples and from backbones is of one class.
    if name in ("", "backbone") and any(_has_logits(segment) for segment in snapshot.vectors):
        return BackboneSource(snapshot.pool.space)
    if name in ("", "pushed") and any(segment.predictions_NC is not None for segment in snapshot.samples):
        return PushedSource()
    return None


def of_head(name: str) -> bool:
    """Whether a source of this name is the head of the snapshot."""
    return name in ("", "head") or name.startswith(VERSIONS)


def _has_logits(segment: VectorSegment) -> bool:
    return segment.logits_NC is not None


Dtype = TypeVar("Dtype", bound=np.generic)


class _Kept(Generic[Dtype]):
    """One value of every row, extended block by block."""

    def __init__(self, dtype: type[Dtype], step: int) -> None:
        """step: how many are computed at a time."""
        self.step = step
        self._turn = threading.Lock()
        self._values_N: npt.NDArray[Dtype] = np.empty(0, dtype)

    def up_to(self, count: int, compute: Callable[[int, int], npt.NDArray[Dtype]]) -> npt.NDArray[Dtype]:
        """The values of the first `count` rows; compute(start, stop) gives those that are missing. Raises Interrupted,
        and whatever `compute` raises; the blocks before that are kept."""
        if len(self._values_N) < count:
            with holding(self._turn):
                self._extend(count, compute)
        return self._values_N[:count]

    def _extend(self, count: int, compute: Callable[[int, int], npt.NDArray[Dtype]]) -> None:
        done = len(self._values_N)
        # Somebody else's turn may have brought them.
        if done >= count:
            return
        # Readers keep the old array.
        grown_N = np.empty(count, self._values_N.dtype)
        grown_N[:done] = self._values_N
        try:
            while done < count:
                checkpoint()
                stop = _block_end(done, count, self.step)
                grown_N[done:stop] = compute(done, stop)
                done = stop
        finally:
            self._values_N = grown_N[:done]


class _Asked:
    """A stop that only says whether anybody asks."""

    def __init__(self) -> None:
        self.ever = False

    def __call__(self) -> bool:
        self.ever = True
        return False


def _block_end(start: int, end: int, step: int) -> int:
    """Where a block ends: at a multiple of `step`, wherever it begins."""
    return min(end, (start // step + 1) * step)


def _blocks(start: int, end: int, step: int) -> Iterator[tuple[int, int]]:
    while start < end:
        stop = _block_end(start, end, step)
        yield start, stop
        start = stop


class Predictions:
    """Predictions of one source over all rows, and the scores made of them; grows with the pool.

    Memory: 4 N C bytes, in memory or in a scratch file as the Scratch port decides, and 4 N per kept score.
    """

    def __init__(self, source: Source, columns: int, scratch: Scratch) -> None:
        """columns: classes, or numbers."""
        self.source = source
        self._columns = columns
        self._scratch = scratch
        # Held while predictions are computed, and while something is looked up.
        self._turn, self._lock = threading.Lock(), threading.Lock()
        self._step = max(1, min(BLOCK_ROWS, BLOCK_VALUES // max(columns, 1)))
        self._values_NC: FloatArray = scratch.array((0, columns))
        self._known_N: MaskArray = np.empty(0, np.bool_)
        self._complete = True
        # Rows up to here are in the arrays; set after they are.
        self._filled = 0
        self._scores: OrderedDict[str, _Kept[np.float32]] = OrderedDict()
        self._classes = _Kept(np.int32, self._step)

    def extend(self, snapshot: Snapshot, report: Report = lambda done, total: None) -> None:
        """Computes what is missing up to the snapshot's last row. Raises Interrupted; what is done is kept."""
        if self._filled < snapshot.row_count:
            with holding(self._turn):
                self._extend(snapshot, report)

    def values(self, snapshot: Snapshot) -> FloatArray:
        """Logits or probabilities of every row. Shape [row_count, C]; rows that nothing is known of hold a
        placeholder."""
        self.extend(snapshot)
        return self._values_NC[: snapshot.row_count]

    def known(self, snapshot: Snapshot) -> MaskArray:
        """Rows that the source predicts. Shape [row_count]."""
        self.extend(snapshot)
        return self._known_N[: snapshot.row_count]

    def complete(self, snapshot: Snapshot) -> bool:
        """Whether the source predicts every row."""
        self.extend(snapshot)
        return self._complete

    def classes(self, snapshot: Snapshot) -> npt.NDArray[np.int32]:
        """Index of the most likely class of every row, the lowest of equals. Shape [row_count]."""
        values_NC = self.values(snapshot)

        def likeliest(start: int, stop: int) -> npt.NDArray[np.int32]:
            classes_B: npt.NDArray[np.int32] = values_NC[start:stop].argmax(axis=1).astype(np.int32)
            return classes_B

        return self._classes.up_to(snapshot.row_count, likeliest)

    def scores(self, snapshot: Snapshot, scorer: Scorer, params: Any, params_json: Mapping[str, Any]) -> FloatArray:
        """Scores of every row by a scorer that needs nothing but predictions. Shape [row_count]. A scorer that does not
        ask for a stop itself is stopped between blocks of rows."""
        values_NC, need = self.values(snapshot), self.source.need
        assert need is not None  # Supply.check
        kept = self._kept(f"{scorer.name}:{json.dumps(params_json, sort_keys=True)}")

        def scored(start: int, stop: int) -> FloatArray:
            asked = _Asked()
            with interruptible(asked):
                scores_B = scorer.score(Candidates(stop - start, {need: values_NC[start:stop]}), params)
            if asked.ever:
                # It divides the rows by itself, among all cores.
                kept.step = sys.maxsize
            return scores_B

        return kept.up_to(snapshot.row_count, scored)

    def _kept(self, key: str) -> _Kept[np.float32]:
        with self._lock:
            kept = self._scores.pop(key, None) or _Kept(np.float32, self._step)
            self._scores[key] = kept
            while len(self._scores) > KEPT_SCORES:
                self._scores.popitem(last=False)
            return kept

    def _extend(self, snapshot: Snapshot, report: Report) -> None:
        first, count = self._filled, snapshot.row_count
        if count <= first:
            return
        self._reserve(count)
        for start, stop in _blocks(first, count, self._step):
            checkpoint()
            self._fill(snapshot, start, stop)
            self._filled = stop
            report(stop - first, count - first)

    def _fill(self, snapshot: Snapshot, start: int, stop: int) -> None:
        fresh_BC = self._values_NC[start:stop]
        # Rows that no segment holds must still be harmless to a scorer.
        fresh_BC[:] = 1.0 / self._columns
        self.source.fill(snapshot, start, stop, self._values_NC)
        unknown_B = np.isnan(fresh_BC[:, 0])
        fresh_BC[unknown_B] = 1.0 / self._columns
        fold(snapshot.task.merges, self.source.need, fresh_BC)
        self._known_N[start:stop] = ~unknown_B
        self._complete = self._complete and not unknown_B.any()

    def _reserve(self, count: int) -> None:
        if count <= len(self._values_NC):
            return
        capacity = max(count, 2 * len(self._values_NC)) if len(self._values_NC) else count
        grown = self._scratch.array((capacity, self._columns))
        for start, stop in _blocks(0, self._filled, self._step):
            checkpoint()
            grown[start:stop] = self._values_NC[start:stop]
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

    def of(self, snapshot: Snapshot, head: ActiveHead | None = None, name: str = "") -> Predictions | None:
        """Predictions of a snapshot's best source, of a given head, or of the source of a name; None where nothing
        predicts."""
        source = source_of(snapshot, self.heads, head, name)
        if source is None:
            return None
        # Rows mean other vectors in another space, a class that was added is a column more, and merges fold columns.
        columns = source.columns(snapshot)
        key = f"{snapshot.pool.space}/{columns}/{version(snapshot.task.merges)}/{source.key}"
        with self._lock:
            if head is None and not name:
                # While others are scored beside it, a request must not have to score the pool again.
                self._serving = key
            found = self._kept.pop(key, None) or Predictions(source, columns, self._scratch)
            self._kept[key] = found
            unused = [kept for kept in self._kept if kept not in (key, self._serving)]
            for dropped in unused[: max(0, len(self._kept) - KEPT_SOURCES)]:
                del self._kept[dropped]
            return found
