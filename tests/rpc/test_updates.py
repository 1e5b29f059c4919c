"""UpdatePool and UpdateSamples on the wire: what a mask names changes, and nothing else."""

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from assay.v1 import pools_pb2, tasks_pb2, types_pb2
from tests.rpc.stubs import CLASSES, POOL, failure

Class = tasks_pb2.Class
EDITED = [Class(id=2, name="c"), Class(name="d"), Class(id=0, name="A"), Class(id=1, name="b", merged_into=2)]


def update(*paths, request_id="", classes=None, **fields):
    task = None if classes is None else tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes))
    pool = pools_pb2.Pool(name=POOL, task=task, **fields)
    return pools_pb2.UpdatePoolRequest(pool=pool, update_mask=FieldMask(paths=paths), request_id=request_id)


def shown(pool):
    return [(each.id, each.name, each.retired) for each in pool.task.classification.classes]


async def test_what_is_set_is_updated_and_comes_back_alike(stubs):
    await stubs.create_pool()
    request = update(request_id="once", classes=EDITED, metadata={"team": "birds"})
    first = await stubs.pools.UpdatePool(request)
    assert shown(first) == [(2, "c", False), (3, "d", False), (0, "A", False), (1, "b", True)]
    assert first.metadata == {"team": "birds"}
    assert (first.annotations_per_sample, first.policy) == (1, pools_pb2.LABEL_POLICY_LATEST)
    await stubs.pools.UpdatePool(update("metadata"))
    assert await stubs.pools.UpdatePool(request) == first, "a repeated request gets its first reply"
    assert not (await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))).metadata


async def test_a_mask_keeps_to_what_it_names(stubs):
    await stubs.create_pool()
    fields = {"annotations_per_sample": 3, "policy": pools_pb2.LABEL_POLICY_MAJORITY, "metadata": {"a": "b"}}
    pool = await stubs.pools.UpdatePool(update("policy", "annotations_per_sample", **fields))
    assert (pool.annotations_per_sample, pool.policy) == (3, pools_pb2.LABEL_POLICY_MAJORITY)
    assert not pool.metadata
    pool = await stubs.pools.UpdatePool(update("*", classes=[Class(id=i, name=n) for i, n in enumerate(CLASSES)]))
    assert (pool.annotations_per_sample, pool.policy) == (1, pools_pb2.LABEL_POLICY_LATEST), (
        "* names what is unset, too"
    )


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (update("metric"), "INVALID_ARGUMENT"),
        (update("counts", metadata={"a": "b"}), "INVALID_ARGUMENT"),
        (update(), "INVALID_ARGUMENT"),
        (update("task"), "INVALID_ARGUMENT"),
        (update(policy=99), "INVALID_ARGUMENT"),
        (update(annotations_per_sample=-1), "INVALID_ARGUMENT"),
        (update(policy=pools_pb2.LABEL_POLICY_MAJORITY), "POLICY_INFEASIBLE"),
        (update(classes=[Class(id=0, name="a")]), "INVALID_TASK"),
        (update(classes=[*EDITED, Class(id=7, name="e")]), "UNKNOWN_CLASS"),
    ],
)
async def test_what_cannot_be_updated_is_refused(stubs, request_, reason):
    await stubs.create_pool()
    before = await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
    code, told, _, _ = await failure(stubs.pools.UpdatePool(request_))
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
    assert await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL)) == before


async def test_a_pool_that_is_not_there_is_not_updated(stubs):
    code, told, _, _ = await failure(stubs.pools.UpdatePool(update(metadata={"a": "b"})))
    assert (code, told) == (grpc.StatusCode.NOT_FOUND, "POOL_NOT_FOUND")


def update_samples(*paths, ids=("s1", "s0"), **columns):
    batch = pools_pb2.SampleBatch(ids=ids, **columns)
    return pools_pb2.UpdateSamplesRequest(
        parent=POOL, batch=batch, update_mask=FieldMask(paths=paths), request_id="once"
    )


def texts(name, *values):
    return pools_pb2.AttributeColumn(name=name, strings=pools_pb2.StringColumn(values=values))


async def test_a_mask_of_samples_takes_away_what_the_batch_does_not_give(stubs):
    await stubs.create_pool()
    await stubs.fill(100)
    before = await stubs.pools.GetSample(pools_pb2.GetSampleRequest(name=f"{POOL}/samples/s1"))
    request = update_samples("attributes", "payloads", attributes=[texts("tag", "x", "y")], uris=["u:1", "u:0"])
    first = await stubs.pools.UpdateSamples(request)
    assert first.updated == 2
    after = await stubs.pools.GetSample(pools_pb2.GetSampleRequest(name=f"{POOL}/samples/s1"))
    assert after.payload == b""
    assert after.uri == before.uri, "the mask does not name it"
    assert {name: each.string_value for name, each in after.attributes.items()} == {"tag": "x"}
    assert (after.row, after.state) == (before.row, before.state)
    assert await stubs.pools.UpdateSamples(request) == first, "a repeated request gets its first reply"


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (update_samples(), "INVALID_ARGUMENT"),
        (update_samples("labels", uris=["u:1", "u:0"]), "INVALID_ARGUMENT"),
        (update_samples(uris=["u:1"]), "INVALID_ARGUMENT"),
        (update_samples(labels=[types_pb2.Value(class_name=name) for name in "ab"]), "INVALID_ARGUMENT"),
        (update_samples("attributes.nothing"), "UNKNOWN_ATTRIBUTE"),
        (update_samples(ids=["s1", "s1"], uris=["u:1", "u:0"]), "DUPLICATE_ID"),
        (update_samples(ids=[], attributes=[texts("tag")]), "INVALID_ARGUMENT"),
    ],
)
async def test_what_cannot_be_updated_of_samples_is_refused(stubs, request_, reason):
    await stubs.create_pool()
    await stubs.fill(100)
    code, told, _, _ = await failure(stubs.pools.UpdateSamples(request_))
    assert (code, told) == (grpc.StatusCode.INVALID_ARGUMENT, reason)
