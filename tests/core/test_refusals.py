"""Bad input: a reason each, and nothing changed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason, SampleError
from assay.server.core.labeling.messages import BatchSpec
from assay.server.core.mining.messages import MineSpec, ScoreSpec
from assay.server.core.mining.plan.terms import (
    Combination,
    Plan,
    Quotas,
    QuotaTerm,
    ScoreTerm,
    SelectTerm,
    Shortlist,
    Stochastic,
)
from assay.server.core.models.messages import PredictSpec, TrainSpec
from assay.server.core.pools.messages import IngestBatch, PoolSpec, SearchMode, SearchSpec
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.filters import AllOf, AnyOf, Compare, Filter, Not, OneOf
from assay.server.core.records.models import NEWEST, ModelKind
from assay.server.core.records.pools import Metric
from assay.server.core.records.samples import AttributeColumn, OnConflict, SampleColumns
from tests.core.kit import (
    POOL,
    House,
    add,
    annotate,
    batch,
    fill,
    key,
    label_by_sign,
    make_pool,
    model_id_of,
    names,
    next_batch,
    numbers,
    of_classes,
    probabilities,
    receive,
    refused,
    standing,
    train,
    vectors,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def core(house: House) -> Assay:
    """A pool of ten samples with an attribute of each type."""
    opened = house.with_limits(max_batch_rows=50, max_payload_bytes=64, max_attributes=5, max_picks=1000).open()
    make_pool(opened)
    add(
        opened,
        names(0, 10),
        attributes={
            "n": numbers(range(10)),
            "share": AttributeColumn("double", np.arange(10) / 10),
            "word": AttributeColumn("string", names(0, 10)),
            "flag": AttributeColumn("bool", np.arange(10) % 2 == 0),
        },
    )
    return opened


def with_value(value: float) -> np.ndarray:
    embeddings = vectors(3)
    embeddings[1, 2] = value
    return embeddings


def odd_probabilities(row: list[float]) -> np.ndarray:
    probs = probabilities(2)
    probs[1] = row
    return probs


BATCHES: dict[str, tuple[Reason, IngestBatch]] = {
    "wider": (Reason.DIMENSION_MISMATCH, batch(["a"], vectors(1, dimension=5))),
    "no columns": (Reason.DIMENSION_MISMATCH, batch(["a"], np.empty((1, 0), np.float32))),
    "nan": (Reason.NOT_FINITE, batch(["a", "b", "c"], with_value(NAN))),
    "infinity": (Reason.NOT_FINITE, batch(["a", "b", "c"], with_value(-INF))),
    "squares overflow": (Reason.INVALID_MATRIX, batch(["a", "b", "c"], with_value(3e19))),
    "no ids": (Reason.INVALID_ARGUMENT, batch([], np.empty((0, 4), np.float32))),
    "too many ids": (Reason.TOO_LARGE, batch(names(100, 151))),
    "id twice": (Reason.DUPLICATE_ID, batch(["a", "b", "a"])),
    "empty id": (Reason.INVALID_ID, batch(["a", ""])),
    "id of 257 bytes": (Reason.INVALID_ID, batch(["a", "é" * 128 + "x"])),
    "line break in an id": (Reason.INVALID_ID, batch(["a\nb"])),
    "zero byte in an id": (Reason.INVALID_ID, batch(["a\0"])),
    "delete in an id": (Reason.INVALID_ID, batch(["\x7f"])),
    "fewer embeddings than ids": (Reason.INVALID_ARGUMENT, batch(["a", "b"], vectors(1))),
    "neither embeddings nor inputs": (Reason.INVALID_ARGUMENT, IngestBatch(SampleColumns(["a"]))),
    "both": (
        Reason.INVALID_ARGUMENT,
        IngestBatch(SampleColumns(["a"], inputs={"features": vectors(1)}), vectors(1)),
    ),
    "fewer uris": (Reason.INVALID_ARGUMENT, batch(["a", "b"], uris=["x"])),
    "long uri": (Reason.TOO_LARGE, batch(["a"], uris=["x" * 2049])),
    "fewer payloads": (Reason.INVALID_ARGUMENT, batch(["a", "b"], payloads=[b""])),
    "large payload": (Reason.TOO_LARGE, batch(["a", "b"], payloads=[b"", b"x" * 65])),
    "long media type": (Reason.TOO_LARGE, batch(["a"], payload_media_type="x" * 257)),
    "fewer labels": (Reason.INVALID_ARGUMENT, batch(["a", "b"], labels=["ant"])),
    "label outside the classes": (Reason.UNKNOWN_CLASS, batch(["a", "b"], labels=["ant", "dog"])),
    "fewer predictions": (Reason.INVALID_ARGUMENT, batch(["a", "b"], predictions_NC=probabilities(1))),
    "predictions of four classes": (
        Reason.DIMENSION_MISMATCH,
        batch(["a", "b"], predictions_NC=probabilities(2, classes=4)),
    ),
    "predictions sum to 1.1": (
        Reason.PROBABILITIES_INVALID,
        batch(["a", "b"], predictions_NC=odd_probabilities([0.5, 0.5, 0.1])),
    ),
    "negative prediction": (
        Reason.PROBABILITIES_INVALID,
        batch(["a", "b"], predictions_NC=odd_probabilities([0.6, 0.6, -0.2])),
    ),
    "prediction that is no number": (
        Reason.NOT_FINITE,
        batch(["a", "b"], predictions_NC=odd_probabilities([NAN, 0.5, 0.5])),
    ),
    "attribute of another type": (
        Reason.ATTRIBUTE_TYPE_MISMATCH,
        batch(["a"], attributes={"n": AttributeColumn("string", ["x"])}),
    ),
    "attribute name": (Reason.INVALID_NAME, batch(["a"], attributes={"2n": numbers([1])})),
    "fewer attribute values": (Reason.INVALID_ARGUMENT, batch(["a", "b"], attributes={"n": numbers([1])})),
    "fewer presence flags": (
        Reason.INVALID_ARGUMENT,
        batch(["a", "b"], attributes={"n": AttributeColumn("int64", np.arange(2), np.array([True]))}),
    ),
    "attribute that is no number": (
        Reason.NOT_FINITE,
        batch(["a"], attributes={"share": AttributeColumn("double", np.array([NAN]))}),
    ),
    "long text": (Reason.TOO_LARGE, batch(["a"], attributes={"word": AttributeColumn("string", ["x" * 4097])})),
    "too many attributes": (
        Reason.TOO_LARGE,
        batch(["a"], attributes={"fifth": numbers([1]), "sixth": numbers([1])}),
    ),
}


@pytest.mark.parametrize("case", BATCHES)
def test_batches(house: House, core: Assay, case: str) -> None:
    reason, given = BATCHES[case]
    before, files = standing(core), house.files()
    refused(reason, lambda: core.samples.add(POOL, given, OnConflict.ERROR, NO_KEY))
    assert (standing(core), house.files()) == (before, files)


def test_a_zero_vector_has_no_direction(core: Assay) -> None:
    make_pool(core, "sphere", metric=Metric.COSINE)
    embeddings = vectors(3)
    embeddings[2] = 0
    error = refused(Reason.INVALID_MATRIX, lambda: add(core, names(0, 3), embeddings, pool="sphere"))
    assert error.metadata["row"] == "2"
    assert core.pools.get("sphere").record.next_row == 0


def test_predictions_need_classes(core: Assay) -> None:
    make_pool(core, "plain", class_names=())
    refused(Reason.PROBABILITIES_INVALID, lambda: add(core, ["a"], pool="plain", predictions_NC=probabilities(1)))


POOLS = {
    "name": (Reason.INVALID_NAME, PoolSpec("Zoo")),
    "empty name": (Reason.INVALID_NAME, PoolSpec("")),
    "long name": (Reason.INVALID_NAME, PoolSpec("z" * 64)),
    "exists": (Reason.POOL_EXISTS, PoolSpec(POOL)),
    "class twice": (Reason.INVALID_TASK, PoolSpec("new", task=of_classes(("a", "a")))),
    "empty class": (Reason.INVALID_TASK, PoolSpec("new", task=of_classes(("a", "")))),
    "class with a tab": (Reason.INVALID_TASK, PoolSpec("new", task=of_classes(("a\t",)))),
    "classes": (Reason.TOO_LARGE, PoolSpec("new", task=of_classes(tuple(map(str, range(10_001)))))),
    "dimension": (Reason.INVALID_ARGUMENT, PoolSpec("new", dimension=65_537)),
    "negative dimension": (Reason.INVALID_ARGUMENT, PoolSpec("new", dimension=-1)),
}


@pytest.mark.parametrize("case", POOLS)
def test_pools(core: Assay, case: str) -> None:
    reason, spec = POOLS[case]
    refused(reason, lambda: core.pools.create(spec, NO_KEY))
    assert [view.record.pool_id for view in core.pools.list("", 10)] == [POOL]


FILTERS: dict[str, tuple[Reason, Filter]] = {
    "unknown attribute": (Reason.UNKNOWN_ATTRIBUTE, Compare("size", "==", 1)),
    "unknown inside": (Reason.UNKNOWN_ATTRIBUTE, AllOf((Compare("n", "==", 1), Not(AnyOf((OneOf("x", (1,)),)))))),
    "text for a number": (Reason.ATTRIBUTE_TYPE_MISMATCH, Compare("n", "==", "1")),
    "number for a text": (Reason.ATTRIBUTE_TYPE_MISMATCH, OneOf("word", ("a", 1))),
    "truth for a number": (Reason.ATTRIBUTE_TYPE_MISMATCH, Compare("n", "==", True)),
    "order of truth": (Reason.INVALID_FILTER, Compare("flag", "<", True)),
    "not a number": (Reason.INVALID_FILTER, Compare("share", "<", NAN)),
}


@pytest.mark.parametrize("case", FILTERS)
def test_filters(core: Assay, case: str) -> None:
    reason, condition = FILTERS[case]
    before = standing(core)
    plan = Plan(preset="random", filter=condition)
    for call in (
        lambda: core.samples.list(POOL, condition, (), -1, 10, False),
        lambda: core.samples.search(POOL, SearchSpec(vectors_QD=vectors(1), filter=condition)),
        lambda: core.mining.mine(POOL, MineSpec(1, Plan(preset="random"), condition), NO_KEY),
        lambda: core.mining.mine(POOL, MineSpec(1, plan), NO_KEY),
        lambda: core.labeling.next_batch(POOL, BatchSpec("ada", 1, plan), NO_KEY),
    ):
        refused(reason, call)
    assert standing(core) == before


RANDOM = SelectTerm("random")


def quotas(*terms: QuotaTerm, by: str = "") -> Plan:
    return Plan(preset="random", quotas=Quotas(terms, by))


PLANS: dict[str, tuple[Reason, Plan]] = {
    "unknown preset": (Reason.INVALID_PLAN, Plan(preset="best")),
    "preset and scores": (Reason.INVALID_PLAN, Plan(preset="margin", scores=(ScoreTerm("margin"),))),
    "nothing": (Reason.INVALID_PLAN, Plan()),
    "unknown scorer": (Reason.UNKNOWN_STRATEGY, Plan(scores=(ScoreTerm("bets"),), select=SelectTerm("top"))),
    "unknown selector": (Reason.UNKNOWN_STRATEGY, Plan(select=SelectTerm("bets"))),
    "unknown parameter": (Reason.INVALID_PARAMETER, Plan(select=SelectTerm("k_center", {"speed": 1}))),
    "parameter out of range": (Reason.INVALID_PARAMETER, Plan(select=SelectTerm("k_center", {"start": "last"}))),
    "scorer as selector": (Reason.INVALID_PLAN, Plan(select=SelectTerm("margin"))),
    "selector as scorer": (Reason.INVALID_PLAN, Plan(scores=(ScoreTerm("random"),), select=RANDOM)),
    "top without scores": (Reason.INVALID_PLAN, Plan(select=SelectTerm("top"))),
    "shortlist without scores": (Reason.INVALID_PLAN, Plan(select=RANDOM, shortlist=Shortlist(size=3))),
    "empty shortlist": (Reason.INVALID_PLAN, Plan(preset="margin_k_center", shortlist=Shortlist())),
    "two sizes of a shortlist": (Reason.INVALID_PLAN, Plan(preset="margin_k_center", shortlist=Shortlist(3, 3))),
    "negative shortlist": (Reason.INVALID_PLAN, Plan(preset="margin_k_center", shortlist=Shortlist(-1, 3))),
    "exploration": (Reason.INVALID_PLAN, Plan(preset="random", exploration=1.5)),
    "exploration that is no number": (Reason.INVALID_PLAN, Plan(preset="random", exploration=NAN)),
    "strength": (Reason.INVALID_PLAN, Plan(scores=(ScoreTerm("margin", strength=-1),), select=SelectTerm("top"))),
    "too many scores": (Reason.INVALID_PLAN, Plan(scores=(ScoreTerm("margin"),) * 9, select=SelectTerm("top"))),
    "nothing predicts": (Reason.NEED_MISSING, Plan(preset="entropy")),
    "preset and combination": (Reason.INVALID_PLAN, Plan(preset="margin", combination=Combination.RANK_SUM)),
    "noise on nothing": (Reason.INVALID_PLAN, Plan(select=RANDOM, stochastic=Stochastic())),
    "noise on what does not rank": (Reason.INVALID_PLAN, Plan(preset="fass", stochastic=Stochastic())),
    "no sharpness": (Reason.INVALID_PLAN, Plan(preset="margin", stochastic=Stochastic(beta=0.0))),
    "endless sharpness": (Reason.INVALID_PLAN, Plan(preset="margin", stochastic=Stochastic(beta=1e300))),
    "sharpness that is no number": (Reason.INVALID_PLAN, Plan(preset="margin", stochastic=Stochastic(beta=NAN))),
    "unknown noise": (Reason.INVALID_PLAN, Plan(preset="margin", stochastic=Stochastic("loud"))),  # type: ignore[arg-type]
    "size and neighbors": (Reason.INVALID_PLAN, Plan(preset="random", shortlist=Shortlist(3, neighbors=3))),
    "too many neighbors": (Reason.INVALID_PLAN, Plan(preset="random", shortlist=Shortlist(neighbors=1001))),
    "negative radius": (Reason.INVALID_PLAN, Plan(preset="random", near_duplicate_radius=-0.1)),
    "endless radius": (Reason.INVALID_PLAN, Plan(preset="random", near_duplicate_radius=float("inf"))),
    "unknown sample in the query": (Reason.SAMPLE_NOT_FOUND, Plan(preset="random", query=("nobody",))),
    "sample twice in the query": (Reason.DUPLICATE_ID, Plan(preset="random", query=("s1", "s1"))),
    "too large a query": (Reason.TOO_LARGE, Plan(preset="random", query=tuple(names(0, 1001)))),
    "no quotas": (Reason.INVALID_PLAN, quotas()),
    "too many quotas": (Reason.INVALID_PLAN, quotas(*(QuotaTerm(n) for n in range(101)), by="n")),
    "crossed bounds": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", 3, 2))),
    "negative minimum": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", -1))),
    "endless maximum": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", 0, 2**63))),
    "target above 1": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", target=1.5))),
    "target that is no number": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", target=NAN))),
    "targets above 1": (Reason.INVALID_PLAN, quotas(QuotaTerm("ant", target=0.6), QuotaTerm("bee", target=0.6))),
    "one group twice": (Reason.INVALID_PLAN, quotas(QuotaTerm(1), QuotaTerm(1.0), by="n")),
    "unknown class": (Reason.UNKNOWN_CLASS, quotas(QuotaTerm("yak"))),
    "class that is a number": (Reason.INVALID_PLAN, quotas(QuotaTerm(1))),
    "unknown attribute of quotas": (Reason.UNKNOWN_ATTRIBUTE, quotas(QuotaTerm("x"), by="colour")),
    "value of another type": (Reason.ATTRIBUTE_TYPE_MISMATCH, quotas(QuotaTerm("x"), by="n")),
    "quotas by class while nothing predicts": (Reason.NEED_MISSING, quotas(QuotaTerm("ant"))),
    "too few in a group": (Reason.QUOTA_INFEASIBLE, quotas(QuotaTerm(3, 2), by="n")),
}


@pytest.mark.parametrize("case", PLANS)
def test_plans(core: Assay, case: str) -> None:
    reason, plan = PLANS[case]
    before = standing(core)
    refused(reason, lambda: core.mining.mine(POOL, MineSpec(1, plan), NO_KEY))
    refused(reason, lambda: core.mining.mine(POOL, MineSpec(1, plan, validate_only=True), NO_KEY))
    refused(reason, lambda: core.labeling.next_batch(POOL, BatchSpec("ada", 1, plan), NO_KEY))
    assert standing(core) == before


def test_scoring_needs_scores(core: Assay) -> None:
    refused(Reason.INVALID_PLAN, lambda: core.mining.score(POOL, ScoreSpec(Plan(preset="random"))))
    refused(Reason.NEED_MISSING, lambda: core.mining.score(POOL, ScoreSpec()))
    refused(Reason.INVALID_ARGUMENT, lambda: core.mining.score(POOL, ScoreSpec(chunk=0)))


def test_more_picks_than_samples(core: Assay) -> None:
    plan = Plan(preset="random")
    error = refused(Reason.POOL_EXHAUSTED, lambda: core.mining.mine(POOL, MineSpec(11, plan), NO_KEY))
    assert error.metadata == {"candidates": "10", "size": "11", "released": "0", "set_apart": "0"}
    refused(Reason.POOL_EXHAUSTED, lambda: core.mining.mine(POOL, MineSpec(11, plan, validate_only=True), NO_KEY))
    refused(Reason.INVALID_ARGUMENT, lambda: core.mining.mine(POOL, MineSpec(0, plan), NO_KEY))
    refused(Reason.INVALID_ARGUMENT, lambda: core.mining.mine(POOL, MineSpec(1001, plan), NO_KEY))
    assert len(core.mining.mine(POOL, MineSpec(10, plan), NO_KEY).picks) == 10


BATCH_SPECS = {
    "no worker": (Reason.INVALID_ID, BatchSpec("", 1)),
    "worker with a line break": (Reason.INVALID_ID, BatchSpec("a\n", 1)),
    "none": (Reason.INVALID_ARGUMENT, BatchSpec("ada", 0)),
    "too many": (Reason.INVALID_ARGUMENT, BatchSpec("ada", 10_001)),
    "no time": (Reason.INVALID_ARGUMENT, BatchSpec("ada", 1, ttl=0)),
    "time without end": (Reason.INVALID_ARGUMENT, BatchSpec("ada", 1, ttl=INF)),
    "predictions": (Reason.INVALID_ARGUMENT, BatchSpec("ada", 1, predictions=101)),
}


@pytest.mark.parametrize("case", BATCH_SPECS)
def test_batches_to_label(core: Assay, case: str) -> None:
    reason, spec = BATCH_SPECS[case]
    before = standing(core)
    refused(reason, lambda: core.labeling.next_batch(POOL, spec, NO_KEY))
    assert standing(core) == before


def test_labels(core: Assay) -> None:
    annotate(core, {"s0": "ant"})
    before = standing(core)
    for reason, labels in (
        (Reason.UNKNOWN_CLASS, {"s1": "ant", "s2": "dog"}),
        (Reason.UNKNOWN_CLASS, {"s1": ""}),
        (Reason.SAMPLE_NOT_FOUND, {"s1": "ant", "s99": "bee"}),
        (Reason.ANNOTATION_EXISTS, {"s1": "ant", "s0": "bee"}),
        (Reason.INVALID_ARGUMENT, {}),
    ):
        refused(reason, lambda labels=labels: annotate(core, labels))  # type: ignore[misc]
    refused(Reason.INVALID_ID, lambda: annotate(core, {"s1": "ant"}, worker=""))
    refused(Reason.LEASE_NOT_FOUND, lambda: annotate(core, {"s1": "ant"}, lease="none", fencing_token=1))
    refused(Reason.UNKNOWN_CLASS, lambda: core.annotations.labels(POOL, "", "dog", -1, 10))
    assert standing(core) == before


def test_a_head_needs_two_classes(core: Assay) -> None:
    for labels in ({}, {"s0": "ant", "s1": "ant"}):
        if labels:
            annotate(core, labels)
        before = standing(core)
        refused(Reason.TOO_FEW_CLASSES, lambda: core.models.train(POOL, TrainSpec(), NO_KEY, model_id_of))
        assert standing(core) == before


@pytest.mark.parametrize(
    "spec",
    [TrainSpec(l2=0.0), TrainSpec(l2=NAN), TrainSpec(members=0), TrainSpec(members=65), TrainSpec(folds=1)],
    ids=repr,
)
def test_training(core: Assay, spec: TrainSpec) -> None:
    label_by_sign(core, vectors(10), 4)
    refused(Reason.INVALID_ARGUMENT, lambda: core.models.train(POOL, spec, NO_KEY, model_id_of))


SEARCHES = {
    "k": (Reason.INVALID_ARGUMENT, SearchSpec(vectors_QD=vectors(1), k=0)),
    "nothing": (Reason.INVALID_ARGUMENT, SearchSpec()),
    "both": (Reason.INVALID_ARGUMENT, SearchSpec(vectors_QD=vectors(1), ids=("s1",))),
    "no vectors": (Reason.INVALID_ARGUMENT, SearchSpec(vectors_QD=vectors(0))),
    "dimension": (Reason.DIMENSION_MISMATCH, SearchSpec(vectors_QD=vectors(1, dimension=3))),
    "nan": (Reason.NOT_FINITE, SearchSpec(vectors_QD=with_value(NAN))),
    "unknown sample": (Reason.SAMPLE_NOT_FOUND, SearchSpec(ids=("s1", "s99"))),
    "sample twice": (Reason.DUPLICATE_ID, SearchSpec(ids=("s1", "s1"))),
    "no index": (Reason.INDEX_NOT_READY, SearchSpec(vectors_QD=vectors(1), mode=SearchMode.APPROXIMATE)),
}


@pytest.mark.parametrize("case", SEARCHES)
def test_searches(core: Assay, case: str) -> None:
    reason, spec = SEARCHES[case]
    refused(reason, lambda: core.samples.search(POOL, spec))


def test_an_empty_pool_cannot_be_searched(core: Assay) -> None:
    make_pool(core, "empty")
    refused(Reason.DIMENSION_MISMATCH, lambda: core.samples.search("empty", SearchSpec(vectors_QD=vectors(1))))


PREDICTIONS: dict[str, tuple[Reason, PredictSpec]] = {
    "nothing": (Reason.INVALID_ARGUMENT, PredictSpec()),
    "two things": (Reason.INVALID_ARGUMENT, PredictSpec(ids=("s1",), embeddings_ND=vectors(1))),
    "dimension": (Reason.DIMENSION_MISMATCH, PredictSpec(embeddings_ND=vectors(1, dimension=3))),
    "nan": (Reason.NOT_FINITE, PredictSpec(embeddings_ND=with_value(NAN))),
    "none": (Reason.INVALID_ARGUMENT, PredictSpec(embeddings_ND=vectors(0))),
    "unknown sample": (Reason.SAMPLE_NOT_FOUND, PredictSpec(ids=("s99",))),
    "unknown head": (Reason.MODEL_NOT_FOUND, PredictSpec(ids=("s1",), head="best")),
    "inputs": (Reason.NO_BACKBONE, PredictSpec(inputs={"features": vectors(1)})),
    "nothing predicts": (Reason.NEED_MISSING, PredictSpec(ids=("s1",))),
    "nothing predicts fresh ones": (Reason.NEED_MISSING, PredictSpec(embeddings_ND=vectors(1))),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions(core: Assay, case: str) -> None:
    reason, spec = PREDICTIONS[case]
    refused(reason, lambda: core.models.predict(POOL, spec))


def test_an_unknown_pool(core: Assay) -> None:
    calls: tuple[Callable[[], Any], ...] = (
        lambda: core.pools.get("none"),
        lambda: core.pools.delete("none", NO_KEY),
        lambda: add(core, ["a"], pool="none"),
        lambda: core.samples.get("none", "a"),
        lambda: core.samples.list("none", None, (), -1, 1, False),
        lambda: core.samples.delete("none", ["a"], False, NO_KEY),
        lambda: core.samples.search("none", SearchSpec(ids=("a",))),
        lambda: receive(core, b"x", "m", pool="none"),
        lambda: core.models.get("none", "m"),
        lambda: core.models.list("none", None, NEWEST, 1),
        lambda: core.models.delete("none", "m", NO_KEY),
        lambda: core.models.activate("none", "m", NO_KEY, model_id_of),
        lambda: core.models.rollback("none", ModelKind.HEAD, NO_KEY, model_id_of),
        lambda: core.models.train("none", TrainSpec(), NO_KEY, model_id_of),
        lambda: core.models.predict("none", PredictSpec(ids=("a",))),
        lambda: core.mining.score("none", ScoreSpec()),
        lambda: core.mining.mine("none", MineSpec(1), NO_KEY),
        lambda: core.labeling.next_batch("none", BatchSpec("ada", 1), NO_KEY),
        lambda: core.labeling.lease("none", "l"),
        lambda: core.labeling.leases("none", "", 0, 1),
        lambda: core.labeling.renew("none", "l", 1, 1.0, NO_KEY),
        lambda: core.labeling.release("none", "l", 1, [], "", False, NO_KEY),
        lambda: core.annotations.labels("none", "", "", -1, 1),
    )
    for call in calls:
        refused(Reason.POOL_NOT_FOUND, call)


def test_unknown_samples_models_leases_operations(core: Assay) -> None:
    before = standing(core)
    calls: tuple[tuple[Reason, Callable[[], Any]], ...] = (
        (Reason.SAMPLE_NOT_FOUND, lambda: core.samples.get(POOL, "s99")),
        (Reason.INVALID_ID, lambda: core.samples.get(POOL, "")),
        (Reason.SAMPLE_NOT_FOUND, lambda: core.samples.delete(POOL, ["s1", "s99"], False, NO_KEY)),
        (Reason.DUPLICATE_ID, lambda: core.samples.delete(POOL, ["s1", "s1"], False, NO_KEY)),
        (Reason.MODEL_NOT_FOUND, lambda: core.models.get(POOL, "m")),
        (Reason.MODEL_NOT_FOUND, lambda: core.models.delete(POOL, "m", NO_KEY)),
        (Reason.MODEL_NOT_FOUND, lambda: core.models.activate(POOL, "m", NO_KEY, model_id_of)),
        (Reason.NOTHING_TO_ROLL_BACK, lambda: core.models.rollback(POOL, ModelKind.HEAD, NO_KEY, model_id_of)),
        (Reason.LEASE_NOT_FOUND, lambda: core.labeling.lease(POOL, "l")),
        (Reason.LEASE_NOT_FOUND, lambda: core.labeling.renew(POOL, "l", 1, 60.0, NO_KEY)),
        (Reason.LEASE_NOT_FOUND, lambda: core.labeling.release(POOL, "l", 1, [], "", False, NO_KEY)),
        (Reason.INVALID_ARGUMENT, lambda: core.labeling.renew(POOL, "l", 1, 0.5, NO_KEY)),
        (Reason.TOO_LARGE, lambda: core.labeling.release(POOL, "l", 1, [], "x" * 1025, False, NO_KEY)),
        (Reason.OPERATION_NOT_FOUND, lambda: core.operations.get("o")),
        (Reason.OPERATION_NOT_FOUND, lambda: core.operations.cancel("o")),
        (Reason.OPERATION_NOT_FOUND, lambda: core.operations.delete("o")),
    )
    for reason, call in calls:
        refused(reason, call)
    assert standing(core) == before


def test_one_request_id_for_two_bodies(core: Assay) -> None:
    """On every mutation; the first is remembered, the second refused, and nothing done."""
    label_by_sign(core, vectors(10), 4)
    taken = next_batch(core, 2)
    lease, token = taken.lease.record.lease_id, taken.lease.record.fencing_token
    train(core)
    used = key("used", "one body")
    core.mining.mine(POOL, MineSpec(1), used)
    for pool_id in ("new", "gone"):
        core.pools.create(PoolSpec(pool_id), used)
    core.pools.delete("gone", used)
    before = standing(core)
    other = key("used", "another body")
    calls: tuple[Callable[[], Any], ...] = (
        lambda: core.pools.create(PoolSpec("new"), other),
        lambda: core.pools.delete("gone", other),
        lambda: add(core, ["a"], request=other),
        lambda: core.samples.delete(POOL, ["s1"], False, other),
        lambda: receive(core, b"x", "m", key=other),
        lambda: core.models.delete(POOL, "m", other),
        lambda: core.models.activate(POOL, "m", other, model_id_of),
        lambda: core.models.rollback(POOL, ModelKind.HEAD, other, model_id_of),
        lambda: core.models.train(POOL, TrainSpec(), other, model_id_of),
        lambda: core.mining.mine(POOL, MineSpec(1), other),
        lambda: next_batch(core, 1, request=other),
        lambda: core.labeling.renew(POOL, lease, token, 60.0, other),
        lambda: core.labeling.release(POOL, lease, token, [], "", False, other),
        lambda: annotate(core, {"s9": "ant"}, request=other),
    )
    for call in calls:
        refused(Reason.REQUEST_ID_REUSED, call)
    assert standing(core) == before


def test_models_that_are_none(house: House, core: Assay) -> None:
    def upload(content: bytes, model_id: str = "m", size: int | None = None, sha256: str = "") -> object:
        return receive(core, content, model_id, size=size, sha256=sha256)

    before, files = standing(core), house.files()
    refused(Reason.MODEL_INVALID, lambda: upload(b"this is not ONNX"))
    refused(Reason.INVALID_ARGUMENT, lambda: upload(b"short", size=10))
    refused(Reason.TOO_LARGE, lambda: upload(b"longer than said", size=4))
    refused(Reason.MODEL_INVALID, lambda: upload(b"content", sha256="0" * 64))
    refused(Reason.INVALID_NAME, lambda: upload(b"content", model_id="../m"))
    refused(Reason.TOO_LARGE, lambda: upload(b""))
    assert (standing(core), house.files()) == (before, files)
    assert core.models.list(POOL, None, NEWEST, 10) == []


def test_the_error_says_what_and_where(core: Assay) -> None:
    error = refused(Reason.NOT_FINITE, lambda: add(core, ["a", "b", "c"], with_value(NAN)))
    assert isinstance(error, AssayError)
    assert error.metadata == {"row": "1", "column": "2"}
    assert "Row 1: column 2 is nan" in error.message
    fill_error = refused(Reason.SAMPLE_EXISTS, lambda: fill(core, 3))
    assert fill_error.metadata == {"row": "0", "id": "s0", "count": "3"}


def test_an_error_of_a_sample_is_told_by_its_place_in_the_whole_stream() -> None:
    error = SampleError(Reason.NOT_FINITE, 1, "column 2 is nan.", column=2)
    told = error.among(["a", "b"], 8000)
    assert told.message == "Row 8001 (id 'b'): column 2 is nan."
    assert told.metadata == {"row": "8001", "id": "b", "column": "2"}
    assert told.reason is Reason.NOT_FINITE
    assert error.among([]).metadata == {"row": "1", "column": "2"}


@pytest.mark.parametrize(
    ("columns", "row", "said"),
    [
        ({"labels": ["ant", "dog"]}, 1, "'dog' is no class"),
        ({"uris": ["", "u" * 3000]}, 1, "uris"),
        ({"payloads": [b"", b"p" * 100_000]}, 1, "at most"),
        ({"attributes": {"m": AttributeColumn("double", np.array([0.5, NAN]))}}, 1, "'m' is nan"),
        ({"attributes": {"m": AttributeColumn("string", ["", "x" * 5000])}}, 1, "'m'"),
        ({"predictions_NC": np.array([[0.2, 0.3, 0.5], [1, 1, 1]], np.float32)}, 1, "no distribution"),
        ({"payloads": [b"{}", b'{"a": NaN}'], "payload_media_type": "application/json"}, 1, "NaN is no value of JSON"),
    ],
)
def test_every_refusal_of_a_sample_says_which(core: Assay, columns: dict[str, Any], row: int, said: str) -> None:
    with pytest.raises(SampleError, match=said) as caught:
        add(core, ["a", "b"], **columns)
    assert caught.value.row == row


def test_refusals_of_ids_say_which(core: Assay) -> None:
    for ids, row in ((["a", "b", "a"], 2), (["a", "b\x00"], 1)):
        with pytest.raises(SampleError, match="id") as caught:
            add(core, ids)
        assert caught.value.row == row


def test_labels_that_are_refused_name_their_sample(core: Assay) -> None:
    add(core, ["a", "b"])
    for class_name in ("dog", ""):
        error = refused(Reason.UNKNOWN_CLASS, lambda name=class_name: annotate(core, {"a": "ant", "b": name}))
        assert isinstance(error, SampleError)
        assert (error.metadata["row"], error.metadata["id"]) == ("1", "b")


JSON = "application/json"


@pytest.mark.parametrize("media_type", [JSON, "application/geo+json", "Application/JSON; charset=utf-8"])
@pytest.mark.parametrize(
    "payload",
    [
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"{",
        b"nonsense",
        b"\xff",
        b'{"a": 1} x',
        b"[" * 50,
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_is_never_stored_as_json(core: Assay, payload: bytes, media_type: str) -> None:
    def store() -> None:
        add(core, ["a"], payloads=[payload], payload_media_type=media_type)

    refused(Reason.INVALID_ARGUMENT, store)
    add(core, ["a"], payloads=[payload], payload_media_type="application/octet-stream")


def test_json_and_nothing_are_stored_as_json(core: Assay) -> None:
    add(core, ["a", "b", "c"], payloads=[b'{"a": [1, null]}', b"", '"süß"'.encode()], payload_media_type=JSON)


def test_a_class_that_only_looks_the_same_is_told_apart(core: Assay) -> None:
    composed, apart = "caf\u00e9", "cafe\u0301"
    make_pool(core, "nf", class_names=(composed, "Sport"))
    for given, said in ((apart, "NFC and NFD"), ("sport ", "Is 'Sport' meant"), ("dog", "its classes are")):
        with pytest.raises(SampleError, match=said):
            add(core, ["a"], pool="nf", labels=[given])
