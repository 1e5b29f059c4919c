"""A repeated request gets its first reply to the byte, though little of it is remembered; a reply that could not be
sent takes no effect."""

import sqlite3

import grpc.aio
import pytest
from google.protobuf import duration_pb2

from assay.v1 import annotations_pb2, labeling_pb2, mining_pb2, models_pb2, pools_pb2, types_pb2
from tests.models.onnx_factory import linear_embedder
from tests.rpc.stubs import CLASSES, DIMENSION, POOL, Stubs, batch, create_request, embeddings, failure, said

PAYLOAD = 20_000
MIB = 1 << 20
COUNT = 40


def samples(first=0, count=COUNT):
    """Samples with all that a sample can have."""
    sent = batch(
        first,
        embeddings(count),
        uris=[f"s3://bucket/{index}" for index in range(count)],
        payloads=[bytes([index % 251]) * PAYLOAD for index in range(count)],
        payload_media_type="image/png",
    )
    sent.batch.attributes.add(name="lang").strings.values.extend(["de", "en"] * (count // 2))
    return sent


async def filled(stubs, count=COUNT, **header):
    await stubs.create_pool()
    given = [
        pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=POOL, **header)),
        samples(count=count),
    ]
    return await stubs.pools.UploadSamples(iter(given))


def plan(ids):
    """A plan with a filter by ids."""
    wanted = types_pb2.Filter(ids=types_pb2.Filter.Ids(ids=ids)) if ids else None
    return types_pb2.Plan(preset="random", filter=wanted)


def remembered(server_dir):
    """(method, bytes) of what is remembered."""
    with sqlite3.connect(server_dir / "data" / "catalog.db") as connection:
        return connection.execute("SELECT method, LENGTH(response) FROM requests").fetchall()


def every_mutation(stubs, tmp_path):
    """(name, call) of each mutation but those that end a pool, in an order in which they work."""
    model = open(linear_embedder(tmp_path / "m.onnx", 5, DIMENSION), "rb").read()  # noqa: SIM115

    def upload():
        header = models_pb2.UploadBackboneHeader(
            parent=POOL, model_id="backbone", size_bytes=len(model), request_id="upload"
        )
        chunk = models_pb2.UploadBackboneRequest(chunk=model)
        return stubs.models.UploadBackbone(iter([models_pb2.UploadBackboneRequest(header=header), chunk]))

    def add():
        header = pools_pb2.UploadSamplesHeader(parent=POOL, request_id="add")
        return stubs.pools.UploadSamples(iter([pools_pb2.UploadSamplesRequest(header=header), samples()]))

    def leased(**more):
        return lambda: stubs.labeling.NextBatch(
            labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=5, predictions=2, **more)
        )

    def submit():
        labels = said({f"s{i}": CLASSES[i % 2] for i in range(20, 30)})
        return stubs.annotations.Annotate(
            annotations_pb2.AnnotateRequest(parent=POOL, worker="bob", annotations=labels, request_id="annotate")
        )

    yield (
        "create",
        lambda: stubs.pools.CreatePool(create_request(pool_id="news", class_names=CLASSES, request_id="create")),
    )
    yield "add", add
    yield "upload", upload
    first = [f"s{i}" for i in range(20)]
    yield "batch", leased(request_id="batch", plan=plan(first))
    yield "bare batch", leased(request_id="bare", plan=plan(first), omit_payload=True)
    yield (
        "mine",
        lambda: stubs.mining.Mine(
            mining_pb2.MineRequest(pool=POOL, size=4, plan=plan(first), include_payload=True, request_id="mine")
        ),
    )
    yield (
        "dry run",
        lambda: stubs.mining.Mine(mining_pb2.MineRequest(pool=POOL, size=4, plan=plan([]), validate_only=True)),
    )
    yield "submit", submit
    yield (
        "train",
        lambda: stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL, activate=True, request_id="train")),
    )
    of_samples = {"parent": POOL, "worker": "ann", "sample_ids": ["s39"]}
    for action in ("EXCLUDE", "INCLUDE", "REOPEN"):
        state = annotations_pb2.SetSampleStateRequest(action=f"STATE_ACTION_{action}", request_id=action, **of_samples)
        yield action, lambda state=state: stubs.annotations.SetSampleState(state)
    skip = annotations_pb2.SkipSamplesRequest(reason="dark", request_id="skip", **of_samples)
    yield "skip", lambda: stubs.annotations.SkipSamples(skip)
    withdraw = annotations_pb2.WithdrawAnnotationsRequest(
        parent=POOL, worker="bob", sample_ids=["s21"], request_id="withdraw"
    )
    review = annotations_pb2.ReviewSamplesRequest(parent=POOL, worker="rita", request_id="review")
    review.reviews.add(sample_id="s39", retract=False, reject=True)
    yield "review", lambda: stubs.annotations.ReviewSamples(review)
    undo = annotations_pb2.UndoLastActionRequest(parent=POOL, worker="ann", request_id="undo")
    yield "undo", lambda: stubs.annotations.UndoLastAction(undo)
    yield "withdraw", lambda: stubs.annotations.WithdrawAnnotations(withdraw)
    yield (
        "delete samples",
        lambda: stubs.pools.DeleteSamples(
            pools_pb2.DeleteSamplesRequest(parent=POOL, ids=["s38"], request_id="delete")
        ),
    )
    yield "default batch", leased(request_id="default")
    yield (
        "delete model",
        lambda: stubs.models.DeleteModel(
            models_pb2.DeleteModelRequest(name=f"{POOL}/models/backbone", request_id="delete-model")
        ),
    )


async def test_every_reply_is_given_again_to_the_byte(start, tmp_path):
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs, first = Stubs(channel), {}
        calls = list(every_mutation(stubs, tmp_path))
        for name, call in calls:
            first[name] = await call()
            if name == "train":
                await stubs.done(first[name])
            if name == "batch":
                calls += list(of_lease(stubs, first[name].lease))
                for more, renewal in of_lease(stubs, first[name].lease):
                    first[more] = await renewal()
        assert len(first["batch"].picks[0].sample.payload) == PAYLOAD
        assert first["batch"].lease.sample_ids
        assert first["default batch"].plan.preset == "margin"
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        again = dict(every_mutation(stubs, tmp_path)) | dict(of_lease(stubs, first["batch"].lease))
        assert again.keys() == first.keys()
        for name, call in again.items():
            if name != "dry run":
                assert (await call()).SerializeToString(deterministic=True) == first[name].SerializeToString(
                    deterministic=True
                ), name
        delete = pools_pb2.DeletePoolRequest(name=POOL, request_id="end")
        assert await stubs.pools.DeletePool(delete) == await stubs.pools.DeletePool(delete)


def of_lease(stubs, lease):
    """Mutations of a lease."""
    held = {"name": lease.name, "fencing_token": lease.fencing_token}
    yield (
        "renew",
        lambda: stubs.labeling.RenewLease(
            labeling_pb2.RenewLeaseRequest(**held, ttl=duration_pb2.Duration(seconds=600), request_id="renew")
        ),
    )
    yield (
        "release",
        lambda: stubs.labeling.ReleaseLease(
            labeling_pb2.ReleaseLeaseRequest(**held, sample_ids=lease.sample_ids[:1], request_id="release")
        ),
    )


async def test_what_is_remembered_is_small(start, tmp_path):
    """Fifty batches of ten samples of 20 kB are 10 MB of replies, and a filter by 100,000 ids is 700 kB of plan."""
    many = [f"s{index}" for index in range(100_000)]
    async with start() as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        await filled(stubs, 200)
        for number in range(50):
            request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=4, request_id=f"r{number}")
            if number == 0:
                request.plan.CopyFrom(plan(many))
            reply = await stubs.labeling.NextBatch(request)
            assert len(reply.picks) == 4
        mined = mining_pb2.MineRequest(pool=POOL, size=100, include_payload=True, plan=plan([]), request_id="mine")
        await stubs.labeling.ReleaseLease(
            labeling_pb2.ReleaseLeaseRequest(name=reply.lease.name, fencing_token=reply.lease.fencing_token)
        )
        mined.size = 4
        await stubs.mining.Mine(mined)
        sizes = remembered(tmp_path)
    assert len(sizes) == 51
    assert max(size for _, size in sizes) < 2000, sizes


async def test_content_that_was_deleted_since_is_not_given_again(stubs):
    await filled(stubs)
    request = mining_pb2.MineRequest(pool=POOL, size=3, include_payload=True, plan=plan([]), request_id="mine")
    first = await stubs.mining.Mine(request)
    gone = first.picks[1].sample.id
    await stubs.pools.DeleteSamples(pools_pb2.DeleteSamplesRequest(parent=POOL, ids=[gone]))
    again = await stubs.mining.Mine(request)
    assert [pick.sample.id for pick in again.picks] == [pick.sample.id for pick in first.picks]
    assert [len(pick.sample.payload) for pick in again.picks] == [PAYLOAD, 0, PAYLOAD]
    assert again.picks[1].score == first.picks[1].score
    assert again.picks[1].sample.uri == ""


@pytest.mark.parametrize("request_id", ["", "r"])
async def test_a_reply_that_could_not_be_sent_takes_no_effect(start, request_id):
    async with start(max_message_bytes=MIB) as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        await filled(stubs)
        for first in range(COUNT, 3 * COUNT, COUNT):
            header = pools_pb2.UploadSamplesRequest(header=pools_pb2.UploadSamplesHeader(parent=POOL))
            await stubs.pools.UploadSamples(iter([header, samples(first)]))
        large = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=60, plan=plan([]), request_id=request_id)
        mined = mining_pb2.MineRequest(pool=POOL, size=60, plan=plan([]), include_payload=True, request_id=request_id)
        for call in (lambda: stubs.labeling.NextBatch(large), lambda: stubs.mining.Mine(mined)) * 2:
            code, reason, metadata, _ = await failure(call())
            assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "TOO_LARGE")
            assert int(metadata["bytes"]) > int(metadata["most"]) == MIB
        pool = await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
        assert (pool.counts.leased, pool.counts.unlabeled) == (0, 3 * COUNT)
        large.omit_payload = True
        large.request_id = "smaller"
        assert len((await stubs.labeling.NextBatch(large)).picks) == 60
