"""The plan of who names none, by the pool's task and by what is there to choose by."""

from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.mining.supply import PREDICTED
from assay.server.core.models.predictions import Predictions
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.pools import OPEN_STATES
from assay.server.core.records.tasks import TaskKind
from assay.strategies.serving import utility_of

# On real data, doubt about a set of classes or a number was no better than chance, and coverage was: see
# docs/strategy-learning.md.
_COVERAGE = {TaskKind.REGRESSION: "spread"}


def to_label(snapshot: Snapshot, predictions: Predictions | None) -> Plan:
    """What a worker is asked next. Of one class "margin", where the model predicts all that may be picked, else
    "random"; else "cover", or "spread" for numbers."""
    if snapshot.pool.task.kind is not TaskKind.CLASSIFICATION:
        return Plan(preset=_coverage(snapshot))
    if predictions is None:
        return Plan(preset="random")
    if predictions.source.name == "head":
        return Plan(preset="margin")
    unknown = snapshot.mask(OPEN_STATES) & ~predictions.known(snapshot)
    return Plan(preset="random" if unknown.any() else "margin")


def to_mine(snapshot: Snapshot) -> Plan:
    """What is mined: of one class "margin", else as to_label."""
    of_classes = snapshot.pool.task.kind is TaskKind.CLASSIFICATION
    return Plan(preset="margin" if of_classes else _coverage(snapshot))


def to_score(snapshot: Snapshot) -> Plan:
    """What all samples are scored by: the usual doubt of the task. Raises AssayError(INVALID_PLAN) where there is
    none."""
    utility = utility_of(PREDICTED[snapshot.pool.task.kind])
    if utility is None:
        raise AssayError(
            Reason.INVALID_PLAN,
            f"Nothing is predicted in pools of the task {snapshot.pool.task.kind}. Name a scorer in the plan.",
        )
    return Plan(preset=utility)


def _coverage(snapshot: Snapshot) -> str:
    return _COVERAGE.get(snapshot.pool.task.kind, "cover")
