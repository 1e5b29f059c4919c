"""Gives strategies the arrays that they need, and says before anything is computed what cannot be given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import Limits
from assay.server.core.models.merged import fold
from assay.server.core.models.predictions import NamedSource, PredictionCache, Predictions, of_head, probabilities
from assay.server.core.pools.snapshot import ActiveHead, Snapshot
from assay.server.core.pools.sources import Source
from assay.server.core.records.arrays import FloatArray, MaskArray, RowArray
from assay.server.core.records.models import HeadInfo
from assay.server.core.records.suspects import UNRATED
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Candidates, Need, Strategy
from assay.strategies.audit import first_answers
from assay.strategies.base import optional_needs
from assay.strategies.candidates import ArraySource
from assay.strategies.needs import PARTS
from assay.strategies.serving import PredictionKind, available

OF_PREDICTIONS = frozenset({Need.LOGITS, Need.PROBS, Need.LABEL_PROBS})
OF_HEAD = frozenset({Need.HEAD_WEIGHTS, Need.HEAD_BIAS})
# What is made of the model's predictions or weights.
OF_MEMBERS = frozenset({Need.MEMBER_PROBS, Need.MEMBER_VALUES})
OF_OBJECTS = PARTS
OF_MODEL = OF_PREDICTIONS | OF_HEAD | OF_MEMBERS | OF_OBJECTS | {Need.LABELED_PROBS}
SERVED = OF_MODEL | {Need.WORTH, Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS, Need.LABELED_CLASSES, Need.QUERY_EMBEDDINGS}
# What is predicted in pools of each task.
PREDICTED = {
    TaskKind.CLASSIFICATION: PredictionKind.CLASSES,
    TaskKind.MULTILABEL: PredictionKind.LABELS,
    TaskKind.REGRESSION: PredictionKind.VALUES,
    TaskKind.BOXES: PredictionKind.PARTS,
    TaskKind.SPANS: PredictionKind.PARTS,
    TaskKind.FREEFORM: PredictionKind.NOTHING,
}

# Asks for predictions besides strategies.
QUOTAS = "quotas"


def served(task: TaskKind) -> frozenset[Need]:
    """The arrays that this server can give strategies in pools of a task."""
    return SERVED & available(PREDICTED[task])


@dataclass(frozen=True, slots=True)
class Supply:
    """Arrays over the rows of a snapshot.

    Attributes:
        query: ids of samples that targeted strategies look for more of.
        source: whose predictions they are, see Plan.prediction_source.
    """

    snapshot: Snapshot
    cache: PredictionCache
    limits: Limits
    query: tuple[str, ...] = ()
    source: str = ""

    def check(self, strategy: Strategy) -> None:
        """Raises AssayError(NEED_MISSING | MODEL_NOT_STOCHASTIC) for what cannot be given."""
        name, needs = strategy.name, strategy.needs
        if beyond := needs - SERVED:
            raise _beyond(name, beyond)
        if foreign := needs - self._served:
            raise _of_another_task(name, foreign, self.snapshot.pool.task.kind)
        if needs & (OF_PREDICTIONS | {Need.LABELED_PROBS}):
            source = self.require_source(name).source
            if Need.LOGITS in needs and Need.PROBS not in needs and source.need is not Need.LOGITS:
                raise _no_logits(name, source.name)
        if needs & OF_OBJECTS and self._named is None:
            raise _no_objects(name, self.snapshot)
        if needs & OF_MEMBERS and self._members() < 2:
            raise self._no_members(strategy)
        if needs & OF_HEAD and self._active_head is None:
            raise _no_head(name, needs & OF_HEAD)

    @property
    def _served(self) -> frozenset[Need]:
        return served(self.snapshot.pool.task.kind)

    def predictions(self) -> Predictions | None:
        """Predictions of the best source, None where nothing predicts."""
        return self.cache.of(self.snapshot, name=self.source)

    def source_word(self) -> str:
        """Where predictions come from, for provenance."""
        if self._named is not None:
            return "named"
        predictions = self.predictions()
        return predictions.source.name if predictions else "none"

    @property
    def _named(self) -> Source | None:
        """The source of the user's own that is asked for."""
        return self.snapshot.sources.get(self.source) if self.source else None

    @property
    def _active_head(self) -> ActiveHead | None:
        return self.snapshot.head if of_head(self.source) else None

    def require_source(self, asker: str) -> Predictions:
        """Predictions of the best source. Raises AssayError(NEED_MISSING) where nothing predicts."""
        predictions = self.predictions()
        if predictions is None:
            raise _no_predictions(asker, self.snapshot.pool.task.kind, self.source)
        return predictions

    def require_predictions(self, asker: str, mask_N: MaskArray) -> Predictions:
        """Predictions of all masked rows. Raises AssayError(NEED_MISSING)."""
        predictions = self.require_source(asker)
        if predictions.complete(self.snapshot):
            return predictions
        unknown = mask_N & ~predictions.known(self.snapshot)
        if unknown.any():
            raise _some_unpredicted(asker, self._shown(predictions), int(np.count_nonzero(unknown)))
        return predictions

    def _no_members(self, strategy: Strategy) -> AssayError:
        if self._named is not None and Need.MEMBER_VALUES in strategy.needs:
            return _no_spread(strategy.name, self.source)
        whose = "current model" if self._named is None else f"source {self.source!r}"
        return _not_stochastic(strategy.name, whose)

    def _shown(self, predictions: Predictions) -> str:
        return self.source if isinstance(predictions.source, NamedSource) else predictions.source.name

    def require_named(self, strategy: Strategy, rows: RowArray) -> None:
        """Raises AssayError(NEED_MISSING) where the source of the user's own does not predict all rows what a strategy
        reads of it."""
        named = self._named
        if named is None or not strategy.needs & (OF_OBJECTS | OF_MEMBERS):
            return
        missing = ~named.known(rows)
        if strategy.needs & OF_MEMBERS:
            missing |= np.isnan(named.spread(rows, self._columns)).any(axis=1)
        if missing.any():
            raise _some_unpredicted(strategy.name, self.source, int(np.count_nonzero(missing)))

    def candidates(self, rows: RowArray, strategy: Strategy, conditioned: RowArray) -> Candidates:
        """Candidates of some rows, with just the arrays that the strategy needs or can use.

        `conditioned` are the rows that the LABELED_* arrays describe: labeled, leased or picked already. Where the
        strategy needs predictions for them, those without one are left out.
        """
        if Need.LABELED_PROBS in strategy.needs:
            conditioned = conditioned[self.require_source(strategy.name).known(self.snapshot)[conditioned]]
        if strategy.needs & OF_PREDICTIONS:
            self.require_predictions(strategy.name, _mask(rows, self.snapshot.row_count))
        self.require_named(strategy, rows)
        makers = self._makers(rows, conditioned)
        optional = {need for need in optional_needs(strategy) & self._served if self._has(need, rows, conditioned)}
        wanted = strategy.needs | optional
        if wanted & OF_PREDICTIONS:
            # PROBS is met by LOGITS too, so the source's own will do for either.
            given = self.require_source(strategy.name).source.need
            wanted = (wanted - OF_PREDICTIONS) | ({given} if given else set())
        return Candidates(len(rows), {need: makers[need] for need in wanted}, keys_N=rows)

    def _makers(self, rows: RowArray, conditioned: RowArray) -> dict[Need, ArraySource]:
        values = partial(self._values, rows)
        return {
            Need.LOGITS: values,
            Need.PROBS: values,
            Need.LABEL_PROBS: values,
            Need.EMBEDDINGS: partial(self.embeddings, rows),
            Need.MEMBER_PROBS: partial(self._of_members, rows),
            Need.MEMBER_VALUES: partial(self._member_values, rows),
            Need.PART_PROBS: partial(self._part_probs, rows),
            Need.PART_OFFSETS: partial(self._part_offsets, rows),
            Need.LABELED_EMBEDDINGS: partial(self.embeddings, conditioned),
            Need.LABELED_CLASSES: partial(self._classes, conditioned),
            Need.LABELED_PROBS: partial(self._labeled_probs, conditioned),
            Need.QUERY_EMBEDDINGS: self._query_embeddings,
            Need.HEAD_WEIGHTS: self._head_weights,
            Need.HEAD_BIAS: self._head_bias,
            Need.WORTH: partial(self._worth, rows),
        }

    def _has(self, need: Need, rows: RowArray, conditioned: RowArray) -> bool:
        """Whether an array can be given to those that can do without it."""
        known = self._all_known

        def members() -> bool:
            return self._members() > 1 and self._named is None and self._fits(rows) and self._members_fit(rows)

        def objects() -> bool:
            return self._named is not None and bool(self._named.known(rows).all())

        checks: dict[Need, Callable[[], bool]] = {
            Need.LOGITS: lambda: known(rows, Need.LOGITS),
            Need.PROBS: lambda: known(rows),
            Need.LABEL_PROBS: lambda: known(rows),
            Need.EMBEDDINGS: lambda: self._fits(rows),
            Need.MEMBER_PROBS: members,
            Need.MEMBER_VALUES: members,
            Need.PART_PROBS: objects,
            Need.PART_OFFSETS: objects,
            Need.LABELED_EMBEDDINGS: lambda: self._fits(conditioned),
            Need.LABELED_CLASSES: lambda: True,
            Need.LABELED_PROBS: lambda: known(conditioned),
            Need.QUERY_EMBEDDINGS: lambda: bool(self.query),
            Need.HEAD_WEIGHTS: lambda: self._active_head is not None,
            Need.HEAD_BIAS: lambda: self._active_head is not None,
            Need.WORTH: lambda: True,
        }
        return checks[need]()

    def _all_known(self, rows: RowArray, kind: Need | None = None) -> bool:
        predictions = self.predictions()
        if predictions is None or kind not in (None, predictions.source.need):
            return False
        return predictions.complete(self.snapshot) or bool(predictions.known(self.snapshot)[rows].all())

    def embeddings(self, rows: RowArray) -> FloatArray:
        """Embeddings of rows. Raises AssayError(INVALID_PLAN) for more than may be held at once."""
        if not self._fits(rows):
            raise self._too_large(len(rows) * self.snapshot.pool.dimension * 4, "embeddings")
        return self.snapshot.gather(rows)

    def rows_within(self, most_bytes: int, strategy: Strategy, most: int) -> int:
        """How many rows of the larger arrays that a strategy reads may be held at once; at least 1."""
        read = strategy.needs | optional_needs(strategy)
        pool, per_row = self.snapshot.pool, 0
        if read & ({Need.EMBEDDINGS} | OF_MEMBERS):
            per_row = 4 * pool.dimension
        if read & OF_MEMBERS:
            per_row += 4 * self._members() * self._columns
        if read & OF_OBJECTS and self._named is not None:
            per_row += 4 * (self._columns + 1) * self._named.objects_each
        return max(1, min(most, min(most_bytes, self.limits.max_selector_bytes) // max(per_row, 1)))

    def _fits(self, rows: RowArray) -> bool:
        return len(rows) * self.snapshot.pool.dimension * 4 <= self.limits.max_selector_bytes

    def _members_fit(self, rows: RowArray) -> bool:
        return self._member_bytes(rows) <= self.limits.max_selector_bytes

    def _member_bytes(self, rows: RowArray) -> int:
        return self._members() * len(rows) * self._columns * 4

    @property
    def _columns(self) -> int:
        """Classes or numbers that are predicted of a sample."""
        shape = self.snapshot.task.prediction_shape
        return 0 if shape is None else shape.columns

    def _too_large(self, needed: int, what: str) -> AssayError:
        return AssayError(
            Reason.INVALID_PLAN,
            f"The plan would hold {needed:,} bytes of {what} at once, more than "
            f"{self.limits.max_selector_bytes:,}. Give it a shortlist or a filter.",
            bytes=needed,
        )

    def _values(self, rows: RowArray) -> FloatArray:
        predictions = self.predictions()
        assert predictions is not None  # require_predictions
        values_NC: FloatArray = predictions.values(self.snapshot)[rows]
        return values_NC

    def _labeled_probs(self, rows: RowArray) -> FloatArray:
        predictions = self.predictions()
        assert predictions is not None  # check
        return probabilities(predictions.source, predictions.values(self.snapshot)[rows])

    def _classes(self, rows: RowArray) -> np.ndarray:
        return self.snapshot.labels.at(rows).astype(np.int64)

    def _worth(self, rows: RowArray) -> FloatArray:
        """What one more answer to rows is worth: what the model leaves open of samples without answers, what the last
        audit says of others; of what nothing is known, all that there is to know."""
        snapshot, suspects, predictions = self.snapshot, self.snapshot.suspects, self.predictions()
        of_classes = snapshot.pool.task.kind is TaskKind.CLASSIFICATION
        worth_N = np.full(len(rows), 1 - 1 / self._columns if of_classes else 1.0, np.float32)
        if of_classes and predictions is not None:
            first = (snapshot.answered.at(rows) == 0) & predictions.known(snapshot)[rows]
            rating = UNRATED if suspects is None else suspects.record.rating
            probs_MC = probabilities(predictions.source, predictions.values(snapshot)[rows[first]])
            if len(probs_MC):
                worth_N[first] = first_answers(
                    probs_MC,
                    model_weight=rating.model_weight,
                    annotator_weight=rating.annotator_weight,
                    temperature=rating.temperature,
                )
        return worth_N if suspects is None else suspects.worth(rows, worth_N)

    def _query_embeddings(self) -> FloatArray:
        return self.embeddings(self.snapshot.require(self.query))

    def _of_members(self, rows: RowArray) -> FloatArray:
        if not self._members_fit(rows):
            raise self._too_large(self._member_bytes(rows), "members' predictions")
        values_KNC = self.cache.heads.predict_members(self._head().weights, self.embeddings(rows), self._columns)
        task = self.snapshot.pool.task.kind
        # Members say probabilities, of one class too.
        need = (
            Need.PROBS if task is TaskKind.CLASSIFICATION else Need.LABEL_PROBS if task is TaskKind.MULTILABEL else None
        )
        fold(self.snapshot.task.merges, need, values_KNC)
        return values_KNC

    def _member_values(self, rows: RowArray) -> FloatArray:
        """Of several numbers in units of their deviations, or the one of the largest unit would decide alone."""
        if self._named is not None:
            return self._values_and_spread(self._named, rows)
        values_KNT, info = self._of_members(rows), self._head().record.info
        assert isinstance(info, HeadInfo)
        if len(info.deviations) > 1:
            values_KNT /= np.array(info.deviations, np.float32)
        return values_KNT

    def _values_and_spread(self, named: Source, rows: RowArray) -> FloatArray:
        """The numbers of a source and its spread as two members that differ by just that: their standard deviation is
        the spread. In units of the numbers' own deviations where there are several."""
        predictions = self.predictions()
        assert predictions is not None  # check
        values_NT, spread_NT = predictions.values(self.snapshot), named.spread(rows, self._columns)
        values_2NT: FloatArray = np.stack([values_NT[rows] - spread_NT, values_NT[rows] + spread_NT])
        if self._columns > 1:
            deviations_T = values_NT[predictions.known(self.snapshot)].std(axis=0, dtype=np.float64)
            values_2NT /= np.where(deviations_T > 0, deviations_T, 1).astype(np.float32)
        return values_2NT

    def _part_probs(self, rows: RowArray) -> FloatArray:
        """Probabilities of each object, those of its being nothing last."""
        named = self._named
        assert named is not None  # check
        probs_PC = named.objects(rows, self._columns).probs_PC
        fold(self.snapshot.task.merges, Need.PROBS, probs_PC)
        nothing_P = np.maximum(1 - probs_PC.sum(axis=1), 0)
        return np.concatenate([probs_PC, nothing_P[:, None]], axis=1).astype(np.float32, copy=False)

    def _part_offsets(self, rows: RowArray) -> np.ndarray:
        named = self._named
        assert named is not None  # check
        return named.object_offsets(rows)

    def _head_weights(self) -> FloatArray:
        """Of the first member, whose logits the pool is scored with; the temperature is in them already."""
        return np.ascontiguousarray(self._head().weights.weights_KDC[0].T)

    def _head_bias(self) -> FloatArray:
        return np.ascontiguousarray(self._head().weights.bias_KC[0])

    def _head(self) -> ActiveHead:
        head = self._active_head
        assert head is not None  # check
        return head

    def _members(self) -> int:
        if self._named is not None:
            return 2 if self._named.has_spread else 0
        head = self._active_head
        return 0 if head is None else len(head.weights.weights_KDC)


def _mask(rows: RowArray, count: int) -> MaskArray:
    mask_N = np.zeros(count, np.bool_)
    mask_N[rows] = True
    return mask_N


def _asker(strategy: str) -> str:
    return "A quota by predicted class" if strategy == QUOTAS else f"The strategy {strategy!r}"


def _no_predictions(strategy: str, task: TaskKind, source: str) -> AssayError:
    if source:
        return AssayError(
            Reason.NEED_MISSING,
            f"{_asker(strategy)} needs predictions, and the plan's prediction_source {source!r} gives none. Name "
            "another source, or none for the best that there is.",
            need=Need.PROBS,
            strategy=strategy,
            source=source,
        )
    labels = task is TaskKind.MULTILABEL
    pushed = "" if labels else "push predictions with the samples, "
    return AssayError(
        Reason.NEED_MISSING,
        f"{_asker(strategy)} needs class probabilities, and nothing predicts yet. Label samples of at least two "
        f"classes and train a head, {pushed}or use a strategy without this need (random, k_center).",
        need=Need.LABEL_PROBS if labels else Need.PROBS,
        strategy=strategy,
    )


def _no_logits(strategy: str, source: str) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs logits, and the source {source!r} gives probabilities only. Train a head.",
        need="logits",
        strategy=strategy,
    )


def _no_head(strategy: str, needs: frozenset[Need]) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs {', '.join(sorted(needs))}: the weights of a linear head, and the pool has "
        "none. Label samples of at least two classes and train one.",
        needs=",".join(sorted(needs)),
        strategy=strategy,
    )


def _beyond(strategy: str, needs: frozenset[Need]) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs {', '.join(sorted(needs))}, which this server cannot compute. "
        "Choose another strategy.",
        needs=",".join(sorted(needs)),
        strategy=strategy,
    )


def _of_another_task(strategy: str, needs: frozenset[Need], task: TaskKind) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs {', '.join(sorted(needs))}, which pools of the task {task} do not have. "
        "ListStrategies says which strategies serve the task.",
        needs=",".join(sorted(needs)),
        strategy=strategy,
        task=task,
    )


def _not_stochastic(strategy: str, whose: str) -> AssayError:
    return AssayError(
        Reason.MODEL_NOT_STOCHASTIC,
        f"The strategy {strategy!r} compares members of a committee, and the {whose} is a single one. "
        "Train a head with members of 2 or more, and activate it.",
        strategy=strategy,
    )


def _some_unpredicted(strategy: str, source: str, count: int) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"{_asker(strategy)} needs predictions, and {count} of the candidates have none from the source "
        f"{source!r}. Train a head, push predictions for them, or filter them out.",
        need="probs",
        strategy=strategy,
        missing=count,
    )


def _no_objects(strategy: str, snapshot: Snapshot) -> AssayError:
    known = ", ".join(sorted(snapshot.sources))
    way_out = (
        f"Name the plan's prediction_source, one of: {known}."
        if known
        else "Push what your own model predicts with UpdatePredictions, and name the plan's prediction_source."
    )
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs part_probs, of predicted objects. {way_out}",
        need=Need.PART_PROBS,
        strategy=strategy,
    )


def _no_spread(strategy: str, source: str) -> AssayError:
    return AssayError(
        Reason.NEED_MISSING,
        f"The strategy {strategy!r} needs member_values, and the source {source!r} does not say how sure it is. Push "
        "the spread of its numbers, or take the predictions of a committee.",
        strategy=strategy,
        source=source,
    )
