"""What of the large replies is remembered, and how the rest is put back when a request is repeated.

The content of a sample that was deleted since is not put back: its id, its score and its place are.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError
from assay.server.core.labeling.messages import BatchResult, LeaseView
from assay.server.core.mining.messages import MineResult, PickView
from assay.server.core.mining.plan import defaults
from assay.server.core.mining.plan.binding import BoundPlan
from assay.server.core.mining.plan.terms import Plan
from assay.server.core.pools.messages import PoolView
from assay.server.core.records.samples import SampleRecord
from assay.server.rpc.convert import names
from assay.server.rpc.convert.labeling import to_batch_spec
from assay.server.rpc.convert.mining import to_mine_spec
from assay.server.rpc.convert.plans import plan_message
from assay.server.rpc.convert.tasks import task_message, to_task
from assay.server.rpc.convert.types import fill_content
from assay.strategies import StrategyError
from assay.v1 import labeling_pb2, mining_pb2, pools_pb2, types_pb2


def small_pool(view: PoolView) -> PoolView:
    """A new pool without its classes: they came with the request."""
    return replace(view, record=replace(view.record, task=replace(view.record.task, classes=(), order=())))


def whole_pool(_core: Assay, request: pools_pb2.CreatePoolRequest, reply: pools_pb2.Pool, _extra: bytes) -> None:
    """Puts back what small_pool left out."""
    reply.task.CopyFrom(task_message(to_task(request.pool.task)))


def small_lease(view: LeaseView) -> LeaseView:
    """A lease without ids."""
    return replace(view, sample_ids=())


def lease_rows(view: LeaseView) -> bytes:
    """Rows of a lease, as steps: they compress well."""
    return np.diff(np.array(view.record.rows, np.int64), prepend=0).tobytes()


def whole_lease(
    core: Assay,
    request: labeling_pb2.RenewLeaseRequest | labeling_pb2.ReleaseLeaseRequest,
    reply: labeling_pb2.Lease,
    extra: bytes,
) -> None:
    """Puts back what small_lease left out."""
    pool_id, _ = names.parse_lease(request.name)
    rows = np.cumsum(np.frombuffer(extra, np.int64)).tolist()
    content = core.samples.contents(pool_id, rows, payload=False)
    reply.sample_ids.extend(content[row].id for row in rows if row in content)


def small_batch(result: BatchResult) -> BatchResult:
    """A batch with its samples by id and row only."""
    picks = _without_content(result.picks)
    return replace(result, lease=small_lease(result.lease), picks=picks, plan=_named(result.plan))


def whole_batch(
    core: Assay, request: labeling_pb2.NextBatchRequest, reply: labeling_pb2.NextBatchResponse, _extra: bytes
) -> None:
    """Puts back what small_batch left out."""
    pool_id, spec = names.parse_pool(request.parent), to_batch_spec(request)
    by_row = sorted(reply.picks, key=lambda pick: pick.sample.row)
    reply.lease.sample_ids.extend(pick.sample.id for pick in by_row)
    _put_content_back(core, pool_id, reply.picks, payload=spec.payload)
    plan = defaults.completed(spec.plan, Plan(preset=reply.plan.preset))
    _put_plan_back(reply, lambda: core.mining.bound(pool_id, plan, spec.filter))


def small_mining(result: MineResult) -> MineResult:
    """Picks with their samples by id and row only."""
    return replace(result, picks=_without_content(result.picks), plan=_named(result.plan))


def whole_mining(core: Assay, request: mining_pb2.MineRequest, reply: mining_pb2.MineResponse, _extra: bytes) -> None:
    """Puts back what small_mining left out."""
    pool_id, spec = names.parse_pool(request.pool), to_mine_spec(request)
    _put_content_back(core, pool_id, reply.picks, payload=spec.payload)
    plan = defaults.completed(spec.plan, Plan(preset=reply.plan.preset))
    _put_plan_back(reply, lambda: core.mining.bound(pool_id, plan, spec.filter))


def _named(plan: Plan) -> Plan:
    """A plan by its preset's name; what else it says came with the request."""
    return Plan(preset=plan.preset)


def _put_plan_back(
    reply: labeling_pb2.NextBatchResponse | mining_pb2.MineResponse, bind: Callable[[], BoundPlan]
) -> None:
    """The expanded plan, where the strategies that are installed still expand it alike: its digest tells."""
    try:
        bound = bind()
    except (AssayError, StrategyError):
        return
    if bound.digest == reply.provenance.plan_digest:
        reply.plan.CopyFrom(plan_message(bound.plan))


def _without_content(picks: Sequence[PickView]) -> tuple[PickView, ...]:
    return tuple(
        replace(pick, sample=replace(pick.sample, record=SampleRecord(pick.sample.record.id))) for pick in picks
    )


def _put_content_back(core: Assay, pool_id: str, picks: Sequence[types_pb2.Pick], *, payload: bool) -> None:
    content = core.samples.contents(pool_id, [pick.sample.row for pick in picks], payload=payload)
    for pick in picks:
        if pick.sample.row in content:
            fill_content(pick.sample, content[pick.sample.row])
