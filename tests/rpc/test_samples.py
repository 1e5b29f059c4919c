"""One batch without a stream, names of samples, tasks of pools, and what the server says of itself."""

import grpc
import numpy as np
import pytest
from google.longrunning import operations_pb2

from assay.server.rpc.convert.arrays import matrix_message
from assay.v1 import annotations_pb2, labeling_pb2, models_pb2, pools_pb2, server_pb2, tasks_pb2
from tests.rpc.stubs import CLASSES, DIMENSION, POOL, Stubs, create_request, embeddings, failure, said


def request(ids, values_ND=None, **fields):
    """AddSamples of these ids."""
    values_ND = embeddings(len(ids)) if values_ND is None else values_ND
    batch = pools_pb2.SampleBatch(ids=ids, embeddings=matrix_message(values_ND))
    return pools_pb2.AddSamplesRequest(parent=POOL, batch=batch, **fields)


async def total(stubs):
    return (await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))).counts.total


async def test_one_batch_is_added_without_a_stream_once(stubs):
    await stubs.create_pool()
    first = await stubs.pools.AddSamples(request(["a", "b"], request_id="once"))
    assert (first.added, first.skipped, first.replaced) == (2, 0, 0)
    again = await stubs.pools.AddSamples(request(["a", "b"], request_id="once"))
    assert again == first
    assert await total(stubs) == 2
    other = await failure(stubs.pools.AddSamples(request(["a", "c"], request_id="once")))
    assert other[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    skipped = await stubs.pools.AddSamples(request(["b", "c"], on_conflict=pools_pb2.ON_CONFLICT_SKIP))
    assert (skipped.added, skipped.skipped) == (1, 1)


async def test_a_batch_is_refused_whole_by_row_and_id(stubs):
    await stubs.create_pool()
    bad_ND = embeddings(3)
    bad_ND[2, 1] = np.nan
    code, reason, metadata, _ = await failure(stubs.pools.AddSamples(request(["a", "b", "c"], bad_ND)))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "NOT_FINITE")
    assert (metadata["row"], metadata["id"]) == ("2", "c")
    await stubs.pools.AddSamples(request(["x"]))
    flat = await failure(stubs.pools.AddSamples(request(["a", "b"], np.ones((2, DIMENSION + 1), np.float32))))
    assert (flat[1], flat[2]["row"], flat[2]["id"]) == ("DIMENSION_MISMATCH", "0", "a")
    assert await total(stubs) == 1


@pytest.mark.parametrize("sample_id", ["a", "a/b", "pools/news/samples/a", "mit leer", "ünï", "-", "a//"])
async def test_a_sample_s_name_holds_its_id_as_it_is(stubs, sample_id):
    await stubs.create_pool()
    await stubs.pools.AddSamples(request([sample_id]))
    name = f"{POOL}/samples/{sample_id}"
    found = await stubs.pools.GetSample(pools_pb2.GetSampleRequest(name=name))
    assert (found.id, found.name) == (sample_id, name)
    batch = await stubs.labeling.NextBatch(labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=1))
    assert batch.picks[0].sample.name == name


@pytest.mark.parametrize("name", ["", "a", POOL, f"{POOL}/samples/", "samples/a", f"{POOL}/sample/a"])
async def test_what_is_no_sample_s_name_is_refused(stubs, name):
    await stubs.create_pool()
    call = stubs.pools.GetSample(pools_pb2.GetSampleRequest(name=name))
    assert (await failure(call))[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_NAME")


NAMED = [tasks_pb2.Class(name="a"), tasks_pb2.Class(name="b")]
TASKS = {
    "multilabel": tasks_pb2.MultilabelTask(classes=NAMED),
    "regression": tasks_pb2.RegressionTask(targets=[tasks_pb2.Target(name="rent", minimum=0)]),
    "boxes": tasks_pb2.BoxesTask(classes=NAMED),
    "spans": tasks_pb2.SpansTask(classes=NAMED),
    "freeform": tasks_pb2.FreeformTask(),
}


@pytest.mark.parametrize("kind", [field.name for field in tasks_pb2.Task.DESCRIPTOR.fields])
async def test_a_pool_may_have_any_task_and_tells_it(stubs, kind):
    task = tasks_pb2.Task(**{kind: TASKS.get(kind, tasks_pb2.ClassificationTask(classes=NAMED))})
    made = await stubs.pools.CreatePool(pools_pb2.CreatePoolRequest(pool_id="news", pool=pools_pb2.Pool(task=task)))
    assert made.task.WhichOneof("kind") == kind
    assert (await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))).task == made.task
    if kind == "regression":
        assert made.task.regression == TASKS["regression"]
    elif kind != "freeform":
        assert [each.name for each in getattr(made.task, kind).classes] == ["a", "b"]


async def test_a_pool_of_numbers_needs_their_names(stubs):
    task = tasks_pb2.Task(regression=tasks_pb2.RegressionTask())
    made = pools_pb2.CreatePoolRequest(pool_id="news", pool=pools_pb2.Pool(task=task))
    code, _, metadata, _ = await failure(stubs.pools.CreatePool(made))
    assert (code, metadata) == (grpc.StatusCode.INVALID_ARGUMENT, {"field": "targets"})
    assert not (await stubs.pools.ListPools(pools_pb2.ListPoolsRequest())).pools


async def test_classes_have_ids_in_the_order_in_which_they_came(stubs):
    pool = await stubs.create_pool()
    classes = pool.task.classification.classes
    assert [(each.id, each.name, each.retired) for each in classes] == [
        (number, name, False) for number, name in enumerate(CLASSES)
    ]
    assert not any(each.HasField("merged_into") for each in classes)


async def test_a_pool_is_created_by_what_is_not_output_only(stubs):
    pretended = create_request("news", metric=pools_pb2.METRIC_L2, dimension=3, epoch=7, name="pools/other")
    pool = await stubs.pools.CreatePool(pretended)
    assert (pool.name, pool.metric, pool.dimension, pool.discard_inputs) == (POOL, pools_pb2.METRIC_L2, 3, False)
    assert pool.epoch != 7


async def test_the_server_says_what_it_is_and_what_it_takes(start):
    bounds = {"max_message_bytes": 1 << 20, "max_batch_rows": 1000}
    async with start(**bounds) as server, grpc.aio.insecure_channel(server.address) as channel:
        stubs = Stubs(channel)
        info = await stubs.server.GetServerInfo(server_pb2.GetServerInfoRequest())
        await stubs.create_pool()
        rows = request([f"s{index}" for index in range(1001)])
        refused = await failure(stubs.pools.AddSamples(rows))
    assert info.version
    assert (info.limits.max_message_bytes, info.limits.max_batch_rows) == (1 << 20, 1000)
    assert refused[1] == "TOO_LARGE"
    assert list(info.tasks) == [kind for kind in tasks_pb2.TaskKind.values() if kind]
    assert info.strategies > 40
    assert info.presets > 40
    assert info.limits.max_lease.ToSeconds() == 7 * 86_400


async def test_an_operation_is_found_under_its_own_pool_only(stubs):
    await stubs.create_pool()
    await stubs.pools.CreatePool(create_request("other"))
    await stubs.fill(60)
    labels = said({f"s{i}": CLASSES[i % 3] for i in range(60)})
    await stubs.annotations.Annotate(annotations_pb2.AnnotateRequest(parent=POOL, worker="ann", annotations=labels))
    operation = await stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL))
    assert operation.name.startswith(f"{POOL}/operations/")
    elsewhere = operation.name.replace(POOL, "pools/other")
    get = stubs.operations.GetOperation(operations_pb2.GetOperationRequest(name=elsewhere))
    assert (await failure(get))[:2] == (grpc.StatusCode.NOT_FOUND, "OPERATION_NOT_FOUND")
    for name, count in ((POOL, 1), (f"{POOL}/operations", 1), ("pools/other", 0), ("pools/-", 1)):
        listed = await stubs.operations.ListOperations(operations_pb2.ListOperationsRequest(name=name))
        assert len(listed.operations) == count, name
    for wrong in ("", "operations", "pools/*"):
        call = stubs.operations.ListOperations(operations_pb2.ListOperationsRequest(name=wrong))
        assert (await failure(call))[1] == "INVALID_NAME"
    await stubs.done(operation)
