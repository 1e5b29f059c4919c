"""Annotators are judged by each other, and the labels of a pool follow from their skills."""

import numpy as np
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling import annotating
from assay.server.core.labeling.history import reader
from assay.server.core.labeling.judging import ResolveResult
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import Blobs, EventKind, Policy
from assay.server.core.records.tasks import TaskKind, TaskRecord
from tests.core.kit import CLASSES, POOL, House, annotate, done, fill, key, labels_of, make_pool, pool_of, refused
from tests.core.test_annotation_log import columns_of

SAMPLES = 600
WRONG = {"ann": 0.05, "bob": 0.08, "cy": 0.45}


def told_by_three(house: House, policy: Policy, samples: int = SAMPLES) -> tuple[Assay, list[str]]:
    """Each sample is annotated by two of three workers, one of whom is often wrong; the truth comes along."""
    core = house.open()
    make_pool(core, annotations_per_sample=2, policy=policy)
    fill(core, samples)
    rng = np.random.default_rng(5)
    truth = rng.integers(len(CLASSES), size=samples)
    workers = sorted(WRONG)
    for place, worker in enumerate(workers):
        mine = np.flatnonzero(np.arange(samples) % len(workers) != place)
        said = truth[mine]
        off = rng.random(len(mine)) < WRONG[worker]
        said = np.where(off, (said + 1 + rng.integers(2, size=len(mine))) % len(CLASSES), said)
        annotate(core, {f"s{row}": CLASSES[value] for row, value in zip(mine, said, strict=True)}, worker=worker)
    return core, [CLASSES[value] for value in truth]


def right(core: Assay, truth: list[str]) -> float:
    """Share of samples that have the true label."""
    labels = {view.sample_id: view.value for view in labels_of(core, limit=len(truth))}
    return float(np.mean([labels.get(f"s{row}", "") == name for row, name in enumerate(truth)]))


def resolve(core: Assay, request: str = "") -> ResolveResult:
    results: list[ResolveResult] = []

    def encode(result: ResolveResult) -> bytes:
        results.append(result)
        return b"done"

    asked = key(request) if request else NO_KEY
    assert done(core, core.judging.resolve(POOL, encode, asked)).record.response == b"done"
    return results[0]


def test_skills_settle_what_a_majority_cannot_and_name_the_weak_annotator(house: House) -> None:
    core, truth = told_by_three(house, Policy.WEIGHTED)
    by_count = right(core, truth)
    result = resolve(core)
    assert right(core, truth) > by_count + 0.15, "of two who differ, the better one is believed"
    assert (result.samples, result.overtaken) == (SAMPLES, 0)
    assert result.changed > 0.15 * SAMPLES
    reports = {view.worker: view.report for view in core.judging.annotators(POOL).annotators}
    assert list(reports) == sorted(WRONG)
    for worker, report in reports.items():
        assert report.skill == pytest.approx(1 - WRONG[worker], abs=0.08)
        assert (report.annotations, report.median_seconds) == (SAMPLES * 2 // 3, None)
        assert sum(each.count for each in report.confusion) == report.compared > 0
    assert min(reports, key=lambda worker: reports[worker].agreement or 0) == "cy"
    before = columns_of(pool_of(core).snapshot)
    core = house.open()
    assert columns_of(pool_of(core).snapshot) == before
    assert resolve(core).changed == 0, "nothing was said meanwhile"


def test_nobody_is_judged_who_is_alone(house: House) -> None:
    core = house.open()
    make_pool(core, annotations_per_sample=2, policy=Policy.WEIGHTED)
    fill(core, 4)
    annotate(core, {"s0": "ant", "s1": "bee"}, worker="ann")
    (view,) = core.judging.annotators(POOL).annotators
    assert (view.worker, view.report.annotations) == ("ann", 2)
    assert (view.report.compared, view.report.agreement, view.report.skill) == (0, None, None)
    result = resolve(core)
    assert (result.samples, result.changed, result.epoch) == (0, 0, pool_of(core).snapshot.pool.epoch)


def test_a_verdict_stays_and_is_no_answer(house: House) -> None:
    core, _ = told_by_three(house, Policy.WEIGHTED, 60)
    pool = pool_of(core)
    rows_N = pool.snapshot.find(["s0", "s1"])
    with pool.change() as change:
        verdict = annotating.Statement(
            "judge", 1.0, rows_N, np.full(2, EventKind.VERDICT, np.uint8), np.full(2, 2, np.int32)
        )
        annotating.append(change, reader(house.catalog, pool), verdict)
    result = resolve(core)
    assert result.samples == 58
    assert pool.snapshot.labels.at(rows_N).tolist() == [2, 2]
    assert [view.worker for view in core.judging.annotators(POOL).annotators] == sorted(WRONG)


def test_what_is_said_meanwhile_is_not_written_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    core, _ = told_by_three(house, Policy.WEIGHTED, 60)
    store = core.judging._store

    def overtaken(pool, snapshot, labels):  # type: ignore[no-untyped-def]
        for name in ("ant", "bee"):
            annotate(core, {"s0": name}, worker="bob", correct=True)
        return store(pool, snapshot, labels)

    monkeypatch.setattr(core.judging, "_store", overtaken)
    result = resolve(core)
    assert (result.samples, result.overtaken) == (60, 1)


def test_only_weighted_labels_are_resolved(house: House) -> None:
    core, _ = told_by_three(house, Policy.MAJORITY, 12)
    error = refused(Reason.POLICY_INFEASIBLE, lambda: core.judging.resolve(POOL, lambda _: b"", NO_KEY))
    assert error.metadata["policy"] == "majority"


def test_sets_of_classes_and_durations(house: House) -> None:
    core = house.open()
    task = TaskRecord.of_classes(TaskKind.MULTILABEL, CLASSES)
    make_pool(core, annotations_per_sample=2, policy=Policy.WEIGHTED)
    fill(core, 30)
    # As a pool of the task would be made.
    with pool_of(core).change() as change:
        change.replace_pool(task=task)
    core = house.open()
    pool = pool_of(core)
    of_pool, rows_N = pool.snapshot.task, np.arange(30)
    for place, worker in enumerate(("ann", "bob", "cy")):
        mine = rows_N[rows_N % 3 != place]
        value = of_pool.encode((0, 2) if worker != "cy" else (1,))
        with pool.change() as change:
            statement = annotating.Statement(
                worker,
                1.0,
                mine,
                np.zeros(len(mine), np.uint8),
                Blobs.of([value] * len(mine)),
                durations_N=np.where(mine % 2, 2000, -1) if worker == "ann" else None,
            )
            annotating.append(change, reader(house.catalog, pool), statement)
    reports = {view.worker: view.report for view in core.judging.annotators(POOL).annotators}
    assert (reports["ann"].median_seconds, reports["bob"].median_seconds) == (2.0, None)
    assert resolve(core).samples == 30
    assert (reports["cy"].skill or 0) < (reports["ann"].skill or 0)
