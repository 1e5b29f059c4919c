"""Both clients against scripted answers: what they send, when they try again, and what they make of errors."""

import asyncio
import inspect
import io
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from google.longrunning import operations_proto_pb2 as operations_pb2
from google.protobuf import empty_pb2
from grpc_health.v1 import health_pb2

from assay.client import AsyncClient, Classification, Client, Lease, RetryPolicy, SampleBatch, errors
from assay.client._arrays import matrix
from assay.v1 import labeling_pb2, mining_pb2, models_pb2, pools_pb2, tasks_pb2, types_pb2
from tests.client.scripted import Answer, Refusal, Script, scripted

QUICK = RetryPolicy(attempts=4, initial=0.001)
GONE = Refusal(grpc.StatusCode.UNAVAILABLE)
Use = Callable[[Any], Any]
Run = Callable[..., Any]


def blocking(script: Script, use: Use, **options: Any) -> Any:
    with Client(script.target, **{"retry": QUICK, **options}) as client:
        result = use(client)
        return list(result) if inspect.isgenerator(result) else result


def on_loop(script: Script, use: Use, **options: Any) -> Any:
    async def main() -> Any:
        async with AsyncClient(script.target, **{"retry": QUICK, **options}) as client:
            result = use(client)
            return [item async for item in result] if inspect.isasyncgen(result) else await result

    return asyncio.run(main())


@pytest.fixture(params=[blocking, on_loop], ids=["Client", "AsyncClient"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a use of a client against a script, and returns its result."""
    return request.param


def test_a_reply_becomes_a_result(run: Run) -> None:
    classes = [tasks_pb2.Class(id=1, name="b"), tasks_pb2.Class(id=0, name="a")]
    task = tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes))
    reply = pools_pb2.Pool(name="pools/news", metric=pools_pb2.METRIC_L2, task=task)
    with scripted(CreatePool=[reply]) as script:
        pool = run(script, lambda client: client.create_pool("news", task=Classification(["a", "b"]), metric="l2"))
    assert (pool.id, pool.metric, pool.class_names, pool.active_head) == ("news", "l2", ("a", "b"), None)
    request = script.seen[0].request
    assert request.pool.metric == pools_pb2.METRIC_L2
    assert [each.name for each in request.pool.task.classification.classes] == ["a", "b"]
    assert request.request_id


def test_a_change_is_tried_again_under_one_request_id(run: Run) -> None:
    with scripted(CreatePool=[GONE, GONE, pools_pb2.Pool(name="pools/p")]) as script:
        assert run(script, lambda client: client.create_pool("p")).id == "p"
    assert len(script.seen) == 3
    assert len({seen.request.request_id for seen in script.seen}) == 1


def test_two_calls_have_two_request_ids(run: Run) -> None:
    with scripted(DeletePool=[empty_pb2.Empty()]) as script:
        assert run(script, lambda client: client.delete_pool("p")) is None
        run(script, lambda client: client.delete_pool("p"))
    first, second = (seen.request.request_id for seen in script.seen)
    assert first != second


def test_tries_come_to_an_end(run: Run) -> None:
    with scripted(GetPool=[GONE]) as script, pytest.raises(errors.Unavailable):
        run(script, lambda client: client.get_pool("p"))
    assert len(script.seen) == 4


def test_refusals_are_not_tried_again(run: Run) -> None:
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "late", "LEASE_EXPIRED", {"lease": "x"})
    with scripted(Annotate=[refusal]) as script, pytest.raises(errors.LeaseExpired) as caught:
        run(script, lambda client: client.annotate("p", {"a": "x"}, "ann", lease=Lease("pools/p/leases/1", 7)))
    assert caught.value.metadata == {"lease": "x"}
    (seen,) = script.seen
    assert (seen.request.lease, seen.request.fencing_token, seen.request.worker) == ("pools/p/leases/1", 7, "ann")


def test_a_busy_server_is_given_the_time_it_asks_for(run: Run) -> None:
    busy = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="BUSY", retry_after=timedelta(milliseconds=20))
    with scripted(Mine=[busy, mining_pb2.MineResponse()]) as script:
        assert run(script, lambda client: client.mine("p", 3)).picks == ()
    assert len(script.seen) == 2


def test_a_wait_beyond_the_deadline_is_not_begun(run: Run) -> None:
    busy = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, reason="BUSY", retry_after=timedelta(hours=1))
    with scripted(Mine=[busy]) as script, pytest.raises(errors.ResourceExhausted):
        run(script, lambda client: client.mine("p", 3))
    assert len(script.seen) == 1


def test_deadlines_reach_the_server(run: Run) -> None:
    with scripted(GetPool=[pools_pb2.Pool()]) as script:
        run(script, lambda client: client.get_pool("p"))
        run(script, lambda client: client.with_timeout(500).get_pool("p"))
        run(script, lambda client: client.get_pool("p"), timeout=None)
    default, longer, none = (seen.time_remaining for seen in script.seen)
    assert default is not None
    assert longer is not None
    assert 0 < default < 60 < longer < 600
    assert none is None or none > 1e6


def test_the_api_key_travels_with_every_call(run: Run) -> None:
    with scripted(GetPool=[pools_pb2.Pool()]) as script:
        run(script, lambda client: client.get_pool("p"), api_key="s3cret")
    assert script.seen[0].metadata["authorization"] == "Bearer s3cret"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_an_api_key_is_not_sent_in_the_clear(kind: type) -> None:
    with pytest.raises(ValueError, match="in the clear"):
        kind("assay.example:443", api_key="s3cret")


def test_pages_are_fetched_until_the_last(run: Run) -> None:
    pages: list[Answer] = [
        pools_pb2.ListSamplesResponse(samples=[{"id": "a"}, {"id": "b"}], next_page_token="2"),
        GONE,
        pools_pb2.ListSamplesResponse(samples=[{"id": "c"}]),
    ]
    with scripted(ListSamples=pages) as script:
        samples = run(script, lambda client: client.list_samples("p", states=["labeled"]))
    assert [sample.id for sample in samples] == ["a", "b", "c"]
    assert [seen.request.page_token for seen in script.seen] == ["", "2", "2"]
    assert all(list(seen.request.states) == [types_pb2.SAMPLE_STATE_LABELED] for seen in script.seen)


def test_score_chunks_are_joined(run: Run) -> None:
    chunks = [
        mining_pb2.ScoreResponse(
            ids=["a", "b"], scores=matrix(np.array([[1.0], [2.0]], np.float32)), provenance={"epoch": 9}
        ),
        mining_pb2.ScoreResponse(ids=["c"], scores=matrix(np.array([[3.0]], np.float32))),
    ]
    with scripted(Score=[GONE, chunks]) as script:
        result = run(script, lambda client: client.score("p", "entropy"))
    assert (result.ids, result.scores_N.tolist(), result.provenance.epoch) == (["a", "b", "c"], [1, 2, 3], 9)
    assert script.seen[0].request.plan.preset == "entropy"


def test_an_export_takes_its_name_when_complete(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b"old")
    chunks = [labeling_pb2.ExportLabelsResponse(chunk=b"{}\n"), labeling_pb2.ExportLabelsResponse(chunk=b"[]\n")]
    denied = Refusal(grpc.StatusCode.NOT_FOUND, reason="POOL_NOT_FOUND")
    with scripted(ExportLabels=[denied, chunks]) as script:
        with pytest.raises(errors.NotFound):
            run(script, lambda client: client.export_labels("p", path))
        assert path.read_bytes() == b"old"
        assert run(script, lambda client: client.export_labels("p", path, "parquet")) == 6
    assert path.read_bytes() == b"{}\n[]\n"
    assert list(tmp_path.iterdir()) == [path]
    assert script.seen[1].request.format == labeling_pb2.EXPORT_FORMAT_PARQUET


def test_an_export_into_an_open_file_is_not_begun_twice(run: Run) -> None:
    file = io.BytesIO()
    with scripted(ExportLabels=[GONE]) as script, pytest.raises(errors.Unavailable):
        run(script, lambda client: client.export_labels("p", file))
    assert len(script.seen) == 1


def test_ingest_is_sent_again_as_it_was(run: Run) -> None:
    done = pools_pb2.AddSamplesResponse(added=3, epoch=4)
    with scripted(UploadSamples=[GONE, done]) as script:
        result = run(
            script, lambda client: client.add_samples("p", ["a", "b", "c"], embeddings=np.eye(3), batch_size=2)
        )
    assert (result.added, result.epoch) == (3, 4)
    first, second = script.seen
    assert len(first.requests) == 3
    assert first.requests == second.requests


def test_a_generator_is_not_sent_again(run: Run) -> None:
    def source() -> Iterator[SampleBatch]:
        yield SampleBatch(["a"], np.eye(1))

    with scripted(UploadSamples=[GONE]) as script, pytest.raises(errors.Unavailable):
        run(script, lambda client: client.add_batches("p", source()))
    assert len(script.seen) == 1


def test_a_failed_ingest_says_what_is_stored(run: Run) -> None:
    refusal = Refusal(grpc.StatusCode.ALREADY_EXISTS, "b is there", "SAMPLE_EXISTS", {"stored": "2"})
    with scripted(UploadSamples=[refusal]) as script, pytest.raises(errors.AlreadyExists) as caught:
        run(script, lambda client: client.add_samples("p", ["a", "b"], embeddings=np.eye(2)))
    assert caught.value.stored == 2


def test_a_source_that_fails_ends_the_call_with_its_own_error(run: Run) -> None:
    def source() -> Iterator[SampleBatch]:
        yield SampleBatch(["a"], np.eye(1))
        raise OSError("disk is gone")

    with (
        scripted(UploadSamples=[pools_pb2.AddSamplesResponse(added=1)]) as script,
        pytest.raises(OSError, match="disk"),
    ):
        run(script, lambda client: client.add_batches("p", source()))


@pytest.mark.parametrize("as_path", [True, False])
def test_a_backbone_is_uploaded_in_chunks(run: Run, tmp_path: Path, as_path: bool) -> None:
    data = bytes(range(256)) * 10_000
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    heard: list[tuple[int, int]] = []
    reply = models_pb2.Model(name="pools/p/models/m", kind=models_pb2.MODEL_KIND_BACKBONE, backbone={"dimension": 3})
    with scripted(UploadBackbone=[reply]) as script:
        model = run(
            script,
            lambda client: client.upload_backbone(
                "p", path if as_path else data, pooling="mean", progress=lambda *seen: heard.append(seen)
            ),
        )
    assert (model.id, model.kind, model.backbone.dimension, model.head) == ("m", "backbone", 3, None)
    header, *chunks = script.seen[0].requests
    assert b"".join(chunk.chunk for chunk in chunks) == data
    assert (header.header.size_bytes, header.header.pooling) == (len(data), models_pb2.POOLING_MEAN)
    assert len(header.header.sha256) == 64
    assert heard[-1] == (len(data), len(data))


def test_health(run: Run) -> None:
    reply = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.NOT_SERVING)
    with scripted(Check=[reply]) as script:
        assert run(script, lambda client: client.health()) == "NOT_SERVING"


def test_no_server_is_unavailable(run: Run) -> None:
    gone = Script({})
    with scripted() as script:
        gone.target = script.target
    with pytest.raises(errors.Unavailable):
        run(gone, lambda client: client.get_pool("p"))


def running(done: int) -> operations_pb2.Operation:
    operation = operations_pb2.Operation(name="pools/news/operations/1")
    progress = types_pb2.OperationProgress(stage="train", done=done, total=10)
    operation.metadata.Pack(models_pb2.TrainHeadMetadata(progress=progress, pool="pools/p"))
    return operation


def finished() -> operations_pb2.Operation:
    operation = running(10)
    operation.done = True
    operation.response.Pack(models_pb2.Model(name="pools/p/models/h", head={"labels": 40}))
    return operation


def failed(refusal: Refusal) -> operations_pb2.Operation:
    operation = running(3)
    operation.done = True
    operation.error.CopyFrom(refusal.status())
    return operation


async def settle(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def trained(client: Any, **waiting: Any) -> Any:
    """Train a head with either client and wait for it."""
    operation = await settle(client.train_head("p", seed=3))
    return await settle(operation.result(**waiting))


@pytest.fixture(params=[Client, AsyncClient])
def kind(request: pytest.FixtureRequest) -> Any:
    """Either client."""
    return request.param


async def test_an_operation_is_waited_for(kind: Any) -> None:
    heard: list[int] = []
    answers = {"TrainHead": [running(0)], "WaitOperation": [running(4), GONE, finished()]}
    with scripted(**answers) as script:
        model = await trained(kind(script.target, retry=QUICK), progress=lambda seen: heard.append(seen.done))
    assert (model.name, model.head.labels) == ("pools/p/models/h", 40)
    assert heard == [4, 10]
    assert not script.seen[0].request.HasField("l2")
    assert script.seen[1].request.timeout.ToTimedelta() > timedelta(0)


async def test_an_operation_that_fails_raises_its_error(kind: Any) -> None:
    refusal = Refusal(grpc.StatusCode.FAILED_PRECONDITION, "label more", "TOO_FEW_CLASSES")
    with scripted(TrainHead=[failed(refusal)]) as script, pytest.raises(errors.FailedPrecondition) as caught:
        await trained(kind(script.target))
    assert caught.value.reason == "TOO_FEW_CLASSES"


async def test_an_operation_that_was_cancelled_raises_cancelled(kind: Any) -> None:
    cancelled = failed(Refusal(grpc.StatusCode.CANCELLED, reason="CANCELLED"))
    with scripted(TrainHead=[running(1)], CancelOperation=[empty_pb2.Empty()], GetOperation=[cancelled]) as script:
        client = kind(script.target)
        operation = await settle(client.train_head("p"))
        await settle(operation.cancel())
        assert await settle(operation.done())
        with pytest.raises(errors.Cancelled):
            await settle(operation.result())


async def test_a_wait_that_is_too_short_says_so(kind: Any) -> None:
    with scripted(TrainHead=[running(0)]) as script, pytest.raises(errors.DeadlineExceeded, match="still runs"):
        await trained(kind(script.target), timeout=0)


async def test_an_operation_is_found_again(kind: Any) -> None:
    with scripted(GetOperation=[running(5), running(6)]) as script:
        operation = await settle(kind(script.target).get_operation("pools/news/operations/1"))
        assert operation.last_progress.done == 5
        progress = await settle(operation.progress())
    assert (progress.stage, progress.done, progress.total, progress.eta) == ("train", 6, 10, None)
    assert (progress.kind, progress.pool) == ("train_head", "pools/p")


def test_operations_are_listed(run: Run) -> None:
    with scripted(
        ListOperations=[operations_pb2.ListOperationsResponse(operations=[running(1), finished()])]
    ) as script:
        listed = run(script, lambda client: client.list_operations())
    assert [operation.name for operation in listed] == ["pools/news/operations/1", "pools/news/operations/1"]
