"""The uncertainty of predicted objects, as a term of a plan."""

from dataclasses import replace

from assay.server.core.errors import AssayError
from assay.server.core.mining.plan.checks import invalid
from assay.server.core.mining.plan.terms import Plan, ScoreTerm
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.base import Refused
from assay.server.core.tasks.classes import Classes

# The scorer that the term stands for.
RAGGED = "ragged"


def spelled_out(plan: Plan, task: TaskRecord) -> Plan:
    """The plan with its `objects` as the score that they stand for, first of the scores; as it is without them. Raises
    AssayError(INVALID_PLAN | UNKNOWN_CLASS) in a pool whose task has no objects, or for a class that it lacks."""
    term = plan.objects
    if term is None:
        return plan
    if task.kind not in (TaskKind.BOXES, TaskKind.SPANS):
        raise invalid(f"There are objects in pools of boxes and spans, and the pool's task is {task.kind}.")
    params: dict[str, object] = {
        "measure": term.measure,
        "reduce": term.reduction.value,
        "m": term.m,
        "empty": term.empty.value,
    }
    if term.class_weights:
        classes = Classes(task)
        weights = [1.0] * (len(classes) + 1)  # the last is that of being nothing at all
        for name, weight in term.class_weights.items():
            weights[_id_of(classes, name)] = weight
        params["class_weights"] = weights
    return replace(plan, objects=None, scores=(ScoreTerm(RAGGED, params, term.strength), *plan.scores))


def _id_of(classes: Classes, name: str) -> int:
    try:
        return classes.id_of(name, retired=True)
    except Refused as refused:
        raise AssayError(refused.reason, f"A class cannot be weighted: {refused.problem}", **refused.facts) from None
