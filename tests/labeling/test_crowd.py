"""Labels and skills estimated together: the models are crowd-kit's, and they find the annotator who is wrong."""

import numpy as np
import pandas as pd
import pytest
from crowdkit.aggregation import GLAD, DawidSkene, MajorityVote

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling import crowd
from assay.server.core.labeling.annotators import Confused, annotators
from assay.server.core.labeling.crowd import Opinions, dawid_skene, glad
from assay.server.core.labeling.policies import decide_classes, tally
from assay.server.core.labeling.weighing import Annotations, CrowdModel, weigh
from assay.server.core.records.annotations import Policy
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from assay.server.core.tasks.base import Box, Span
from assay.server.core.tasks.registry import task_of
from assay.strategies.interrupt import Interrupted, interruptible


def _crowd(samples, accuracies, classes, each, seed):
    """Annotators who are right so often and else say any other class; each sample goes to `each` of them."""
    rng = np.random.default_rng(seed)
    true_N = rng.integers(0, classes, samples)
    chosen = np.argsort(rng.random((samples, len(accuracies))), axis=1)[:, :each]
    samples_A, workers_A = np.repeat(np.arange(samples), each), chosen.ravel()
    wrong_A = (true_N[samples_A] + rng.integers(1, classes, len(samples_A))) % classes
    right_A = rng.random(len(samples_A)) < np.asarray(accuracies)[workers_A]
    said_A = np.where(right_A, true_N[samples_A], wrong_A)
    return true_N, Opinions(samples_A, workers_A, said_A, samples, len(accuracies), classes)


def _frame(opinions):
    return pd.DataFrame({"task": opinions.samples_A, "worker": opinions.workers_A, "label": opinions.classes_A})


@pytest.fixture(scope="module")
def believable():
    return _crowd(400, (0.95, 0.85, 0.8, 0.6, 0.45), 4, 3, seed=11)


# It uses what pandas is about to take away.
quiet = pytest.mark.filterwarnings("ignore::pandas.errors.PandasChangeWarning")


@quiet
def test_majority_is_crowd_kits(believable):
    _, opinions = believable
    order = np.argsort(opinions.samples_A, kind="stable")
    offsets = np.searchsorted(opinions.samples_A[order], np.arange(opinions.samples + 1))
    ours = tally(offsets, opinions.classes_A[order])
    probabilities = MajorityVote().fit_predict_proba(_frame(opinions)).sort_index().sort_index(axis=1).to_numpy()
    assert ours.shares_N == pytest.approx(probabilities.max(axis=1))
    decided = ours.winners_N >= 0
    assert (ours.winners_N[decided] == probabilities.argmax(axis=1)[decided]).all()
    assert ((probabilities == probabilities.max(axis=1, keepdims=True)).sum(axis=1) == 1).tolist() == decided.tolist()


@quiet
def test_dawid_skene_is_crowd_kits(believable):
    _, opinions = believable
    theirs = DawidSkene(n_iter=7, tol=-np.inf).fit(_frame(opinions))
    ours = dawid_skene(opinions, iterations=7, tolerance=-np.inf)
    probabilities = theirs.probas_.sort_index().sort_index(axis=1).to_numpy()
    assert ours.confidence_N == pytest.approx(probabilities.max(axis=1), abs=1e-9)
    assert (ours.classes_N == probabilities.argmax(axis=1)).all()
    errors, priors = theirs.errors_, theirs.priors_
    skills = [sum(errors.loc[(w, c), c] * priors[c] for c in range(4) if (w, c) in errors.index) for w in range(5)]
    assert ours.skills_W == pytest.approx(skills, abs=1e-9)


def test_blocks_change_nothing(believable, monkeypatch):
    whole = dawid_skene(believable[1])
    monkeypatch.setattr(crowd, "_BLOCK", 64)
    parts = dawid_skene(believable[1])
    assert whole.confidence_N == pytest.approx(parts.confidence_N)
    assert whole.iterations == parts.iterations


@quiet
def test_glad_is_crowd_kits_nearly():
    _, opinions = _crowd(40, (0.95, 0.85, 0.8, 0.6, 0.45), 4, 4, seed=11)
    theirs = GLAD(n_iter=4, m_step_tol=1e-4).fit(_frame(opinions))
    ours = glad(opinions)
    probabilities = theirs.probas_.sort_index().sort_index(axis=1).to_numpy()
    assert (ours.classes_N == probabilities.argmax(axis=1)).mean() >= 0.95
    assert np.argsort(ours.skills_W).tolist() == np.argsort(theirs.alphas_.sort_index().to_numpy()).tolist()
    assert np.abs(ours.confidence_N - probabilities.max(axis=1)).mean() < 0.05


@pytest.mark.parametrize(("model", "near"), [(dawid_skene, 0.08), (glad, 0.16)])
def test_skills_are_estimated_and_labels_better_than_a_majoritys(model, near):
    """GLAD's prior draws weak annotators towards the middle, and keeps their order."""
    accuracies = (0.95, 0.9, 0.6, 0.5, 0.4)
    true_N, opinions = _crowd(2000, accuracies, 4, 3, seed=5)
    beliefs = model(opinions)
    assert beliefs.converged
    assert beliefs.skills_W == pytest.approx(accuracies, abs=near)
    assert np.argsort(beliefs.skills_W).tolist() == [4, 3, 2, 1, 0]
    offsets = np.arange(0, 6001, 3)
    votes = tally(offsets, opinions.classes_A)
    assert (beliefs.classes_N == true_N).mean() > (votes.winners_N == true_N).mean() + 0.05


@pytest.mark.parametrize("model", [dawid_skene, glad])
def test_edges_of_a_crowd(model):
    nobody = np.empty(0, np.int64)
    assert np.isnan(model(Opinions(nobody, nobody, nobody, 0, 2, 1)).skills_W).all()
    alone = model(Opinions(np.array([0]), np.array([1]), np.array([2]), 1, 2, 3))
    assert alone.classes_N.tolist() == [2]
    assert np.isnan(alone.skills_W[0])
    one_class = model(Opinions(np.array([0, 0]), np.array([0, 1]), np.array([0, 0]), 1, 2, 1))
    assert one_class.classes_N.tolist() == [0]
    assert one_class.confidence_N == pytest.approx([1.0])


@pytest.mark.parametrize("model", [dawid_skene, glad])
def test_a_model_stops_when_it_is_told_to(model, believable):
    asked = []
    with pytest.raises(Interrupted), interruptible(lambda: asked.append(0) or len(asked) > 2):
        model(believable[1], iterations=1000, tolerance=-np.inf)


def test_tables_that_do_not_fit_are_refused_with_a_way_out(monkeypatch, believable):
    monkeypatch.setattr(crowd, "_TABLE", 50)
    with pytest.raises(AssayError, match="Use GLAD") as refusal:
        dawid_skene(believable[1])
    assert refusal.value.reason is Reason.TOO_LARGE


def test_three_annotators_two_opinions_a_sample_and_one_of_them_is_wrong_thirty_percent():
    """By majority, two who differ are a dispute; by weight the better one is believed. The report names the other."""
    true_N, opinions = _crowd(600, (0.97, 0.95, 0.7), 3, 2, seed=2)
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "abc"))
    said = opinions.classes_A.astype(np.int32)
    given = Annotations(opinions.samples_A, opinions.workers_A, said, 600, 3)
    weighed = weigh(task, given)
    majority = decide_classes(Policy.MAJORITY, task, np.arange(0, 1201, 2), said, np.full(600, 2))
    assert (weighed.values == true_N).mean() > (majority.labels_N == true_N).mean() + 0.1
    assert weighed.agreement_N.tolist() == majority.agreement_N.tolist()
    report = annotators(task, given, weighed.values, np.full(1200, np.nan), weighed.skills_W)
    assert min(report, key=lambda each: each.skill) is report[2]
    assert report[2].agreement < min(report[0].agreement, report[1].agreement) - 0.1
    assert report[2].skill == pytest.approx(0.7, abs=0.08)


def test_two_of_whom_nothing_is_known_are_a_dispute():
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "ab"))
    given = Annotations(np.array([0, 0]), np.array([0, 1]), np.array([0, 1], np.int32), 1, 2)
    for model in CrowdModel:
        weighed = weigh(task, given, model)
        assert weighed.values.tolist() == [-1]
        assert weighed.settled_N.tolist() == [False]


SETS = TaskRecord.of_classes(TaskKind.MULTILABEL, "abcd")
WEAK = {
    TaskKind.MULTILABEL: (SETS, lambda n: (n % 4,), lambda n: ((n + 1) % 4,)),
    TaskKind.REGRESSION: (
        TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x", 0.0, 100.0),)),
        lambda n: (float(n % 50),),
        lambda n: (float(n % 50 + 40),),
    ),
    TaskKind.BOXES: (
        TaskRecord.of_classes(TaskKind.BOXES, "ab"),
        lambda n: (Box(0, n / 400, 0.1, 0.2, 0.2),),
        lambda n: (Box(0, n / 400, 0.7, 0.2, 0.2),),
    ),
    TaskKind.SPANS: (
        TaskRecord.of_classes(TaskKind.SPANS, "ab"),
        lambda n: (Span(0, n, n + 5),),
        lambda n: (Span(1, n, n + 5),),
    ),
    TaskKind.FREEFORM: (TaskRecord(TaskKind.FREEFORM), lambda n: f"{n}", lambda n: f"{-n - 1}"),
}


@pytest.mark.parametrize("kind", WEAK, ids=str)
def test_every_task_is_weighed(kind):
    """Three annotators, two of whom see each sample; the third is wrong on every second one."""
    record, right, wrong = WEAK[kind]
    task = task_of(record)
    samples_A = np.repeat(np.arange(90), 2)
    workers_A = np.array([worker for n in range(90) for worker in ((0, 1), (0, 2), (1, 2))[n % 3]])
    pairs = zip(samples_A.tolist(), workers_A.tolist(), strict=True)
    values = [wrong(n) if worker == 2 and n // 3 % 2 else right(n) for n, worker in pairs]
    given = Annotations(samples_A, workers_A, values, 90, 3)
    weighed = weigh(task, given)
    assert weighed.values == [right(n) for n in range(90)]
    assert weighed.settled_N.all()
    assert weighed.skills_W[2] < min(weighed.skills_W[0], weighed.skills_W[1]) - 0.05
    report = annotators(task, given, weighed.values, np.arange(180.0), weighed.skills_W)
    assert report[2].agreement < 0.85
    assert report[0].agreement == report[1].agreement == 1
    assert report[0].confusion == ()


def test_sets_that_are_all_empty_are_settled():
    given = Annotations(np.array([0, 0]), np.array([0, 1]), [(), ()], 1, 2)
    weighed = weigh(task_of(SETS), given)
    assert weighed.values == [()]
    assert weighed.confidence_N.tolist() == [1.0]
    assert np.isnan(weighed.skills_W).all()


def test_a_report_counts_compares_and_times():
    task = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "abc"))
    # Sample 0: a, b; sample 1: b, b; sample 2: c alone; sample 3: a, c, without a label.
    samples_A, workers_A = np.array([0, 0, 1, 1, 2, 3, 3]), np.array([0, 1, 0, 1, 0, 0, 1])
    given = Annotations(samples_A, workers_A, np.array([0, 1, 1, 1, 2, 0, 2], np.int32), 4, 3)
    seconds = np.array([1.0, 9.0, 2.0, np.nan, 6.0, np.nan, np.nan])
    labels = np.array([0, 1, 2, -1], np.int32)
    first, second, third = annotators(task, given, labels, seconds)
    assert (first.annotations, first.compared, first.agreement, first.median_seconds) == (4, 2, 1.0, 2.0)
    assert (second.annotations, second.compared, second.agreement, second.median_seconds) == (3, 2, 0.5, 9.0)
    assert first.confusion == (Confused(0, 0, 1), Confused(1, 1, 1))
    assert second.confusion == (Confused(0, 1, 1), Confused(1, 1, 1))
    assert (third.annotations, third.compared, third.agreement, third.median_seconds, third.skill) == (
        0,
        0,
        None,
        None,
        None,
    )
