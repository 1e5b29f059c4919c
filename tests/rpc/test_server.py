"""The main job over the wire, against the real core and adapters."""

import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from google.longrunning import operations_pb2
from grpc import StatusCode

from assay.server.rpc.convert.arrays import matrix_message, to_matrix
from assay.v1 import annotations_pb2, labeling_pb2, mining_pb2, models_pb2, pools_pb2, tasks_pb2, types_pb2
from tests.rpc.stubs import CLASSES, DIMENSION, POOL, batch, classes, embeddings, failure, said, stream


async def _label_some(stubs, batches=4, size=10):
    truth = classes(300)
    for seed in range(batches):
        got = await stubs.labeling.NextBatch(
            labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=size, seed=seed)
        )
        labels = said({pick.sample.id: CLASSES[truth[int(pick.sample.id[1:])]] for pick in got.picks})
        lease = got.lease
        await stubs.annotations.Annotate(
            annotations_pb2.AnnotateRequest(
                parent=POOL, worker="ann", annotations=labels, lease=lease.name, fencing_token=lease.fencing_token
            )
        )


async def test_from_samples_to_labels_to_a_head_to_better_picks(stubs):
    await stubs.create_pool()
    added = await stubs.fill(300)
    assert (added.added, added.skipped, added.replaced) == (300, 0, 0)
    await _label_some(stubs)
    operation = await stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL, activate=True))
    metadata = models_pb2.TrainHeadMetadata()
    assert operation.metadata.Unpack(metadata)
    assert (metadata.pool, operation.name.rpartition("/")[0]) == (POOL, f"{POOL}/operations")
    done = await stubs.done(operation)
    head = models_pb2.Model()
    assert done.response.Unpack(head)
    assert head.active
    assert head.head.labels == 40
    mined = await stubs.mining.Mine(mining_pb2.MineRequest(pool=POOL, size=5, predictions=2))
    assert [pick.rank for pick in mined.picks] == [1, 2, 3, 4, 5]
    assert mined.provenance.head == head.name
    assert all(len(pick.predictions) == 2 for pick in mined.picks)
    batch = await stubs.labeling.NextBatch(labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=5))
    assert [pick.sample.id for pick in batch.picks] == [pick.sample.id for pick in mined.picks]
    predicted = await stubs.models.Predict(
        models_pb2.PredictRequest(pool=POOL, embeddings=matrix_message(embeddings(300)[:50]))
    )
    guesses_N = to_matrix(predicted.probabilities, "probabilities").argmax(axis=1)
    assert np.mean(guesses_N == classes(300)[:50]) > 0.9
    pool = await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
    assert (pool.counts.labeled, pool.counts.leased, pool.counts.total) == (40, 5, 300)


async def test_scores_stream_in_chunks_with_their_provenance(stubs):
    await stubs.create_pool()
    probs_NC = np.random.default_rng(2).dirichlet(np.ones(len(CLASSES)), 300).astype(np.float32)
    messages = [stream(0)[0], batch(0, embeddings(300), predictions=matrix_message(probs_NC))]
    await stubs.pools.UploadSamples(iter(messages))
    plan = types_pb2.Plan(scores=[types_pb2.ScoreTerm(strategy="least_confidence")])
    request = mining_pb2.ScoreRequest(pool=POOL, plan=plan, chunk_size=120)
    chunks = [chunk async for chunk in stubs.mining.Score(request)]
    assert [len(chunk.ids) for chunk in chunks] == [120, 120, 60]
    assert [chunk.HasField("provenance") for chunk in chunks] == [True, False, False]
    scores_N = np.concatenate([to_matrix(chunk.scores, "scores") for chunk in chunks]).ravel()
    np.testing.assert_allclose(scores_N, 1 - probs_NC.max(axis=1), rtol=1e-5)


async def test_labels_are_exported_in_both_formats(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    await _label_some(stubs, batches=2)

    async def export(format_):
        request = labeling_pb2.ExportLabelsRequest(parent=POOL, format=format_)
        return b"".join([piece.chunk async for piece in stubs.labeling.ExportLabels(request)])

    lines = [json.loads(line) for line in (await export(labeling_pb2.EXPORT_FORMAT_JSON_LINES)).splitlines()]
    rows = pq.read_table(io.BytesIO(await export(labeling_pb2.EXPORT_FORMAT_PARQUET))).to_pylist()
    assert len(lines) == len(rows) == 20
    assert list(lines[0]) == [
        *("sample_id", "class_name", "class_index", "worker", "time"),
        *("annotations", "agreement", "confidence", "decided_by", "uri"),
    ]
    for line, row in zip(lines, rows, strict=True):
        assert row.pop("time").isoformat(timespec="microseconds").replace("+00:00", "Z") == line.pop("time")
        assert row == line
    assert all(line["class_index"] == classes(300)[int(line["sample_id"][1:])] for line in lines)


async def test_an_empty_pool_exports_an_empty_file(stubs):
    await stubs.create_pool()
    request = labeling_pb2.ExportLabelsRequest(parent=POOL, format=labeling_pb2.EXPORT_FORMAT_PARQUET)
    data = b"".join([piece.chunk async for piece in stubs.labeling.ExportLabels(request)])
    assert pq.read_table(io.BytesIO(data)).num_rows == 0


async def test_pages_of_samples_hold_each_once(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    seen, token = [], ""
    while True:
        page = await stubs.pools.ListSamples(pools_pb2.ListSamplesRequest(parent=POOL, page_size=70, page_token=token))
        seen += [sample.id for sample in page.samples]
        token = page.next_page_token
        if not token:
            break
    assert seen == [f"s{index}" for index in range(300)]


async def test_a_page_token_serves_its_own_request_only(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    page = await stubs.pools.ListSamples(pools_pb2.ListSamplesRequest(parent=POOL, page_size=70))
    other = pools_pb2.ListSamplesRequest(parent=POOL, page_token=page.next_page_token, include_payload=True)
    assert (await failure(stubs.pools.ListSamples(other)))[1] == "INVALID_PAGE_TOKEN"


async def test_a_failed_stream_says_what_is_stored(stubs):
    await stubs.create_pool()
    nan_ND = embeddings(300)[200:]
    nan_ND[3, 3] = np.nan
    messages = [*stream(200), batch(200, nan_ND)]
    code, reason, metadata, _ = await failure(stubs.pools.UploadSamples(iter(messages)))
    assert (code, reason, metadata["stored"]) == (StatusCode.INVALID_ARGUMENT, "NOT_FINITE", "200")
    pool = await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
    assert pool.counts.total == 200


async def test_a_failure_is_told_though_the_client_sends_no_more(stubs):
    await stubs.create_pool()
    call = stubs.pools.UploadSamples()
    await call.write(stream(0)[0])
    await call.write(batch(0, np.full((2, DIMENSION), np.inf, np.float32)))
    assert (await failure(call))[1] == "NOT_FINITE"


async def test_a_stream_sent_again_stores_nothing_twice(stubs):
    await stubs.create_pool()
    first = await stubs.fill(200, request_id="once")
    again = await stubs.fill(300, request_id="once")
    assert (first.added, again.added, again.replaced) == (200, 300, 0)
    pool = await stubs.pools.GetPool(pools_pb2.GetPoolRequest(name=POOL))
    assert pool.counts.total == 300


@pytest.mark.parametrize("messages", [[], stream(100)[1:], [stream(0)[0]] * 2])
async def test_streams_out_of_order_are_refused(stubs, messages):
    await stubs.create_pool()
    code, reason, metadata, _ = await failure(stubs.pools.UploadSamples(iter(messages)))
    assert (code, reason, metadata["stored"]) == (StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "0")


async def test_a_stream_of_no_samples_tells_the_epoch(stubs):
    pool = await stubs.create_pool()
    assert (await stubs.fill(0)).epoch == pool.epoch


async def test_a_repeated_request_gets_its_first_reply(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    request = labeling_pb2.NextBatchRequest(parent=POOL, worker="ann", size=5, request_id="r1")
    first, again = [await stubs.labeling.NextBatch(request) for _ in range(2)]
    for reply in (first, again):
        reply.ClearField("timings")  # of the first reply, those that were known when it was remembered
    assert first == again
    request.size = 6
    code, reason, _, _ = await failure(stubs.labeling.NextBatch(request))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")


async def test_errors_carry_reason_and_facts(stubs):
    code, reason, metadata, retry = await failure(stubs.pools.GetPool(pools_pb2.GetPoolRequest(name="pools/nope")))
    assert (code, reason, metadata, retry) == (StatusCode.NOT_FOUND, "POOL_NOT_FOUND", {"pool": "nope"}, None)


async def test_streaming_calls_fail_alike(stubs):
    chunks = stubs.mining.Score(mining_pb2.ScoreRequest(pool="pools/nope"))
    code, reason, _, _ = await failure(chunks.read())
    assert (code, reason) == (StatusCode.NOT_FOUND, "POOL_NOT_FOUND")


async def test_an_upload_that_is_no_model_changes_nothing(stubs):
    await stubs.create_pool()
    header = models_pb2.UploadBackboneHeader(parent=POOL, model_id="junk", size_bytes=6)
    messages = [models_pb2.UploadBackboneRequest(header=header), models_pb2.UploadBackboneRequest(chunk=b"notonx")]
    code, reason, _, _ = await failure(stubs.models.UploadBackbone(iter(messages)))
    assert (code, reason) == (StatusCode.INVALID_ARGUMENT, "MODEL_INVALID")
    listed = await stubs.models.ListModels(models_pb2.ListModelsRequest(parent=POOL))
    assert not listed.models


async def test_a_short_upload_is_refused(stubs):
    await stubs.create_pool()
    header = models_pb2.UploadBackboneHeader(parent=POOL, size_bytes=10)
    messages = [models_pb2.UploadBackboneRequest(header=header), models_pb2.UploadBackboneRequest(chunk=b"short")]
    assert (await failure(stubs.models.UploadBackbone(iter(messages))))[1] == "INVALID_ARGUMENT"


async def test_an_upload_without_a_pool_ends_though_chunks_are_missing(stubs):
    call = stubs.models.UploadBackbone()
    header = models_pb2.UploadBackboneHeader(parent="pools/nope", size_bytes=10)
    await call.write(models_pb2.UploadBackboneRequest(header=header))
    assert (await failure(call))[1] == "POOL_NOT_FOUND"


async def test_operations_are_listed_and_deleted(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    await _label_some(stubs, batches=2)
    operation = await stubs.done(await stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL)))
    listed = await stubs.operations.ListOperations(operations_pb2.ListOperationsRequest(name=POOL))
    assert [found.name for found in listed.operations] == [operation.name]
    await stubs.operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=operation.name))
    gone = stubs.operations.GetOperation(operations_pb2.GetOperationRequest(name=operation.name))
    assert (await failure(gone))[1] == "OPERATION_NOT_FOUND"


async def test_an_operation_that_fails_says_why(stubs):
    await stubs.create_pool()
    await stubs.fill(300)
    call = stubs.models.TrainHead(models_pb2.TrainHeadRequest(parent=POOL))
    assert (await failure(call))[1] == "TOO_FEW_CLASSES"


async def test_strategies_are_listed_in_pages(stubs):
    whole = await stubs.mining.ListStrategies(mining_pb2.ListStrategiesRequest())
    names = [strategy.name for strategy in whole.strategies]
    assert names == sorted(names)
    assert {"margin", "entropy", "k_center", "random"} <= set(names)
    first = await stubs.mining.ListStrategies(mining_pb2.ListStrategiesRequest(page_size=2))
    second = await stubs.mining.ListStrategies(
        mining_pb2.ListStrategiesRequest(page_size=1000, page_token=first.next_page_token)
    )
    assert [strategy.name for strategy in (*first.strategies, *second.strategies)] == names


async def test_presets_are_listed_in_pages(stubs):
    whole = await stubs.mining.ListPresets(mining_pb2.ListPresetsRequest())
    names = [preset.name for preset in whole.presets]
    assert names == sorted(names)
    assert {"margin", "margin_k_center"} <= set(names)
    found, largest = [], mining_pb2.ListPresetsRequest(page_size=7)
    while True:
        page = await stubs.mining.ListPresets(largest)
        found += page.presets
        if not page.next_page_token:
            break
        largest.page_token = page.next_page_token
    assert found == list(whole.presets)


async def test_presets_and_strategies_are_of_tasks(stubs):
    defaults = {"CLASSIFICATION": "margin", "MULTILABEL": "cover", "REGRESSION": "spread", "FREEFORM": "cover"}
    known = {
        each.name: each for each in (await stubs.mining.ListStrategies(mining_pb2.ListStrategiesRequest())).strategies
    }
    for word, default in defaults.items():
        task = tasks_pb2.TaskKind.Value(f"TASK_KIND_{word}")
        listed = (await stubs.mining.ListPresets(mining_pb2.ListPresetsRequest(task=task))).presets
        assert [preset.name for preset in listed if preset.is_default] == [default]
        assert {name for name, strategy in known.items() if task in strategy.tasks} == {
            preset.name for preset in listed if preset.name in known
        }
    assert list(known["label_cardinality"].tasks) == [tasks_pb2.TASK_KIND_MULTILABEL]
    assert list(known["member_std"].tasks) == [tasks_pb2.TASK_KIND_REGRESSION]
    assert len(known["k_center"].tasks) == len(tasks_pb2.TaskKind.values()) - 1
    wrong = stubs.mining.ListPresets(mining_pb2.ListPresetsRequest(task=99))  # type: ignore[arg-type]
    assert (await failure(wrong))[1] == "INVALID_ARGUMENT"
