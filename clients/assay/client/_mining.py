"""The calls of scoring and picking."""

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from assay.client import _replies, results
from assay.client._arrays import from_matrix
from assay.client._names import enum_value, pool_name
from assay.client._pools import SampleState, filter_message, state_values
from assay.client._values import given_text, seed_number, whole
from assay.client._wire import Download, Pages, Unary, download, pages, unary
from assay.client.filters import Filter
from assay.client.plans import PlanLike, plan_to_proto
from assay.v1 import methods, mining_pb2, tasks_pb2, types_pb2

TaskKind: TypeAlias = Literal["classification", "multilabel", "regression", "boxes", "spans", "freeform"]


def list_strategies() -> Pages[results.Strategy]:
    """The strategies of the server by name, with their parameters and needs, fetched page by page."""
    return pages(
        methods.LIST_STRATEGIES,
        mining_pb2.ListStrategiesRequest(),
        lambda reply: map(_replies.strategy, reply.strategies),
    )


def list_presets(task: TaskKind = "classification") -> Pages[results.Preset]:
    """The presets of the server, the plans with a name, as they are in pools of a task; by name, fetched page by page.

    Args:
        task: "classification", "multilabel", "regression", "boxes", "spans" or "freeform".
    """
    request = mining_pb2.ListPresetsRequest(task=enum_value(tasks_pb2.TaskKind, task))
    return pages(methods.LIST_PRESETS, request, lambda reply: map(_replies.preset, reply.presets))


def score(
    pool: str,
    plan: PlanLike | None = None,
    *,
    where: Filter | None = None,
    states: Sequence[SampleState] = (),
) -> Download[results.ScoreResult]:
    """Scores of all matching samples by row; higher = more informative.

    Args:
        pool: id or name.
        plan: the scores of a plan, or a preset that has scores; the usual doubt of the pool's task if not given:
            "margin", "multilabel_max_entropy" or "member_std".
        where: which samples.
        states: states they are in; empty means unlabeled.
    """
    request = mining_pb2.ScoreRequest(
        pool=pool_name(pool),
        plan=plan_to_proto(plan),
        filter=filter_message(where),
        states=state_values(states),
    )
    return download(methods.SCORE, request, _Scores)


class _Scores:
    """Collects the chunks of a score stream."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._scores: list[NDArray[np.float32]] = []
        self._provenance = types_pb2.Provenance()

    def add(self, message: mining_pb2.ScoreResponse) -> None:
        if message.HasField("provenance"):
            self._provenance = message.provenance
        if message.ids:
            self._ids.extend(message.ids)
            self._scores.append(from_matrix(message.scores)[:, 0])

    def finish(self) -> results.ScoreResult:
        scores_N = np.concatenate(self._scores) if self._scores else np.empty(0, np.float32)
        return results.ScoreResult(self._ids, scores_N, _replies.provenance(self._provenance))

    def discard(self) -> None:
        self._ids.clear()
        self._scores.clear()


def mine(
    pool: str,
    size: int,
    plan: PlanLike | None = None,
    *,
    where: Filter | None = None,
    seed: int = 0,
    request_id: str | None = None,
    validate_only: bool = False,
    include_payload: bool = False,
    predictions: int = 0,
) -> Unary[results.MineResult]:
    """Pick samples by a plan without leasing them. Changes nothing.

    Args:
        pool: id or name.
        size: number of picks.
        plan: a plan or the name of a preset; the default of the pool's task if not given, which `list_presets` marks.
        where: narrows the plan's filter.
        seed: of all that is random in the plan.
        request_id: if given, a repeated call gets the same picks though the pool has changed.
        validate_only: check and estimate the cost only.
        include_payload: whether picks carry payloads.
        predictions: how many predictions each pick carries, 0 to 100.

    Raises:
        PoolExhausted: fewer candidates than picks.
        QuotaInfeasible: the candidates cannot meet the plan's quotas.
        NeedMissing: the plan needs what the current model cannot give.
    """
    request = mining_pb2.MineRequest(
        pool=pool_name(pool),
        plan=plan_to_proto(plan),
        size=whole(size, "size"),
        filter=filter_message(where),
        seed=seed_number(seed),
        request_id=given_text(request_id, "request_id"),
        validate_only=validate_only,
        include_payload=include_payload,
        predictions=whole(predictions, "predictions"),
    )
    return unary(methods.MINE, request, _replies.mined)
