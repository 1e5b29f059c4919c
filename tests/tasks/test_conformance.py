"""What holds of every task, whatever its values are."""

import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.server.core.errors import SampleError
from assay.server.core.records.tasks import TaskKind, TaskRecord
from assay.server.core.tasks.registry import TASKS
from tests.tasks.kit import CASES, EVERY_CASE

quick = settings(max_examples=40, deadline=None)
every_task = pytest.mark.parametrize("case", EVERY_CASE.values(), ids=list(EVERY_CASE))


def test_every_kind_has_a_module_and_a_case():
    assert set(TASKS) == set(TaskKind) == set(CASES)


@every_task
def test_its_record_survives_the_catalog(case):
    assert TaskRecord.from_json(case.record.to_json()) == case.record
    assert case.task.record == case.record


@every_task
@quick
@given(data=st.data())
def test_a_value_survives_its_bytes(case, data):
    value = data.draw(case.values)
    assert case.task.decode(case.task.encode(value)) == value
    assert hash(value) == hash(case.task.decode(case.task.encode(value)))


@every_task
@quick
@given(data=st.data())
def test_bytes_are_equal_exactly_where_values_are(case, data):
    a, b = data.draw(case.values), data.draw(case.values)
    assert case.task.equal(a, b) == (case.task.encode(a) == case.task.encode(b))
    assert case.task.equal(a, a)


@every_task
@quick
@given(data=st.data())
def test_what_export_writes_import_reads_unchanged(case, data):
    values = data.draw(st.lists(st.none() | case.values, max_size=4))
    columns = case.task.export(values)
    assert tuple(columns) == case.task.export_columns
    read = case.task.read_export(json.loads(json.dumps(columns)))
    assert [None if each is None else case.task.check(each) for each in read] == values


@every_task
@quick
@given(data=st.data())
def test_agreement_is_symmetric_and_whole_for_equal_values(case, data):
    a, b = data.draw(case.values), data.draw(case.values)
    agreement = case.task.agreement(a, b)
    assert 0 <= agreement <= 1
    assert agreement == case.task.agreement(b, a)
    assert case.task.agreement(a, a) == 1
    if agreement == 1 and not case.forgives:
        assert case.task.equal(a, b)


@every_task
@quick
@given(data=st.data())
def test_the_consensus_of_equal_values_is_that_value(case, data):
    value = data.draw(case.values)
    for count in (1, 2, 3, 7):
        consensus = case.task.consensus([value] * count)
        assert consensus.value == value
        assert (consensus.confidence, consensus.agreement) == (1, 1)
    weighted = case.task.consensus([value] * 3, [0.1, 0.7, 0.0])
    assert weighted.value == value
    assert weighted.confidence == pytest.approx(1)


@every_task
@quick
@given(data=st.data())
def test_a_consensus_does_not_hang_on_the_order_and_could_be_said(case, data):
    values = data.draw(st.lists(case.values, min_size=1, max_size=4))
    consensus = case.task.consensus(values)
    assert 0 <= consensus.confidence <= 1
    assert 0 <= consensus.agreement <= 1
    shuffled = random.Random(0).sample(values, len(values))
    again = case.task.consensus(shuffled)
    assert (again.value is None) == (consensus.value is None)
    assert again.confidence == pytest.approx(consensus.confidence)
    assert again.agreement == pytest.approx(consensus.agreement)
    if consensus.value is not None:
        assert case.task.agreement(again.value, consensus.value) == pytest.approx(1)
        (said,) = case.task.read_export(case.task.export([consensus.value]))
        assert case.task.equal(case.task.check(said), consensus.value)


@every_task
@quick
@given(data=st.data())
def test_who_weighs_nothing_decides_nothing(case, data):
    values = data.draw(st.lists(case.values, min_size=1, max_size=3))
    other = data.draw(case.values)
    with_silent = case.task.consensus([*values, other], [*[1.0] * len(values), 0.0])
    assert with_silent.value == case.task.consensus(values).value


@every_task
def test_a_consensus_of_nobody_is_refused(case):
    value = case.task.check(_some(case))
    for values, weights in (([], None), ([value], [0.0]), ([value], [-1.0]), ([value], [float("nan")]), ([value], [])):
        with pytest.raises(ValueError, match=r"value|weights"):
            case.task.consensus(values, weights)


@every_task
def test_hostile_values_are_refused_by_place_with_a_reason(case):
    good = _some(case)
    for given_value, reason, word in case.hostile:
        with pytest.raises(SampleError) as refusal:
            case.task.check_all([good, good, given_value])
        assert (refusal.value.reason, refusal.value.row) == (reason, 2), given_value
        assert word in refusal.value.message, refusal.value.message
        named = refusal.value.among(["a", "b", "c"])
        assert named.metadata["id"] == "c"
        with pytest.raises(SampleError):
            case.task.check(given_value)


@every_task
def test_an_export_that_nobody_wrote_is_refused_by_place(case):
    (column,) = case.task.export_columns
    for cell in (7, {"a": []}, [7], [{"class_name": 7}], [[]]):
        with pytest.raises(SampleError) as refusal:
            case.task.check_all(case.task.read_export({column: [None, cell]})[1:])
        assert refusal.value.row in (0, 1)


@every_task
@quick
@given(data=st.data())
def test_targets_have_a_row_for_each_value(case, data):
    values = data.draw(st.lists(case.values, max_size=4))
    targets = case.task.targets(values)
    shape = case.task.prediction_shape
    if targets is not None:
        assert shape is not None
        assert targets.shape == ((len(values),) if targets.ndim == 1 else (len(values), shape.columns))


@every_task
def test_nothing_held_out_has_no_score(case):
    metrics = case.task.metrics([], [])
    assert metrics.samples == 0
    assert all(score is None for score in metrics.scores.values())
    assert metrics.classes == ()


def _some(case):
    wanted = []

    @settings(max_examples=1, database=None)
    @given(case.given)
    def draw(value):
        wanted.append(value)

    draw()
    return wanted[0]
