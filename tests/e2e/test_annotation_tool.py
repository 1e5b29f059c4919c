"""An annotation tool: batches out to workers, labels back, a better model, the next batch."""

import asyncio
import io
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.client import (
    AlreadyExists,
    AsyncClient,
    FailedPrecondition,
    InvalidArgument,
    LeaseExpired,
    LeaseForeign,
    PoolExhausted,
    ScorePart,
    attr,
)
from tests.e2e.corpus import CLASSES

SHORT = 1.0  # seconds: the shortest lease there is
LONGER = 2.0  # seconds: time enough to renew it


def until_leased(client, pool, samples):
    """Asks until so many samples are leased; each call is the wait. The test's own time limit ends it."""
    while client.get_pool(pool).counts.leased != samples:
        continue


def test_from_random_batches_to_the_samples_that_the_model_is_unsure_of(client, corpus, pool):
    corpus.create(client, pool)
    first = client.next_batch(pool, "ann", 30, predictions=3)
    assert first.provenance.prediction_source == "none"
    assert first.plan.select.strategy == "random"
    assert not any(pick.predictions for pick in first.picks)
    assert [pick.sample.text for pick in first.picks] == [corpus.texts[int(sample_id[1:])] for sample_id in first.ids]
    assert first.picks[0].sample.media_type == "text/plain"
    assert sorted(first.lease.sample_ids) == sorted(first.ids)
    assert first.ids != sorted(first.ids), "a random batch is not the first rows"

    submitted = client.annotate(pool, corpus.answers(first.ids), "ann", lease=first.lease)
    assert (submitted.stored, submitted.unchanged, submitted.lease_remaining) == (30, 0, 0)
    assert client.get_lease(first.lease).state == "done"

    head = client.train_head(pool).result(timeout=60)
    assert head.active
    assert head.head.labels == 30
    metrics = head.head.metrics
    assert (metrics.split, metrics.samples) == ("cross_validation", 30)
    assert metrics.value("accuracy") > 0.5
    assert set(metrics.measures) == {"accuracy", "macro_f1", "log_loss", "calibration_error"}
    assert metrics.measures["macro_f1"].low < metrics.value("macro_f1") < metrics.measures["macro_f1"].high
    assert sum(each.samples for each in metrics.classes) == sum(cell.samples for cell in metrics.confusion) == 30
    assert client.get_model(head).head == head.head
    (listed,) = client.list_models(pool)
    assert (listed.head.metrics.measures, listed.head.metrics.classes) == (metrics.measures, ())

    second = client.next_batch(pool, "ann", 10, predictions=3)
    assert second.provenance.head == head.name
    assert [term.strategy for term in second.plan.scores] == ["margin"]
    assert not set(second.ids) & set(first.ids)
    scores = [pick.score for pick in second.picks]
    assert scores == sorted(scores, reverse=True)
    for rank, pick in enumerate(second.picks, 1):
        assert pick.rank == rank
        assert pick.parts == (ScorePart("margin", pick.score),)
        likely, runner_up, _ = (prediction.probability for prediction in pick.predictions)
        assert likely >= runner_up
        assert pick.score == pytest.approx(1 - (likely - runner_up), abs=1e-5)
    everything = client.predict(pool, samples=corpus.ids).probs_NC
    two_NC = np.sort(everything, axis=1)[:, -2:]
    margin_N = 1 - (two_NC[:, 1] - two_NC[:, 0])
    left = [row for row, sample_id in enumerate(corpus.ids) if sample_id not in set(first.ids)]
    best = sorted(left, key=lambda row: -margin_N[row])[:10]
    assert second.ids == [corpus.ids[row] for row in best]


def test_a_filter_narrows_what_is_handed_out(client, corpus, pool):
    corpus.create(client, pool)
    where = (attr("lang") == "de") & (attr("words") >= 60)
    batch = client.next_batch(pool, "ann", 100, where=where)
    assert sorted(batch.ids) == [corpus.ids[row] for row in range(60, 120) if row % 3 == 0]
    with pytest.raises(PoolExhausted):
        client.next_batch(pool, "bob", 1, where=where)


def test_workers_who_ask_at_once_never_get_the_same_sample(client, corpus, pool):
    corpus.create(client, pool)

    def work(worker):
        batches = []
        while True:
            try:
                batches.append(client.next_batch(pool, worker, 5))
            except PoolExhausted:
                return batches

    with ThreadPoolExecutor(4) as workers:
        batches = [batch for part in workers.map(work, ("ann", "bob", "cem", "dao")) for batch in part]
    handed_out = [sample_id for batch in batches for sample_id in batch.ids]
    assert sorted(handed_out) == corpus.ids
    tokens = [batch.lease.fencing_token for batch in batches]
    assert len(set(tokens)) == len(batches)
    live = list(client.list_leases(pool))
    assert [lease.fencing_token for lease in live] == sorted(tokens)
    assert client.get_pool(pool).counts.leased == len(corpus.ids)


async def test_workers_on_one_event_loop_label_the_whole_pool(server, client, corpus, pool):
    corpus.create(client, pool)

    async def work(asynchronous, worker):
        labeled = 0
        while True:
            try:
                batch = await asynchronous.next_batch(pool, worker, 7)
            except PoolExhausted:
                return labeled
            answers = corpus.answers(batch.ids)
            labeled += (await asynchronous.annotate(pool, answers, worker, lease=batch.lease)).stored

    async with AsyncClient(server.target) as asynchronous:
        stored = await asyncio.gather(*(work(asynchronous, worker) for worker in ("ann", "bob", "cem")))
        assert sum(stored) == len(corpus.ids)
        operation = await asynchronous.train_head(pool)
        head = await operation.result(timeout=60)
        assert head.head.labels == len(corpus.ids)
        labels = {label.sample_id: label.value async for label in asynchronous.list_labels(pool)}
    assert labels == corpus.answers(corpus.ids)
    assert [lease.name for lease in client.list_leases(pool)] == []


def test_a_lease_that_ran_out_frees_its_samples_and_refuses_its_labels(client, corpus, pool):
    corpus.create(client, pool)
    batch = client.next_batch(pool, "ann", 3, ttl=SHORT)
    until_leased(client, pool, 0)
    assert client.get_lease(batch.lease).state == "expired"
    with pytest.raises(LeaseExpired) as caught:
        client.annotate(pool, corpus.answers(batch.ids), "ann", lease=batch.lease)
    assert caught.value.reason == "LEASE_EXPIRED"
    with pytest.raises(LeaseExpired):
        client.renew_lease(batch.lease)
    assert client.get_pool(pool).counts.labeled == 0
    # The way out that the error names: what nobody else holds by now can be submitted without the lease.
    taken = client.next_batch(pool, "bob", 1, where=attr("words") == int(batch.ids[0][1:]))
    assert taken.ids == batch.ids[:1]
    with pytest.raises(FailedPrecondition) as caught:
        client.annotate(pool, corpus.answers(batch.ids), "ann")
    assert caught.value.reason == "SAMPLE_LEASED"
    assert client.annotate(pool, corpus.answers(batch.ids[1:]), "ann").stored == 2


def test_a_renewed_lease_outlives_its_first_end(client, corpus, pool):
    corpus.create(client, pool)
    batch = client.next_batch(pool, "ann", 3, ttl=LONGER)
    renewed = client.renew_lease(batch.lease, timedelta(hours=1))
    assert renewed.expire_time - batch.lease.expire_time > timedelta(minutes=59)
    assert renewed.fencing_token == batch.lease.fencing_token
    ended = client.next_batch(pool, "bob", 2, ttl=LONGER)
    until_leased(client, pool, 3)
    assert datetime.now(UTC) > ended.lease.expire_time > batch.lease.expire_time
    assert client.get_lease(renewed).state == "live"
    assert client.annotate(pool, corpus.answers(batch.ids), "ann", lease=renewed).stored == 3


def test_released_samples_come_again_and_excluded_ones_never(client, corpus, pool):
    corpus.create(client, pool)
    batch = client.next_batch(pool, "ann", 6)
    unreadable, skipped, kept = batch.ids[:2], batch.ids[2:4], batch.ids[4:]
    released = client.release_lease(batch.lease, unreadable, "unreadable", exclude=True)
    assert sorted(released.sample_ids) == sorted(skipped + kept)
    client.release_lease(batch.lease, skipped, "no opinion")
    counts = client.get_pool(pool).counts
    assert (counts.excluded, counts.leased, counts.unlabeled) == (2, 2, len(corpus.ids) - 4)
    with pytest.raises(LeaseForeign):
        client.annotate(pool, corpus.answers(skipped), "ann", lease=batch.lease)
    rest = client.next_batch(pool, "bob", len(corpus.ids))
    assert set(rest.ids) == set(corpus.ids) - set(unreadable) - set(kept)
    states = {sample.id: sample.state for sample in client.list_samples(pool)}
    assert {states[sample_id] for sample_id in unreadable} == {"excluded"}
    client.release_lease(batch.lease)
    assert client.get_lease(batch.lease).state == "done"


def test_part_of_a_lease_may_be_submitted_at_a_time(client, corpus, pool):
    corpus.create(client, pool)
    batch = client.next_batch(pool, "ann", 5)
    first = client.annotate(pool, corpus.answers(batch.ids[:2]), "ann", lease=batch.lease)
    assert (first.stored, first.lease_remaining) == (2, 3)
    again = client.annotate(pool, corpus.answers(batch.ids[:3]), "ann", lease=batch.lease)
    assert (again.stored, again.unchanged, again.lease_remaining) == (1, 2, 2)
    other = {batch.ids[0]: next(name for name in CLASSES if name != corpus.answers(batch.ids)[batch.ids[0]])}
    with pytest.raises(AlreadyExists) as caught:
        client.annotate(pool, other, "ann")
    assert caught.value.reason == "ANNOTATION_EXISTS"
    assert client.annotate(pool, other, "ann", correct=True).stored == 1
    assert client.get_sample(pool, batch.ids[0]).label == other[batch.ids[0]]


def test_a_foreign_token_loses_nothing(client, corpus, pool):
    corpus.create(client, pool)
    mine, theirs = (client.next_batch(pool, worker, 3) for worker in ("ann", "bob"))
    before = client.get_pool(pool)
    answers = corpus.answers(mine.ids)
    forged = replace(mine.lease, fencing_token=theirs.lease.fencing_token)
    for lease, worker, labels in (
        (forged, "ann", answers),
        (mine.lease, "bob", answers),
        (mine.lease, "ann", corpus.answers([*mine.ids, theirs.ids[0]])),
    ):
        with pytest.raises(LeaseForeign) as caught:
            client.annotate(pool, labels, worker, lease=lease)
        assert caught.value.reason == "LEASE_FOREIGN"
    with pytest.raises(LeaseForeign):
        client.release_lease(forged)
    after = client.get_pool(pool)
    assert (after.counts, after.epoch) == (before.counts, before.epoch)
    assert client.annotate(pool, answers, "ann", lease=mine.lease).stored == 3


def test_a_request_sent_again_changes_nothing_and_gets_its_first_answer(client, corpus, pool):
    corpus.create(client, pool)
    first, again = (client.next_batch(pool, "ann", 4, request_id="batch") for _ in range(2))
    assert (again.lease, again.ids) == (first.lease, first.ids)
    answers = corpus.answers(first.ids)
    sent = [client.annotate(pool, answers, "ann", lease=first.lease, request_id="labels") for _ in range(2)]
    assert sent[0] == sent[1]
    assert sent[0].stored == 4
    with pytest.raises(InvalidArgument) as caught:
        client.annotate(pool, corpus.answers(corpus.ids[:1]), "ann", request_id="labels")
    assert caught.value.reason == "REQUEST_ID_REUSED"
    corpus.label(client, pool, corpus.ids[:20])
    started, same = (client.train_head(pool, request_id="train") for _ in range(2))
    assert same.name == started.name
    assert same.result(timeout=60) == started.result(timeout=60)
    assert len(list(client.list_models(pool))) == 1


def test_labels_leave_as_json_lines_and_as_parquet(client, corpus, pool, tmp_path):
    corpus.create(client, pool)
    batch = client.next_batch(pool, "ann", 8)
    client.annotate(pool, corpus.answers(batch.ids), "ann", lease=batch.lease)
    corpus.label(client, pool, [sample_id for sample_id in corpus.ids if sample_id not in batch.ids][:4], "bob")

    parquet = tmp_path / "labels.parquet"
    assert client.export_labels(pool, parquet, "parquet") == parquet.stat().st_size
    rows = pq.read_table(parquet).to_pylist()
    text = io.BytesIO()
    client.export_labels(pool, text)
    lines = [json.loads(line) for line in text.getvalue().splitlines()]
    listed = list(client.list_labels(pool))
    assert len(rows) == len(lines) == len(listed) == 12
    for row, line, label in zip(rows, lines, listed, strict=True):
        assert row.pop("time") == label.update_time
        assert datetime.fromisoformat(line.pop("time")) == label.update_time
        assert row == line
        assert row == {
            "sample_id": label.sample_id,
            "class_name": corpus.answers([label.sample_id])[label.sample_id],
            "class_index": int(corpus.classes_N[int(label.sample_id[1:])]),
            "worker": "ann" if label.sample_id in batch.ids else "bob",
            "annotations": 1,
            "agreement": 1.0,
            "confidence": 1.0,
            "decided_by": "latest",
            "uri": f"file:///corpus/{label.sample_id}.txt",
        }
    assert [label.lease for label in listed if label.sample_id in batch.ids] == [batch.lease.name] * 8
