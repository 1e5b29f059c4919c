"""The plan of who names none, by the pool's task and by what is there to choose by."""

from dataclasses import replace

from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.plan.terms import DrawFrom, Plan
from assay.server.core.mining.supply import PREDICTED, served
from assay.server.core.models.predictions import Predictions
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.records.pools import OPEN_STATES
from assay.server.core.records.tasks import TaskKind
from assay.strategies import Need
from assay.strategies.serving import utility_of

# What is mined for who names no plan. On real data, doubt about a set of classes or a number was no better than chance,
# and coverage was: see docs/strategy-learning.md.
_MINED = {TaskKind.CLASSIFICATION: "margin", TaskKind.REGRESSION: "spread"}
_COVERAGE = "cover"
_SECOND_LOOK = "worth"


def of_task(task: TaskKind) -> str:
    """The preset that is the default of a task."""
    return _MINED.get(task, _COVERAGE)


def completed(given: Plan | None, default: Plan) -> Plan:
    """A plan as it was given; where it asks for something, but not by what to score or pick, the default says it. One
    that asks for nothing is refused later: who sends it did not mean that."""
    if given is None:
        return default
    complete = given == Plan() or given.preset or given.scores or given.select or given.objects
    return given if complete else replace(given, preset=default.preset)


def of_source(given: Plan | None, default: Plan, task: TaskKind) -> Plan:
    """The default for samples that a plan draws from. Doubt about the class says nothing of a label that is there: the
    model has learned it."""
    if given is None or given.draw_from is DrawFrom.UNLABELED:
        return default
    return Plan(preset=_SECOND_LOOK if Need.WORTH in served(task) else "random")


def to_label(snapshot: Snapshot, predictions: Predictions | None) -> Plan:
    """What a worker is asked next. Of one class "margin", where the model predicts all that may be picked, else
    "random"; else "cover", or "spread" for numbers."""
    if snapshot.pool.task.kind is not TaskKind.CLASSIFICATION:
        return to_mine(snapshot)
    if predictions is None:
        return Plan(preset="random")
    if predictions.source.name == "head":
        return to_mine(snapshot)
    unknown = snapshot.mask(OPEN_STATES) & ~predictions.known(snapshot)
    return Plan(preset="random") if unknown.any() else to_mine(snapshot)


def to_mine(snapshot: Snapshot) -> Plan:
    """What is mined: the default of the pool's task."""
    return Plan(preset=of_task(snapshot.pool.task.kind))


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
