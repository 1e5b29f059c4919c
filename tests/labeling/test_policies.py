"""What each policy makes of what annotators say, one sample at a time and many at once."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.core.errors import AssayError, Reason
from assay.server.core.labeling.policies import (
    Decision,
    Outcome,
    Standing,
    decide,
    decide_classes,
    vote_weights,
)
from assay.server.core.pools import checks as pool_checks
from assay.server.core.records.annotations import Policy
from assay.server.core.records.tasks import TargetRecord, TaskKind, TaskRecord
from assay.server.core.tasks.editing import ClassEdit, edit_classes
from assay.server.core.tasks.registry import task_of

TASK = task_of(TaskRecord.of_classes(TaskKind.CLASSIFICATION, "abcd"))


def _merged(class_id, into):
    """The record of TASK with one class merged into another."""
    edits = [ClassEdit(i, name, merged_into=into if i == class_id else None) for i, name in enumerate("abcd")]
    return edit_classes(TASK.record, edits, 100)


def _said(*values, verdict=None):
    """Annotations of workers w0, w1, ... in order of time; verdict is the place of a reviewer's."""
    return [Standing(f"w{i}", value, 100 + i, i == verdict) for i, value in enumerate(values)]


def _outcome(policy, *values, wanted=2, **more):
    decision = decide(policy, TASK, _said(*values, **more), wanted)
    return decision.outcome, decision.value


@pytest.mark.parametrize("policy", [Policy.MAJORITY, Policy.UNANIMOUS, Policy.WEIGHTED])
def test_a_policy_that_compares_needs_somebody_to_compare(policy):
    with pytest.raises(AssayError, match="annotations_per_sample is 1") as refusal:
        pool_checks.policy(policy, 1)
    assert refusal.value.reason is Reason.POLICY_INFEASIBLE
    pool_checks.policy(policy, 2)


def test_other_policies_are_content_with_one():
    pool_checks.policy(Policy.LATEST, 1)
    pool_checks.policy(Policy.REVIEWED, 1)


@pytest.mark.parametrize("policy", list(Policy))
def test_fewer_than_wanted_leave_a_sample_open(policy):
    assert _outcome(policy, wanted=1) == (Outcome.OPEN, None)
    assert _outcome(policy, 1, wanted=2) == (Outcome.OPEN, None)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_verdict_settles_under_every_policy_and_the_newest_counts(policy):
    assert _outcome(policy, 1, 2, 3, wanted=9, verdict=1) == (Outcome.SETTLED, 2)
    two = [Standing("r", 3, 7, True), Standing("s", 1, 9, True), Standing("w", 0, 11)]
    assert decide(policy, TASK, two, 1).value == 1


def test_each_policy_decides_in_its_way():
    assert _outcome(Policy.LATEST, 1, 2) == (Outcome.SETTLED, 2)
    assert _outcome(Policy.MAJORITY, 1, 2) == (Outcome.DISPUTED, None)
    assert _outcome(Policy.MAJORITY, 1, 2, 1) == (Outcome.SETTLED, 1)
    assert _outcome(Policy.UNANIMOUS, 1, 2, 1) == (Outcome.DISPUTED, None)
    assert _outcome(Policy.UNANIMOUS, 1, 1, 1) == (Outcome.SETTLED, 1)
    assert _outcome(Policy.REVIEWED, 1, 1) == (Outcome.DISPUTED, None)
    assert _outcome(Policy.WEIGHTED, 1, 2, 1) == (Outcome.SETTLED, 1)


def test_latest_goes_by_the_number_of_the_event():
    assert decide(Policy.LATEST, TASK, [Standing("w", 1, 9), Standing("v", 2, 3)], 1) == Decision(
        Outcome.SETTLED, 1, 0.5, 0.0
    )


def test_skill_decides_between_two():
    said = _said(1, 2)
    assert decide(Policy.WEIGHTED, TASK, said, 2, {"w0": 0.9, "w1": 0.6}).value == 1
    assert decide(Policy.WEIGHTED, TASK, said, 2, {"w0": 0.6, "w1": 0.9}).value == 2
    assert decide(Policy.WEIGHTED, TASK, said, 2, {}).outcome is Outcome.DISPUTED
    # One of whom nothing is known counts as the mean.
    assert decide(Policy.WEIGHTED, TASK, said, 2, {"w0": 0.9, "x": 0.4}).value == 1
    # Two weak ones do not outvote a strong one, whatever their number says.
    assert decide(Policy.WEIGHTED, TASK, _said(1, 2, 2), 2, {"w0": 0.97, "w1": 0.6, "w2": 0.6}).value == 1


def test_who_guesses_has_no_vote_and_if_all_guess_all_have():
    assert vote_weights(TASK, ["a", "b"], {"a": 0.9, "b": 0.1})[1] == 0
    assert vote_weights(TASK, ["a", "b"], {"a": 0.1, "b": 0.1}) is None
    assert vote_weights(TASK, ["a"], {"a": math.nan}) is None
    assert vote_weights(TASK, ["a"], None) is None


def test_unanimous_means_near_enough_where_a_task_says_so():
    task = task_of(TaskRecord(TaskKind.REGRESSION, targets=(TargetRecord("x", 0.0, 100.0),)))
    assert decide(Policy.UNANIMOUS, task, _said((48.0,), (52.0,)), 2).value == (50.0,)
    assert decide(Policy.UNANIMOUS, task, _said((48.0,), (52.0,), (90.0,)), 2).outcome is Outcome.DISPUTED


def test_labels_follow_merges():
    task = task_of(_merged(0, 3))
    assert decide(Policy.UNANIMOUS, task, _said(0, 3), 2).value == 3
    assert decide(Policy.LATEST, task, _said(0), 1).value == 3


@given(
    st.sampled_from(list(Policy)),
    st.lists(st.tuples(st.lists(st.integers(0, 3), max_size=5), st.integers(1, 4)), max_size=6),
    st.booleans(),
)
def test_many_at_once_are_decided_as_one_by_one(policy, samples, merged):
    task = task_of(_merged(0, 2)) if merged else TASK
    offsets = np.cumsum([0, *(len(values) for values, _ in samples)])
    classes = np.array([value for values, _ in samples for value in values], np.int32)
    many = decide_classes(policy, task, offsets, classes, np.array([wanted for _, wanted in samples], np.uint8))
    for n, (values, wanted) in enumerate(samples):
        one = decide(policy, task, _said(*values), wanted)
        assert many.outcomes_N[n] == one.outcome
        assert many.labels_N[n] == (-1 if one.value is None else one.value)
        assert many.confidence_N[n] == pytest.approx(one.confidence, nan_ok=True)
        assert many.agreement_N[n] == pytest.approx(one.agreement, nan_ok=True)


def test_many_at_once_are_weighed():
    offsets, classes = np.array([0, 2, 4]), np.array([1, 2, 1, 2], np.int32)
    many = decide_classes(Policy.WEIGHTED, TASK, offsets, classes, np.array([2, 2]), np.array([1.0, 2.0, 1.0, 1.0]))
    assert many.labels_N.tolist() == [2, -1]
    assert many.outcomes_N.tolist() == [Outcome.SETTLED, Outcome.DISPUTED]
    assert many.confidence_N.tolist() == pytest.approx([2 / 3, 0.5])
