"""Bad input over the wire: the right code and reason for each, and nothing changed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2
from google.protobuf import struct_pb2

from assay.v1 import annotations_pb2, labeling_pb2, mining_pb2, models_pb2, pools_pb2, types_pb2
from tests.e2e.corpus import CLASSES
from tests.e2e.wire import Stubs, matrix, refusal
from tests.rpc.stubs import create_request, said

DIMENSION = 4
COUNT = 24
POOL = "pools/bad-input"
NONE = "pools/nowhere"
INVALID, EXISTS, MISSING, STATE = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.ALREADY_EXISTS,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
)
GOOD_ND = np.ones((2, DIMENSION), np.float32)


def batch(ids=("new0", "new1"), values_ND=GOOD_ND, **columns):
    """A good batch, but for what is given."""
    embeddings = values_ND if isinstance(values_ND, types_pb2.Matrix) else matrix(values_ND)
    return pools_pb2.SampleBatch(ids=ids, embeddings=embeddings, **columns)


def spoiled(value, row=1, column=2):
    """Embeddings with one bad number."""
    values_ND = GOOD_ND.copy()
    values_ND[row, column] = value
    return values_ND


def doubles(name, values):
    """A column of numbers."""
    return pools_pb2.AttributeColumn(name=name, doubles=pools_pb2.DoubleColumn(values=values))


def compare(attribute, value):
    """attribute == value."""
    comparison = types_pb2.Filter.Comparison(attribute=attribute, op=types_pb2.COMPARE_OP_EQ, value=value)
    return types_pb2.Filter(compare=comparison)


def text(value):
    return types_pb2.AttributeValue(string_value=value)


def plan(**fields):
    """A random plan with these parts."""
    return types_pb2.Plan(preset="random", **fields)


def quotas(attribute, value, minimum):
    """A random plan with one quota."""
    quota = types_pb2.Quota(value=text(value), minimum=minimum)
    return plan(quotas=types_pb2.Quotas(attribute=attribute, quotas=[quota]))


def select(strategy, **params):
    """A plan of a selector with parameters."""
    struct = struct_pb2.Struct()
    struct.update(params)
    return types_pb2.Plan(select=types_pb2.SelectTerm(strategy=strategy, params=struct))


def _operation(name):
    return operations_pb2.GetOperationRequest(name=name)


def _tensor():
    data = np.ones(DIMENSION, "<f4").tobytes()
    return types_pb2.NamedTensor(name="x", dtype=types_pb2.DTYPE_FLOAT32, shape=[1, DIMENSION], data=data)


def _with(lease, **fields):
    other = labeling_pb2.Lease(**fields)
    changed = labeling_pb2.Lease()
    changed.CopyFrom(lease)
    changed.MergeFrom(other)
    return changed


class World:
    """A pool with unlabeled, leased and labeled samples and no model, and requests about it."""

    def __init__(self, stubs):
        self.stubs = stubs
        stubs.pools.CreatePool(create_request(pool_id="bad-input", class_names=CLASSES, request_id="made"))
        values_ND = np.random.default_rng(0).normal(size=(COUNT, DIMENSION))
        lang = pools_pb2.AttributeColumn(name="lang", strings=pools_pb2.StringColumn(values=["en"] * COUNT))
        self.ids = [f"s{index:02}" for index in range(COUNT)]
        stubs.add(POOL, batch(self.ids, values_ND, attributes=[lang]))
        self.expired = self.lease("cem", 1)
        self.done = self.lease("dao", 1)
        self.labels(dict.fromkeys(self.done.sample_ids, CLASSES[0]), "dao", self.done, request_id="labels")
        while stubs.labeling.GetLease(labeling_pb2.GetLeaseRequest(name=self.expired.name)).state != (
            labeling_pb2.LEASE_STATE_EXPIRED
        ):
            continue
        self.ann, self.bob = self.lease("ann", 3600), self.lease("bob", 3600)
        page = stubs.pools.ListSamples(pools_pb2.ListSamplesRequest(parent=POOL, page_size=5))
        self.page_token = page.next_page_token

    def lease(self, worker, seconds):
        """Two samples under a lease."""
        request = labeling_pb2.NextBatchRequest(parent=POOL, worker=worker, size=2, request_id=f"for {worker}")
        request.ttl.FromSeconds(seconds)
        return self.stubs.labeling.NextBatch(request).lease

    def labels(self, classes, worker="ann", lease=None, **fields):
        """Annotate."""
        fields |= {} if lease is None else {"lease": lease.name, "fencing_token": lease.fencing_token}
        return self.stubs.annotations.Annotate(
            annotations_pb2.AnnotateRequest(parent=POOL, worker=worker, annotations=said(classes), **fields)
        )

    def add(self, *args, **columns):
        """UploadSamples of a batch with something wrong."""
        return self.stubs.add(POOL, batch(*args, **columns))

    def mine(self, plan="random", size=1, pool=POOL, **fields):
        """Mine by a preset or a plan."""
        chosen = types_pb2.Plan(preset=plan) if isinstance(plan, str) else plan
        return self.stubs.mining.Mine(mining_pb2.MineRequest(pool=pool, plan=chosen, size=size, **fields))

    def score(self, **fields):
        """Score."""
        return self.stubs.mining.Score(mining_pb2.ScoreRequest(**{"pool": POOL, **fields}))

    def next(self, **fields):
        """NextBatch."""
        fields = {"parent": POOL, "worker": "ann", "size": 1, **fields}
        return self.stubs.labeling.NextBatch(labeling_pb2.NextBatchRequest(**fields))

    def list(self, **fields):
        """ListSamples."""
        return self.stubs.pools.ListSamples(pools_pb2.ListSamplesRequest(**{"parent": POOL, **fields}))

    def search(self, values_ND, **fields):
        """SearchSamples by vectors."""
        request = pools_pb2.SearchSamplesRequest(parent=POOL, vectors=matrix(values_ND), **fields)
        return self.stubs.pools.SearchSamples(request)

    def predict(self, **fields):
        """Predict."""
        return self.stubs.models.Predict(models_pb2.PredictRequest(pool=POOL, **fields))

    def train(self, **fields):
        """TrainHead."""
        return self.stubs.models.TrainHead(models_pb2.TrainHeadRequest(**{"parent": POOL, **fields}))


@pytest.fixture(scope="module")
def world(server):
    with grpc.insecure_channel(server.target) as channel:
        yield World(Stubs(channel))


@dataclass(frozen=True)
class Case:
    """A bad request, and what it must be told."""

    name: str
    code: grpc.StatusCode
    reason: str
    send: Callable[[World], Any]


def free(world):
    """A sample that nobody holds."""
    held = {*world.ann.sample_ids, *world.bob.sample_ids, *world.done.sample_ids}
    return next(sample_id for sample_id in world.ids if sample_id not in held)


VECTORS = [
    Case("dimension of samples", INVALID, "DIMENSION_MISMATCH", lambda w: w.add(values_ND=np.ones((2, 5)))),
    Case("dimension of a query", INVALID, "DIMENSION_MISMATCH", lambda w: w.search(np.ones((1, 5)))),
    Case(
        "dimension to predict", INVALID, "DIMENSION_MISMATCH", lambda w: w.predict(embeddings=matrix(np.ones((1, 5))))
    ),
    Case("no dtype", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=matrix(GOOD_ND, dtype=0))),
    Case("unknown dtype", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=matrix(GOOD_ND, dtype=99))),
    Case(
        "whole numbers as vectors",
        INVALID,
        "INVALID_MATRIX",
        lambda w: w.add(values_ND=matrix(GOOD_ND, dtype=types_pb2.DTYPE_INT32)),
    ),
    Case("too few bytes", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=matrix(GOOD_ND, data=b"\0" * 31))),
    Case("too many bytes", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=matrix(GOOD_ND, data=b"\0" * 36))),
    Case("negative rows", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=matrix(GOOD_ND, rows=-2, cols=-4))),
    Case(
        "rows beyond counting",
        INVALID,
        "INVALID_MATRIX",
        lambda w: w.add(values_ND=matrix(GOOD_ND, rows=2**62, cols=4)),
    ),
    Case("fewer vectors than ids", INVALID, "INVALID_ARGUMENT", lambda w: w.add(values_ND=GOOD_ND[:1])),
    Case("NaN", INVALID, "NOT_FINITE", lambda w: w.add(values_ND=spoiled(np.nan))),
    Case("infinity", INVALID, "NOT_FINITE", lambda w: w.add(values_ND=spoiled(-np.inf))),
    Case("NaN in a query", INVALID, "NOT_FINITE", lambda w: w.search(spoiled(np.nan))),
    Case("a vector without direction", INVALID, "INVALID_MATRIX", lambda w: w.add(values_ND=GOOD_ND * [[0], [1]])),
    Case("NaN in an attribute", INVALID, "NOT_FINITE", lambda w: w.add(attributes=[doubles("n", [1, np.nan])])),
    Case(
        "probabilities that do not sum to 1",
        INVALID,
        "PROBABILITIES_INVALID",
        lambda w: w.add(predictions=matrix([[0.5, 0.2, 0.2], [1, 0, 0]])),
    ),
    Case(
        "probabilities of other classes",
        INVALID,
        "DIMENSION_MISMATCH",
        lambda w: w.add(predictions=matrix([[0.5, 0.5], [1, 0]])),
    ),
]
IDS = [
    Case("an id twice", INVALID, "DUPLICATE_ID", lambda w: w.add(["new0", "new0"])),
    Case("an empty id", INVALID, "INVALID_ID", lambda w: w.add(["new0", ""])),
    Case("an oversized id", INVALID, "INVALID_ID", lambda w: w.add(["new0", "é" * 129])),
    Case("a control character", INVALID, "INVALID_ID", lambda w: w.add(["new0", "new\n1"])),
    Case("an id that is there", EXISTS, "SAMPLE_EXISTS", lambda w: w.add(["new0", "s00"])),
    Case("no ids", INVALID, "INVALID_ARGUMENT", lambda w: w.add([], np.empty((0, DIMENSION)))),
    Case("an oversized payload", INVALID, "TOO_LARGE", lambda w: w.add(payloads=[b"", bytes(65_537)])),
    Case("an oversized uri", INVALID, "TOO_LARGE", lambda w: w.add(uris=["", "u" * 2049])),
    Case(
        "an attribute of another type",
        INVALID,
        "ATTRIBUTE_TYPE_MISMATCH",
        lambda w: w.add(attributes=[doubles("lang", [1, 2])]),
    ),
    Case("no such sample", MISSING, "SAMPLE_NOT_FOUND", lambda w: w.labels({"nobody": CLASSES[0]})),
    Case("no such sample to predict", MISSING, "SAMPLE_NOT_FOUND", lambda w: w.predict(samples={"ids": ["nobody"]})),
    Case(
        "a sample that somebody holds is replaced",
        STATE,
        "SAMPLE_LEASED",
        lambda w: w.stubs.add(
            POOL, batch(w.bob.sample_ids), on_conflict=pools_pb2.ON_CONFLICT_REPLACE, request_id="replace"
        ),
    ),
]
UNKNOWN = [
    Case("pool", MISSING, "POOL_NOT_FOUND", lambda w: w.mine(pool=NONE)),
    Case("pool of a stream", MISSING, "POOL_NOT_FOUND", lambda w: w.score(pool=NONE)),
    Case("pool of samples", MISSING, "POOL_NOT_FOUND", lambda w: w.stubs.add(NONE, batch())),
    Case("a name that is none", INVALID, "INVALID_NAME", lambda w: w.mine(pool="../../etc/passwd")),
    Case(
        "head", MISSING, "MODEL_NOT_FOUND", lambda w: w.predict(embeddings=matrix(GOOD_ND), head=f"{POOL}/models/none")
    ),
    Case(
        "model to activate",
        MISSING,
        "MODEL_NOT_FOUND",
        lambda w: w.stubs.models.ActivateModel(models_pb2.ActivateModelRequest(name=f"{POOL}/models/none")),
    ),
    Case("selector", INVALID, "UNKNOWN_STRATEGY", lambda w: w.mine(select("crystal_ball"))),
    Case(
        "scorer",
        INVALID,
        "UNKNOWN_STRATEGY",
        lambda w: w.score(plan=types_pb2.Plan(scores=[types_pb2.ScoreTerm(strategy="margn")])),
    ),
    Case("preset", INVALID, "INVALID_PLAN", lambda w: w.mine("crystal_ball")),
    Case("parameter", INVALID, "INVALID_PARAMETER", lambda w: w.mine(select("k_center", colour="red"))),
    Case("value of a parameter", INVALID, "INVALID_PARAMETER", lambda w: w.mine(select("k_center", start="last"))),
    Case("attribute", INVALID, "UNKNOWN_ATTRIBUTE", lambda w: w.mine(filter=compare("colour", text("red")))),
    Case("attribute of a list", INVALID, "UNKNOWN_ATTRIBUTE", lambda w: w.list(filter=compare("colour", text("red")))),
    Case(
        "attribute compared with another type",
        INVALID,
        "ATTRIBUTE_TYPE_MISMATCH",
        lambda w: w.next(filter=compare("lang", types_pb2.AttributeValue(int64_value=1))),
    ),
    Case("page token", INVALID, "INVALID_PAGE_TOKEN", lambda w: w.list(page_token="made-up")),
    Case(
        "page token of another request",
        INVALID,
        "INVALID_PAGE_TOKEN",
        lambda w: w.list(page_token=w.page_token, states=[types_pb2.SAMPLE_STATE_LABELED]),
    ),
    Case("class", INVALID, "UNKNOWN_CLASS", lambda w: w.labels({free(w): "astrology"})),
    Case(
        "class of a sample",
        INVALID,
        "UNKNOWN_CLASS",
        lambda w: w.add(labels=[types_pb2.Value(), types_pb2.Value(class_name="astrology")]),
    ),
    Case("class in a list", INVALID, "UNKNOWN_CLASS", lambda w: w.labels({free(w): ""})),
    Case(
        "lease",
        MISSING,
        "LEASE_NOT_FOUND",
        lambda w: w.labels({free(w): CLASSES[0]}, lease=labeling_pb2.Lease(name=f"{POOL}/leases/none")),
    ),
    Case(
        "operation",
        MISSING,
        "OPERATION_NOT_FOUND",
        lambda w: w.stubs.operations.GetOperation(_operation("pools/bad-input/operations/none")),
    ),
]
PICKS = [
    Case("more than there are", STATE, "POOL_EXHAUSTED", lambda w: w.mine(size=COUNT)),
    Case("more than the filter leaves", STATE, "POOL_EXHAUSTED", lambda w: w.mine(filter=compare("lang", text("de")))),
    Case("a batch of none", STATE, "POOL_EXHAUSTED", lambda w: w.next(filter=compare("lang", text("de")))),
    Case("quotas beyond what there is", STATE, "QUOTA_INFEASIBLE", lambda w: w.mine(quotas("lang", "de", 1))),
    Case("a batch within such quotas", STATE, "QUOTA_INFEASIBLE", lambda w: w.next(plan=quotas("lang", "de", 1))),
    Case("quotas of no class", INVALID, "UNKNOWN_CLASS", lambda w: w.mine(quotas("", "astrology", 1))),
    Case("quotas of no attribute", INVALID, "UNKNOWN_ATTRIBUTE", lambda w: w.mine(quotas("colour", "red", 1))),
    Case("quotas before any head", STATE, "NEED_MISSING", lambda w: w.mine(quotas("", CLASSES[0], 1))),
    Case("a quota below nothing", INVALID, "INVALID_PLAN", lambda w: w.mine(quotas("lang", "en", -(2**63)))),
    Case("a quota without a group", INVALID, "INVALID_PLAN", lambda w: w.mine(plan(quotas={"quotas": [{}]}))),
    Case(
        "more quotas than are counted",
        INVALID,
        "INVALID_PLAN",
        lambda w: w.mine(plan(quotas={"quotas": [{"value": {"int64_value": n}} for n in range(5000)]})),
    ),
    Case("a query for nobody", MISSING, "SAMPLE_NOT_FOUND", lambda w: w.mine(plan(query={"sample_ids": ["nobody"]}))),
    Case("an empty query", INVALID, "INVALID_PLAN", lambda w: w.mine(plan(query={}))),
    Case("a huge query", INVALID, "TOO_LARGE", lambda w: w.mine(plan(query={"sample_ids": map(str, range(9999))}))),
    Case("a radius below 0", INVALID, "INVALID_PLAN", lambda w: w.mine(plan(near_duplicate_radius=-1))),
    Case("a radius that is none", INVALID, "NOT_FINITE", lambda w: w.mine(plan(near_duplicate_radius=float("nan")))),
    Case("noise without a score", INVALID, "INVALID_PLAN", lambda w: w.mine(plan(stochastic={}))),
    Case("an unknown combination", INVALID, "INVALID_ARGUMENT", lambda w: w.mine(plan(combination=77))),
    Case(
        "more neighbors than there is room for",
        INVALID,
        "INVALID_PLAN",
        lambda w: w.mine(plan(shortlist={"seals": {"neighbors": 2**31 - 1}})),
    ),
    Case("no picks", INVALID, "INVALID_ARGUMENT", lambda w: w.mine(size=0)),
    Case("negative picks", INVALID, "INVALID_ARGUMENT", lambda w: w.next(size=-3)),
    Case("no worker", INVALID, "INVALID_ID", lambda w: w.next(worker="")),
    Case("probabilities before any head", STATE, "NEED_MISSING", lambda w: w.mine("margin")),
    Case("scores before any head", STATE, "NEED_MISSING", lambda w: w.score(plan=types_pb2.Plan(preset="entropy"))),
    Case("a batch before any head", STATE, "NEED_MISSING", lambda w: w.next(plan=types_pb2.Plan(preset="margin"))),
    Case("a dry run before any head", STATE, "NEED_MISSING", lambda w: w.mine("margin", validate_only=True)),
    Case("predictions before any head", STATE, "NEED_MISSING", lambda w: w.predict(samples={"ids": ["s00"]})),
    Case("a head of one class", STATE, "TOO_FEW_CLASSES", lambda w: w.train()),
    Case(
        "nothing to roll back",
        STATE,
        "NOTHING_TO_ROLL_BACK",
        lambda w: w.stubs.models.RollbackModel(
            models_pb2.RollbackModelRequest(parent=POOL, kind=models_pb2.MODEL_KIND_HEAD)
        ),
    ),
    Case("inputs without a backbone", STATE, "NO_BACKBONE", lambda w: w.predict(inputs={"tensors": [_tensor()]})),
]
LEASES = [
    Case(
        "expired", STATE, "LEASE_EXPIRED", lambda w: w.labels({w.expired.sample_ids[0]: CLASSES[0]}, "cem", w.expired)
    ),
    Case(
        "of another worker", STATE, "LEASE_FOREIGN", lambda w: w.labels({w.bob.sample_ids[0]: CLASSES[0]}, "ann", w.bob)
    ),
    Case(
        "with another's token",
        STATE,
        "LEASE_FOREIGN",
        lambda w: w.labels({w.bob.sample_ids[0]: CLASSES[0]}, "bob", _with(w.bob, fencing_token=w.ann.fencing_token)),
    ),
    Case(
        "for another's sample",
        STATE,
        "LEASE_FOREIGN",
        lambda w: w.labels(dict.fromkeys([*w.ann.sample_ids, w.bob.sample_ids[0]], CLASSES[0]), "ann", w.ann),
    ),
    Case("replayed", STATE, "LEASE_DONE", lambda w: w.labels({free(w): CLASSES[0]}, "dao", w.done)),
    Case(
        "renewed too late",
        STATE,
        "LEASE_EXPIRED",
        lambda w: w.stubs.labeling.RenewLease(
            labeling_pb2.RenewLeaseRequest(name=w.expired.name, fencing_token=w.expired.fencing_token)
        ),
    ),
    Case("passed by", STATE, "SAMPLE_LEASED", lambda w: w.labels({w.bob.sample_ids[0]: CLASSES[0]}, "eve")),
    Case("for no time", INVALID, "INVALID_ARGUMENT", lambda w: w.next(ttl={"nanos": 1})),
    Case(
        "a label of another class",
        EXISTS,
        "ANNOTATION_EXISTS",
        lambda w: w.labels({w.done.sample_ids[0]: CLASSES[1]}, "dao"),
    ),
]
REQUEST_IDS = [
    Case("a batch", INVALID, "REQUEST_ID_REUSED", lambda w: w.next(size=3, request_id="for ann")),
    Case("labels", INVALID, "REQUEST_ID_REUSED", lambda w: w.labels({free(w): CLASSES[0]}, request_id="labels")),
    Case(
        "a pool",
        INVALID,
        "REQUEST_ID_REUSED",
        lambda w: w.stubs.pools.CreatePool(pools_pb2.CreatePoolRequest(pool_id="bad-input", request_id="made")),
    ),
    Case("too long", INVALID, "INVALID_ARGUMENT", lambda w: w.next(request_id="r" * 129)),
]
CASES = {
    f"{table}: {case.name}": case
    for table, cases in {
        "vectors": VECTORS,
        "ids": IDS,
        "unknown": UNKNOWN,
        "picks": PICKS,
        "lease": LEASES,
        "request id with another body": REQUEST_IDS,
    }.items()
    for case in cases
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_it_is_refused_and_changes_nothing(world, case):
    before = world.stubs.state(POOL)
    told = refusal(lambda: case.send(world))
    assert told is not None, "it was served"
    assert (told.code, told.reason, told.domain) == (case.code, case.reason, "assay")
    assert told.message
    assert world.stubs.state(POOL) == before
