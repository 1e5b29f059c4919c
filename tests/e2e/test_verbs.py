"""What people do beside annotating, through the client: skip, withdraw, set aside and reopen."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from assay.client import (
    REJECT,
    RETRACT,
    AlreadyExists,
    Annotation,
    AssayError,
    Classification,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Review,
    edit_classes,
)


def fill(client, pool, count=6, **options):
    client.create_pool(pool, task=Classification(["ant", "bee"]), **options)
    vectors = np.random.default_rng(7).normal(size=(count, 4)).astype(np.float32)
    client.add_samples(pool, range(count), embeddings=vectors, payloads=[f"text {row}" for row in range(count)])


def states(client, pool):
    return {sample.id: sample.state for sample in client.list_samples(pool)}


def test_what_is_skipped_withdrawn_and_reopened_is_open_to_others(client, pool):
    fill(client, pool, annotations_per_sample=2, policy="majority")
    batch = client.next_batch(pool, "ann", 3)
    dark, *rest = batch.ids
    skipped = client.skip_samples(pool, [dark], "ann", "too dark", lease=batch.lease)
    assert (skipped.skipped, skipped.unchanged, skipped.lease_remaining) == (1, 0, 2)
    client.annotate(pool, dict.fromkeys(rest, "ant"), "ann", lease=batch.lease)
    client.annotate(pool, dict.fromkeys([dark, *rest], "ant"), "bob")
    assert {states(client, pool)[sample_id] for sample_id in rest} == {"labeled"}
    with pytest.raises(AlreadyExists):
        client.skip_samples(pool, rest, "ann")
    taken_back = client.withdraw_annotations(pool, rest[:1], "ann", "a slip")
    assert (taken_back.withdrawn, taken_back.labeled) == (1, 0)
    with pytest.raises(NotFound) as caught:
        client.withdraw_annotations(pool, rest, "ann")
    assert (caught.value.reason, caught.value.metadata["id"]) == ("ANNOTATION_NOT_FOUND", rest[0])
    client.withdraw_annotations(pool, rest, "root", annotator="bob")
    assert [states(client, pool)[sample_id] for sample_id in rest] == ["unlabeled", "answered"]
    assert client.set_sample_state(pool, [dark, *rest], "reopen", "root", "new guide").changed == 2
    again = client.next_batch(pool, "ann", 6)
    assert set(rest) <= set(again.ids)
    assert dark not in again.ids


def test_a_sample_that_is_set_aside_is_as_it_was_once_it_is_back(client, pool):
    fill(client, pool)
    client.annotate(pool, {"0": "ant"}, "ann")
    assert client.set_sample_state(pool, ["0", "1"], "exclude", "ann", "blurred").changed == 2
    with pytest.raises(FailedPrecondition, match="set aside"):
        client.annotate(pool, {"2": "ant", "1": "ant"}, "ann")
    with pytest.raises(FailedPrecondition, match="set aside"):
        client.set_sample_state(pool, ["2", "1"], "reopen", "ann")
    assert states(client, pool)["2"] == "unlabeled"
    back = client.set_sample_state(pool, ["0", "1", "2"], "include", "ann")
    assert (back.changed, back.unchanged) == (2, 1)
    assert [states(client, pool)[name] for name in "012"] == ["labeled", "unlabeled", "unlabeled"]
    with pytest.raises(ValueError, match="exclude, include, reopen"):
        client.set_sample_state(pool, ["0"], "delete", "ann")
    with pytest.raises(InvalidArgument):
        client.set_sample_state(pool, [], "include", "ann")


def test_what_was_said_is_listed_by_sample_worker_and_since(client, pool):
    fill(client, pool, annotations_per_sample=2, policy="majority")
    first = client.annotate(pool, {str(row): "ant" for row in range(6)}, "ann")
    said = Annotation("1", "bee", external_id="mark-1", comment="dim", confidence=0.5, duration=2.5)
    client.annotate(pool, [said], "bob")
    client.skip_samples(pool, ["2"], "bob", "dark")
    client.withdraw_annotations(pool, ["1"], "root", "a bot", annotator="bob")
    history = list(client.list_annotations(pool, sample_id="1"))
    assert [(each.verb, each.worker, each.value, each.standing) for each in history] == [
        ("annotate", "ann", "ant", True),
        ("annotate", "bob", "bee", False),
        ("withdraw", "bob", None, False),
    ]
    assert (history[1].external_id, history[1].comment, history[1].confidence) == ("mark-1", "dim", 0.5)
    assert (history[1].duration, history[1].origin, history[1].by) == (2.5, "worker", None)
    assert (history[2].by, history[2].supersedes, history[2].comment) == ("root", history[1].name, "a bot")
    since = list(client.list_annotations(pool, after_event=first.last_event))
    assert [each.verb for each in since] == ["annotate", "skip", "withdraw"]
    assert [each.sample_id for each in client.list_annotations(pool, worker="bob")] == ["1", "2", "1"]
    assert [each.event for each in client.list_annotations(pool, external_id="mark-1")] == [history[1].event]
    assert list(client.list_annotations(pool, start_time=history[2].create_time + timedelta(days=1))) == []
    assert len(list(client.list_annotations(pool, end_time=history[2].create_time + timedelta(days=1)))) == 9
    with pytest.raises(NotFound):
        list(client.list_annotations(pool, sample_id="none"))


def test_a_reviewer_decides_and_takes_back(client, pool):
    fill(client, pool, annotations_per_sample=2, policy="majority")
    client.annotate(pool, {"0": "ant", "1": "ant", "2": "ant"}, "ann")
    client.annotate(pool, {"0": "bee", "1": "bee", "2": "bee"}, "bob")
    open_questions = [label.sample_id for label in client.list_labels(pool, states=["disputed"])]
    assert open_questions == ["0", "1", "2"]
    said = next(each for each in client.list_annotations(pool, sample_id="1") if each.worker == "bob")
    done = client.review_samples(pool, [Review("0", "ant", "clearly"), Review("1", said), Review("2", REJECT)], "rita")
    assert (done.decided, done.unchanged, done.labeled) == (3, 0, 2)
    labels = list(client.list_labels(pool))
    assert [(each.sample_id, each.value, each.decided_by) for each in labels] == [
        ("0", "ant", "verdict"),
        ("1", "bee", "verdict"),
    ]
    assert states(client, pool)["2"] == "unlabeled"
    undone = client.undo_last_action(pool, "rita")
    assert (undone.undone, undone.verbs, undone.sample_ids) == (4, ("withdraw", "verdict"), ("0", "1", "2"))
    assert [label.sample_id for label in client.list_labels(pool, states=["disputed"])] == ["0", "1", "2"]
    with pytest.raises(FailedPrecondition) as caught:
        client.undo_last_action(pool, "rita")
    assert caught.value.reason == "ALREADY_UNDONE"
    client.review_samples(pool, {"0": "ant"}, "rita")
    client.review_samples(pool, {"0": RETRACT}, "rita")
    with pytest.raises(NotFound, match="no verdict"):
        client.review_samples(pool, {"0": RETRACT}, "rita")
    with pytest.raises(InvalidArgument) as caught:
        client.review_samples(pool, {"1": "ant", "0": "dog"}, "rita")
    assert (caught.value.metadata["row"], caught.value.metadata["id"]) == ("1", "0")
    history = [each.verb for each in client.list_annotations(pool, sample_id="0")]
    assert history == ["annotate", "annotate", "verdict", "retract", "verdict", "retract"]


def test_each_bad_input_is_told_and_changes_nothing(client, pool):
    """What no list of values tells: states, people and ids. (Values of every task: test_tasks.)"""
    fill(client, pool, annotations_per_sample=2, policy="majority")
    client.update_pool(pool, task=edit_classes(client.get_pool(pool).task, add=["cow"], retire=["bee"]))
    client.annotate(pool, [Annotation("0", "ant", external_id="mine")], "ann")
    client.annotate(pool, {"0": "cow"}, "bob")
    client.set_sample_state(pool, ["5"], "exclude", "ann")
    held = client.next_batch(pool, "dee", 1)
    task = client.get_pool(pool).task
    before = client.get_pool(pool), list(client.list_annotations(pool)), list(client.list_leases(pool))
    elsewhere = replace(before[1][0], name="pools/other/annotations/0")
    annotate, withdraw, review = client.annotate, client.withdraw_annotations, client.review_samples
    probs = np.full((1, 2), 0.5, np.float32)
    for reason, call in {
        "WRONG_TASK": lambda: annotate(pool, {"1": ["ant"]}, "ann"),
        "UNKNOWN_CLASS": lambda: annotate(pool, {"1": "ant", "2": "dog"}, "ann"),
        "CLASS_RETIRED": lambda: annotate(pool, {"1": "ant", "2": "bee"}, "ann"),
        "SAMPLE_NOT_FOUND": lambda: annotate(pool, {"1": "ant", "none": "ant"}, "ann"),
        "SAMPLE_EXCLUDED": lambda: annotate(pool, {"1": "ant", "5": "ant"}, "ann"),
        "ANNOTATION_EXISTS": lambda: annotate(pool, {"1": "ant", "0": "cow"}, "ann"),
        "EXTERNAL_ID_EXISTS": lambda: annotate(pool, [Annotation("1", "cow", external_id="mine")], "ann"),
        "ANNOTATION_NOT_FOUND": lambda: withdraw(pool, ["0"], "cy"),
        "SAMPLE_LEASED": lambda: client.set_sample_state(pool, held.ids, "exclude", "ann"),
        "LEASE_FOREIGN": lambda: client.skip_samples(pool, held.ids, "ann", lease=held.lease),
        "ANNOTATIONS_EXIST": lambda: client.update_pool(pool, annotations_per_sample=1, policy="latest"),
        "POLICY_INFEASIBLE": lambda: client.create_pool(f"{pool}-x", task=Classification(["a"]), policy="majority"),
        "NOTHING_TO_UNDO": lambda: client.undo_last_action(pool, "dee"),
        "INVALID_ID": lambda: client.skip_samples(pool, ["1"], "a\nb"),
        "DUPLICATE_ID": lambda: withdraw(pool, ["0", "0"], "ann"),
        "TOO_LARGE": lambda: client.skip_samples(pool, ["1"], "ann", "x" * 2000),
        "INVALID_VALUE": lambda: annotate(pool, [Annotation("1", "ant", confidence=1.5)], "ann"),
        "DIMENSION_MISMATCH": lambda: client.update_predictions(pool, "mine", ["1"], probabilities=probs),
        "INVALID_NAME": lambda: review(pool, {"0": elsewhere}, "ann"),
    }.items():
        with pytest.raises(AssayError) as caught:
            call()
        assert caught.value.reason == reason, (reason, caught.value)
        assert caught.value.message.endswith("."), "one sentence on what is wrong and one on the way out"
    with pytest.raises(ValueError, match="itself"):
        edit_classes(task, merge={"ant": "ant"})
    assert (client.get_pool(pool), list(client.list_annotations(pool)), list(client.list_leases(pool))) == before
