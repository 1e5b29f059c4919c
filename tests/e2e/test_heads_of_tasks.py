"""A round in a pool of sets of classes, and in one of numbers: add, annotate, train, measure, mine, label."""

import numpy as np
import pytest

from assay.client import FailedPrecondition, MultiLabel, NeedMissing, Regression, Target

SAMPLES, LABELED, APART = 160, 60, 40
TOPICS = ("sport", "money", "politics")


def world(client, pool, task):
    """A pool whose first samples are set apart as its test split; returns its embeddings."""
    embeddings = np.random.default_rng(5).normal(size=(SAMPLES, 6)).astype(np.float32)
    client.create_pool(pool, task=task, metric="l2")
    splits = ["test"] * APART + [None] * (SAMPLES - APART)
    client.add_samples(pool, range(SAMPLES), embeddings=embeddings, attributes={"split": splits})
    return embeddings


def round_of(client, pool, truth):
    """Labels, a head, and a batch of the default plan. Returns the head, and the ids that were picked."""
    labeled = {str(row): truth(row) for row in range(APART + LABELED)}
    assert client.annotate(pool, labeled, "ann").labeled == APART + LABELED
    head = client.train_head(pool).result(timeout=60).head
    assert head.labels == LABELED, "the test split teaches nothing"
    assert head.metrics.split == "test"
    mined = client.mine(pool, 8)
    batch = client.next_batch(pool, "bob", 8)
    for picks in (mined.picks, batch.picks):
        ids = [pick.id for pick in picks]
        assert len(set(ids)) == 8
        assert not set(ids) & set(labeled), "what is labeled or set apart is not picked"
    done = client.annotate(pool, {pick.id: truth(int(pick.id)) for pick in batch.picks}, "bob", lease=batch.lease)
    assert (done.labeled, done.lease_remaining) == (8, 0)
    return head, mined


def test_a_round_of_sets_of_classes(client, pool):
    embeddings = world(client, pool, MultiLabel(TOPICS))

    def truth(row):
        return [topic for topic, value in zip(TOPICS, embeddings[row], strict=False) if value > 0]

    head, mined = round_of(client, pool, truth)
    assert head.task == "multilabel"
    assert head.trained_classes == (0, 1, 2)
    assert head.metrics.value("macro_f1") > 0.8
    assert {each.name for each in head.metrics.classes} == set(TOPICS)
    assert mined.plan.name == "cover"
    found = client.predict(pool, samples=["0", "1"])
    assert found.probs_NC.shape == (2, 3)
    doubted = client.mine(pool, 4, plan="multilabel_max_entropy").picks
    assert doubted[0].score >= doubted[-1].score
    with pytest.raises(NeedMissing):
        client.mine(pool, 4, plan="margin")


def test_a_round_of_numbers(client, pool):
    embeddings = world(client, pool, Regression([Target("rent", minimum=0), "size"]))

    def truth(row):
        first, second = embeddings[row, :2].astype(float)
        return {"rent": 900 + 100 * first, "size": 50 + 20 * second - 5 * first}

    head, mined = round_of(client, pool, truth)
    assert head.task == "regression"
    assert head.metrics.value("r2") > 0.9
    assert {each.name for each in head.metrics.classes} == {"rent", "size"}
    assert mined.plan.name == "spread"
    found = client.predict(pool, samples=["0"])
    assert found.values[0]["rent"] == pytest.approx(truth(0)["rent"], rel=0.05)
    with pytest.raises(FailedPrecondition, match="Train a head with members of 2 or more"):
        client.mine(pool, 4, plan="member_std")
    client.train_head(pool, members=4).result(timeout=60)
    assert len(client.mine(pool, 4, plan="member_std").picks) == 4
