"""Audits find wrong labels, keep what they found over restarts, and forget whom somebody has spoken of."""

import numpy as np
import numpy.typing as npt
import pytest

from assay.server.core.assay import Assay
from assay.server.core.errors import Reason
from assay.server.core.labeling import suspicion
from assay.server.core.labeling.auditing import AuditResult, AuditSpec, SuspectView
from assay.server.core.pools.pool import NO_KEY
from assay.server.core.records.annotations import Policy
from assay.server.core.records.filters import Compare
from assay.server.core.records.suspects import SuspectKind
from assay.server.core.records.tasks import TaskKind, TaskRecord
from tests.core.kit import CLASSES, POOL, House, add, annotate, done, fill, make_pool, numbers, pool_of, refused

SAMPLES = 120
WRONG = (3, 40, 77)
COPIES = (100, 101, 102)
ALL = AuditSpec()


def clusters() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """Three clear clusters, whose numbers are the truth; three of the samples have the same vector."""
    rng = np.random.default_rng(0)
    truth = np.arange(SAMPLES) % 3
    embeddings = (4 * np.eye(4)[truth] + 0.3 * rng.standard_normal((SAMPLES, 4))).astype(np.float32)
    embeddings[list(COPIES)] = embeddings[COPIES[0]]
    truth[list(COPIES)] = truth[COPIES[0]]
    return embeddings, truth


def labeled(house: House) -> Assay:
    """A pool of clusters with some labels wrong, and one of three copies labeled otherwise than the others."""
    core = house.open()
    make_pool(core)
    embeddings, said = clusters()
    add(core, [f"s{i}" for i in range(SAMPLES)], embeddings, attributes={"n": numbers(range(SAMPLES))})
    said[[*WRONG, COPIES[1]]] = (said[[*WRONG, COPIES[1]]] + 1) % 3
    annotate(core, {f"s{i}": CLASSES[c] for i, c in enumerate(said)})
    return core


def audit(core: Assay, spec: AuditSpec = ALL) -> AuditResult:
    results: list[AuditResult] = []

    def encode(result: AuditResult) -> bytes:
        results.append(result)
        return b"done"

    done(core, core.audits.audit(POOL, spec, encode, NO_KEY))
    return results[0]


def suspects(core: Assay, kind: SuspectKind | None = None, minimum: float = 0.0) -> list[SuspectView]:
    return core.audits.suspects(POOL, kind, minimum, -1, 1000).suspects


def found(core: Assay, kind: SuspectKind) -> set[str]:
    return {view.sample_id for view in suspects(core, kind)}


def test_wrong_labels_are_found_and_kept_over_a_restart(house: House) -> None:
    core = labeled(house)
    assert core.audits.suspects(POOL, None, 0.0, -1, 10).audit_epoch == 0
    result = audit(core)
    wrong = {f"s{i}" for i in (*WRONG, COPIES[1])}
    assert found(core, SuspectKind.MODEL) == found(core, SuspectKind.NEIGHBORS) == wrong
    assert found(core, SuspectKind.DUPLICATES) == {f"s{i}" for i in COPIES}
    assert [(each.kind, each.samples, each.found, each.kept, each.left_out) for each in result.kinds] == [
        (SuspectKind.MODEL, SAMPLES, 4, 4, ""),
        (SuspectKind.NEIGHBORS, SAMPLES, 4, 4, ""),
        (SuspectKind.ANNOTATORS, 0, 0, 0, ""),
        (SuspectKind.DUPLICATES, SAMPLES, 3, 3, ""),
    ]
    assert result.suspects == 6
    assert result.epoch == pool_of(core).snapshot.pool.epoch
    listed = suspects(core)
    assert [view.score for view in listed] == sorted((view.score for view in listed), reverse=True)
    first = next(view for view in listed if view.sample_id == f"s{WRONG[0]}" and view.kind is SuspectKind.MODEL)
    truth = clusters()[1][WRONG[0]]
    assert (first.label, first.suggested) == (CLASSES[(truth + 1) % 3], CLASSES[truth])
    assert {view.sample_id for view in suspects(core, minimum=0.99)} < {view.sample_id for view in listed}
    assert suspects(house.open()) == listed


def test_who_is_spoken_of_is_no_suspect_any_more(house: House) -> None:
    core = labeled(house)
    audit(core)
    first, second, third = (f"s{i}" for i in WRONG)
    annotate(core, {first: "cow"}, worker="bob")
    annotate(core, {second: "ant"}, correct=True)
    core.samples.delete(POOL, [third], True, NO_KEY)
    left = {view.sample_id for view in suspects(core)}
    assert left == {f"s{i}" for i in COPIES}
    core = house.open()
    assert {view.sample_id for view in suspects(core)} == left
    audit(core, AuditSpec((SuspectKind.DUPLICATES,)))
    assert {view.sample_id for view in suspects(core)} == left


def test_who_is_spoken_of_during_the_audit_is_not_stored(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    core = labeled(house)
    found_by = suspicion.by_neighbors

    def meanwhile(*given):  # type: ignore[no-untyped-def]
        annotate(core, {f"s{WRONG[0]}": "cow"}, worker="bob")
        return found_by(*given)

    monkeypatch.setattr(suspicion, "by_neighbors", meanwhile)
    audit(core, AuditSpec((SuspectKind.NEIGHBORS,)))
    assert found(core, SuspectKind.NEIGHBORS) == {f"s{i}" for i in (*WRONG[1:], COPIES[1])}


def test_an_audit_that_is_cancelled_leaves_what_the_one_before_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = labeled(house)
    audit(core)
    before = suspects(core)

    found_by = suspicion.by_neighbors

    def cancelled(*given):  # type: ignore[no-untyped-def]
        (running,) = [view for view in core.operations.list(None, 10) if not view.record.done]
        assert running.progress.stage == "neighbors"
        core.operations.cancel(running.record.operation_id)
        return found_by(*given)

    monkeypatch.setattr(suspicion, "by_neighbors", cancelled)
    operation = core.audits.audit(POOL, AuditSpec((SuspectKind.NEIGHBORS,)), lambda _: b"", NO_KEY)
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.error_reason == Reason.CANCELLED
    assert suspects(core) == before


def test_annotators_who_differ_are_found_and_a_filter_narrows(house: House) -> None:
    core = house.open()
    make_pool(core, annotations_per_sample=2, policy=Policy.MAJORITY)
    fill(core, 10)
    annotate(core, dict.fromkeys([f"s{i}" for i in range(6)], "ant"), worker="ann")
    annotate(core, {f"s{i}": "bee" if i % 2 else "ant" for i in range(6)}, worker="bob")
    result = audit(core)
    assert [bool(each.left_out) for each in result.kinds] == [True, True, False, False]
    assert [(view.sample_id, view.score, view.label) for view in suspects(core)] == [
        ("s1", 1.0, ""), ("s3", 1.0, ""), ("s5", 1.0, ""),
    ]  # fmt: skip
    narrowed = audit(core, AuditSpec((SuspectKind.ANNOTATORS,), Compare("n", "<", 3)))
    assert [(each.samples, each.found) for each in narrowed.kinds] == [(3, 1)]
    assert found(core, SuspectKind.ANNOTATORS) == {"s1"}


def test_what_cannot_be_audited_is_refused(house: House) -> None:
    core = labeled(house)
    for spec in (
        AuditSpec((SuspectKind.MODEL, SuspectKind.MODEL)),
        AuditSpec(neighbors=0),
        AuditSpec(radius=float("nan")),
    ):
        refused(Reason.INVALID_ARGUMENT, lambda spec=spec: audit(core, spec))
    refused(Reason.UNKNOWN_ATTRIBUTE, lambda: audit(core, AuditSpec(filter=Compare("none", "==", 1))))
    with pool_of(core).change() as change:
        change.replace_pool(task=TaskRecord.of_classes(TaskKind.BOXES, CLASSES))
    error = refused(Reason.NEED_MISSING, lambda: audit(core, AuditSpec((SuspectKind.NEIGHBORS,))))
    assert error.metadata["kind"] == "NEIGHBORS"


def test_more_vectors_than_may_be_held_are_refused_with_a_way_out(house: House) -> None:
    labeled(house)
    core = house.with_limits(max_selector_bytes=1000).open()
    operation = core.audits.audit(POOL, AuditSpec((SuspectKind.NEIGHBORS,)), lambda _: b"", NO_KEY)
    ended = core.operations.wait(operation.record.operation_id, 60)
    assert ended.record.error_reason == Reason.TOO_LARGE
    assert "filter" in ended.record.error_message
    assert audit(core, AuditSpec((SuspectKind.NEIGHBORS,), Compare("n", "<", 40))).kinds[0].samples == 40
