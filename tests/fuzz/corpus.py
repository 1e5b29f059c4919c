"""Good requests of every RPC: what the mutations start from."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import numpy as np
from google.longrunning import operations_pb2
from google.protobuf import duration_pb2, field_mask_pb2, struct_pb2
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from assay.v1 import (
    annotations_pb2,
    audits_pb2,
    changes_pb2,
    labeling_pb2,
    mining_pb2,
    models_pb2,
    pools_pb2,
    predictions_pb2,
    server_pb2,
    tasks_pb2,
    types_pb2,
)
from tests.e2e.wire import matrix
from tests.fuzz.world import CLASSES, DIMENSION, FEATURES, SAMPLES, World

PRESETS = (
    "", "random", "margin", "entropy", "k_center", "margin_k_center", "badge", "typiclust", "max_herding", "u_herding",
    "seals_margin", "kmeans_pp", "cluster_margin", "facility_location", "log_det", "graph_cut", "information_density",
    "dedup", "top",
)  # fmt: skip
Requests = list[Message]
Maker = Callable[[Random, World], Requests]


def _ids(rng: Random, most: int = 6) -> list[str]:
    return [f"s{number}" for number in rng.sample(range(SAMPLES), rng.randrange(1, most))]


def _request_id(rng: Random) -> str:
    return rng.choice(("", "", f"r{rng.randrange(1000)}"))


def _matrix(rng: Random, rows: int, cols: int = DIMENSION) -> types_pb2.Matrix:
    return matrix(np.random.default_rng(rng.randrange(1 << 30)).normal(size=(rows, cols)))


def _filter(rng: Random, depth: int = 2) -> types_pb2.Filter:
    Filter, value = types_pb2.Filter, types_pb2.AttributeValue
    kind = rng.randrange(6 if depth else 3)
    if kind == 0:
        operand = value(int64_value=rng.randrange(SAMPLES))
        return Filter(compare=Filter.Comparison(attribute="n", op=rng.randrange(1, 7), value=operand))
    if kind == 1:
        return Filter(one_of=Filter.Membership(attribute="lang", values=[value(string_value="en")]))
    if kind == 2:
        return Filter(ids=Filter.Ids(ids=_ids(rng)))
    if kind == 3:
        return Filter(negation=_filter(rng, depth - 1))
    both = Filter.Conditions(filters=[_filter(rng, depth - 1), _filter(rng, depth - 1)])
    return Filter(all_of=both) if kind == 4 else Filter(any_of=both)


def _plan(rng: Random) -> types_pb2.Plan:
    if rng.random() < 0.4:
        return types_pb2.Plan(preset=rng.choice(PRESETS))
    params = struct_pb2.Struct()
    if rng.random() < 0.3:
        params.update({"neighbors": 3})
    plan = types_pb2.Plan(
        scores=[
            types_pb2.ScoreTerm(strategy=name)
            for name in rng.sample(("margin", "entropy", "ratio"), rng.randrange(1, 3))
        ],
        select=types_pb2.SelectTerm(strategy=rng.choice(("top", "k_center", "badge", "typiclust")), params=params),
        exploration=rng.choice((0.0, 0.2)),
        near_duplicate_radius=rng.choice((0.0, 0.1)),
        draw_from=rng.choice((0, 0, 1, 2, 3, 4)),
        overlap_share=rng.choice((0.0, 0.0, 0.1)),
        prediction_source=rng.choice(("",) * 8 + ("mine", "head")),
    )
    if rng.random() < 0.4:
        plan.shortlist.CopyFrom(rng.choice((
            types_pb2.Shortlist(size=50),
            types_pb2.Shortlist(per_pick=5),
            types_pb2.Shortlist(seals=types_pb2.Shortlist.Seals(neighbors=5)),
        )))  # fmt: skip
    if rng.random() < 0.3:
        plan.stochastic.kind = rng.randrange(1, 4)
    if rng.random() < 0.3:
        quota = types_pb2.Quota(value=types_pb2.AttributeValue(string_value="en"), minimum=1, target=0.5)
        plan.quotas.CopyFrom(types_pb2.Quotas(attribute="lang", quotas=[quota]))
    return plan


def _batch(rng: Random, world: World) -> pools_pb2.SampleBatch:
    count = rng.randrange(1, 5)
    ids = [f"f{rng.randrange(2000)}-{index}" for index in range(count)]
    batch = pools_pb2.SampleBatch(
        ids=ids,
        embeddings=_matrix(rng, count),
        uris=[f"file:///{sample_id}" for sample_id in ids],
        payloads=[sample_id.encode() for sample_id in ids],
        payload_media_type="text/plain",
        attributes=[
            pools_pb2.AttributeColumn(name="n", int64s=pools_pb2.Int64Column(values=range(count))),
            pools_pb2.AttributeColumn(name="lang", strings=pools_pb2.StringColumn(values=["en"] * count)),
        ],
    )
    if rng.random() < 0.3:
        batch.labels.extend(_value(rng) for _ in ids)
    return batch


def _add(rng: Random, world: World) -> Requests:
    return [
        pools_pb2.AddSamplesRequest(
            parent=world.pool(rng),
            batch=_batch(rng, world),
            on_conflict=rng.randrange(4),
            request_id=_request_id(rng),
        )
    ]


def _update_samples(rng: Random, world: World) -> Requests:
    batch = _batch(rng, world)
    for field in ("embeddings", "inputs", "labels", "predictions"):
        if rng.random() < 0.9:
            batch.ClearField(field)  # type: ignore[arg-type]
    paths = rng.sample(("uris", "payloads", "attributes", "attributes.lang", "attributes.none"), rng.randrange(3))
    mask = field_mask_pb2.FieldMask(paths=paths)
    return [
        pools_pb2.UpdateSamplesRequest(
            parent=world.pool(rng), batch=batch, update_mask=mask, request_id=_request_id(rng)
        )
    ]


def _predictions(rng: Random, world: World) -> Requests:
    ids = _ids(rng)
    probs_NC = np.random.default_rng(rng.randrange(1 << 30)).dirichlet(np.ones(len(CLASSES)), len(ids))
    request = predictions_pb2.UpdatePredictionsRequest(
        parent=world.pool(rng),
        source=rng.choice(("mine", "other")),
        sample_ids=ids,
        columns=rng.choice(((), CLASSES)),
        request_id=_request_id(rng),
    )
    kind = rng.randrange(8)
    if kind == 0:
        request.label_probabilities.CopyFrom(matrix(probs_NC))
    elif kind == 1:
        request.numbers.values.CopyFrom(_matrix(rng, len(ids), 1))
    elif kind == 2:
        offsets = range(len(ids) + 1)
        spans = predictions_pb2.PredictedSpans(starts=offsets[:-1], ends=offsets[1:])
        request.objects.CopyFrom(
            predictions_pb2.PredictedObjects(offsets=offsets, probabilities=matrix(probs_NC), spans=spans)
        )
    else:
        request.probabilities.CopyFrom(matrix(probs_NC))
    return [request]


def _stream(rng: Random, world: World) -> Requests:
    header = pools_pb2.UploadSamplesHeader(
        parent=world.pool(rng), on_conflict=rng.randrange(4), request_id=_request_id(rng)
    )
    batches = [pools_pb2.UploadSamplesRequest(batch=_batch(rng, world)) for _ in range(rng.randrange(1, 3))]
    return [pools_pb2.UploadSamplesRequest(header=header), *batches]


def _upload(rng: Random, world: World) -> Requests:
    header = models_pb2.UploadBackboneHeader(
        parent=world.pool(rng),
        model_id=f"b{rng.randrange(50)}",
        size_bytes=len(world.backbone),
        request_id=_request_id(rng),
    )
    middle = len(world.backbone) // 2
    chunks = [
        models_pb2.UploadBackboneRequest(chunk=part) for part in (world.backbone[:middle], world.backbone[middle:])
    ]
    return [models_pb2.UploadBackboneRequest(header=header), *chunks]


def _predict(rng: Random, world: World) -> Requests:
    request = models_pb2.PredictRequest(pool=world.pool(rng), include_embeddings=rng.random() < 0.5)
    kind = rng.randrange(3)
    if kind == 0:
        request.samples.ids.extend(_ids(rng))
    elif kind == 1:
        request.embeddings.CopyFrom(_matrix(rng, 2))
    else:
        request.pool = "pools/raw"
        data = _matrix(rng, 2, FEATURES).data
        request.inputs.tensors.add(name="features", dtype=types_pb2.DTYPE_FLOAT32, shape=[2, FEATURES], data=data)
    return [request]


def _search(rng: Random, world: World) -> Requests:
    request = pools_pb2.SearchSamplesRequest(parent=world.pool(rng), k=rng.randrange(1, 9), mode=rng.randrange(4))
    if rng.random() < 0.5:
        request.vectors.CopyFrom(_matrix(rng, 2))
    else:
        request.samples.ids.extend(_ids(rng))
    if rng.random() < 0.5:
        request.filter.CopyFrom(_filter(rng))
    return [request]


def _next(rng: Random, world: World) -> Requests:
    request = labeling_pb2.NextBatchRequest(
        parent=world.pool(rng),
        worker=f"w{rng.randrange(8)}",
        size=rng.randrange(1, 5),
        seed=rng.randrange(100),
        request_id=_request_id(rng),
        ttl=duration_pb2.Duration(seconds=rng.choice((1, 2, 5))),
        predictions=rng.randrange(3),
    )
    if rng.random() < 0.6:
        request.plan.CopyFrom(_plan(rng))
    return [request]


def _value(rng: Random) -> types_pb2.Value:
    """A value, mostly of the task of most pools."""
    name = rng.choice(CLASSES)
    others = (
        types_pb2.Value(class_names=types_pb2.ClassNames(names=[name])),
        types_pb2.Value(numbers=types_pb2.Numbers(values={"age": rng.random()})),
        types_pb2.Value(boxes=types_pb2.Boxes(boxes=[types_pb2.Box(class_name=name, width=0.5, height=rng.random())])),
        types_pb2.Value(spans=types_pb2.Spans(spans=[types_pb2.Span(class_name=name, end=rng.randrange(3))])),
        types_pb2.Value(json='{"a": [1, null]}'),
        types_pb2.Value(),
    )
    return rng.choice(others) if rng.random() < 0.2 else types_pb2.Value(class_name=name)


def _annotate(rng: Random, world: World) -> Requests:
    lease = world.lease(rng)
    ids = list(lease.sample_ids) or _ids(rng)
    said = [
        annotations_pb2.AnnotationInput(
            sample_id=sample_id,
            value=_value(rng),
            external_id=rng.choice(("", "", f"x{rng.randrange(40)}")),
            comment=rng.choice(("", "dark")),
            confidence=rng.choice((None, 0, 0.5, 1)),
            duration=duration_pb2.Duration(seconds=rng.randrange(9)),
        )
        for sample_id in ids
    ]
    under = {"lease": lease.name, "fencing_token": lease.fencing_token} if lease.name and rng.random() < 0.7 else {}
    return [
        annotations_pb2.AnnotateRequest(
            parent=world.pool(rng) if not under else lease.name.partition("/leases/")[0],
            worker=lease.worker or "w1",
            annotations=said,
            correct=rng.random() < 0.5,
            on_behalf_of=not under and rng.random() < 0.2,
            origin=annotations_pb2.Origin.ValueType(rng.randrange(4)),
            request_id=_request_id(rng),
            **under,
        )
    ]


def _mine(rng: Random, world: World) -> Requests:
    request = mining_pb2.MineRequest(
        pool=world.pool(rng),
        plan=_plan(rng),
        size=rng.randrange(1, 9),
        seed=rng.randrange(9),
        request_id=_request_id(rng),
        validate_only=rng.random() < 0.2,
        predictions=rng.randrange(3),
    )
    if rng.random() < 0.3:
        request.filter.CopyFrom(_filter(rng))
    return [request]


def _score(rng: Random, world: World) -> Requests:
    return [
        mining_pb2.ScoreRequest(
            pool=world.pool(rng), plan=types_pb2.Plan(preset="margin"), chunk_size=rng.choice((1, 50, 1000))
        )
    ]


def _lease_verb(request_type: Any, **more: Any) -> Maker:
    def make(rng: Random, world: World) -> Requests:
        lease = world.lease(rng)
        return [request_type(name=lease.name, fencing_token=lease.fencing_token, request_id=_request_id(rng), **more)]

    return make


def _model(request_type: Any, **more: Any) -> Maker:
    return lambda rng, world: [request_type(name=world.model(rng), **more)]


def _of_pool(request_type: Any, field: str = "parent", **more: Any) -> Maker:
    return lambda rng, world: [request_type(**{field: world.pool(rng)}, **more)]


def _always(request_type: Any, **fields: Any) -> Maker:
    return lambda rng, world: [request_type(**fields)]


def _operation(request_type: Any, **more: Any) -> Maker:
    return lambda rng, world: [request_type(name=world.operation(rng), **more)]


def _delete_pool(rng: Random, world: World) -> Requests:
    return [pools_pb2.DeletePoolRequest(name=f"pools/victim-{rng.randrange(20)}", request_id=_request_id(rng))]


def _create_pool(rng: Random, world: World) -> Requests:
    pool = pools_pb2.Pool(metric=rng.randrange(4), dimension=rng.choice((0, DIMENSION)), task=_task(rng))
    return [pools_pb2.CreatePoolRequest(pool_id=f"victim-{rng.randrange(20)}", pool=pool, request_id=_request_id(rng))]


def _update_pool(rng: Random, world: World) -> Requests:
    classes = [tasks_pb2.Class(id=number, name=name) for number, name in enumerate(CLASSES)]
    edit = rng.randrange(4)
    if edit == 0:
        classes.append(tasks_pb2.Class(name=f"new-{rng.randrange(100)}"))
    elif edit == 1:
        classes[0].merged_into = 1
    elif edit == 2:
        rng.shuffle(classes)
    pool = pools_pb2.Pool(
        name=rng.choice(("pools/empty", f"pools/victim-{rng.randrange(20)}")),
        task=tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes)),
        annotations_per_sample=rng.randrange(3),
        policy=rng.randrange(6),
        metadata={"team": "birds"},
    )
    fields = ("task", "annotations_per_sample", "policy", "metadata")
    mask = field_mask_pb2.FieldMask(paths=rng.sample(fields, rng.randrange(4)))
    return [pools_pb2.UpdatePoolRequest(pool=pool, update_mask=mask, request_id=_request_id(rng))]


def _task(rng: Random) -> tasks_pb2.Task:
    classes = [tasks_pb2.Class(name=name) for name in CLASSES]
    targets = [tasks_pb2.Target(name="height", minimum=0, maximum=3)]
    return rng.choice((
        tasks_pb2.Task(classification=tasks_pb2.ClassificationTask(classes=classes)),
        tasks_pb2.Task(multilabel=tasks_pb2.MultilabelTask(classes=classes)),
        tasks_pb2.Task(regression=tasks_pb2.RegressionTask(targets=targets)),
        tasks_pb2.Task(boxes=tasks_pb2.BoxesTask(classes=classes)),
        tasks_pb2.Task(spans=tasks_pb2.SpansTask(classes=classes)),
        tasks_pb2.Task(freeform=tasks_pb2.FreeformTask()),
    ))  # fmt: skip


def _of_samples(request_type: Any, **more: Callable[[Random], Any]) -> Maker:
    """What somebody does to some samples."""

    def make(rng: Random, world: World) -> Requests:
        given = {name: choose(rng) for name, choose in more.items()}
        worker = f"w{rng.randrange(8)}"
        return [
            request_type(
                parent=world.pool(rng), worker=worker, sample_ids=_ids(rng), request_id=_request_id(rng), **given
            )
        ]

    return make


def _skip(rng: Random, world: World) -> Requests:
    lease = world.lease(rng)
    under = {"lease": lease.name, "fencing_token": lease.fencing_token} if lease.name and rng.random() < 0.7 else {}
    return [
        annotations_pb2.SkipSamplesRequest(
            parent=lease.name.partition("/leases/")[0] if under else world.pool(rng),
            worker=lease.worker or "w1",
            sample_ids=list(lease.sample_ids)[:2] or _ids(rng),
            reason=rng.choice(("", "dark")),
            request_id=_request_id(rng),
            **under,
        )
    ]


def _review(rng: Random, world: World) -> Requests:
    pool = world.pool(rng)
    Review = annotations_pb2.Review
    reviews = [
        rng.choice((
            Review(sample_id=sample_id, value=_value(rng), comment=rng.choice(("", "dark"))),
            Review(sample_id=sample_id, accept=f"{pool}/annotations/{rng.randrange(40)}"),
            Review(sample_id=sample_id, retract=True),
            Review(sample_id=sample_id, reject=True),
        ))
        for sample_id in _ids(rng)
    ]  # fmt: skip
    worker = f"w{rng.randrange(8)}"
    return [
        annotations_pb2.ReviewSamplesRequest(parent=pool, worker=worker, reviews=reviews, request_id=_request_id(rng))
    ]


def _undo(rng: Random, world: World) -> Requests:
    request = annotations_pb2.UndoLastActionRequest(
        parent=world.pool(rng), worker=f"w{rng.randrange(8)}", request_id=_request_id(rng)
    )
    if rng.random() < 0.3:
        request.event = rng.randrange(50)
    return [request]


def _list_annotations(rng: Random, world: World) -> Requests:
    request = annotations_pb2.ListAnnotationsRequest(
        parent=world.pool(rng),
        sample_id=rng.choice(("", _ids(rng)[0])),
        worker=rng.choice(("", "w1", "import")),
        external_id=rng.choice(("", "", f"x{rng.randrange(40)}")),
        page_size=rng.choice((0, 5)),
    )
    if rng.random() < 0.3:
        request.after_event = rng.randrange(-1, 50)
    if rng.random() < 0.3:
        request.start_time.seconds = rng.choice((0, 1_000_000_000, 4_000_000_000))
    return [request]


def _list_samples(rng: Random, world: World) -> Requests:
    request = pools_pb2.ListSamplesRequest(parent=world.pool(rng), page_size=rng.choice((0, 5)), include_payload=True)
    if rng.random() < 0.5:
        request.filter.CopyFrom(_filter(rng))
    return [request]


def _train(rng: Random, world: World) -> Requests:
    return [models_pb2.TrainHeadRequest(parent=world.pool(rng), l2=0.1, activate=True, request_id=_request_id(rng))]


def _watch(rng: Random, world: World) -> Requests:
    request = changes_pb2.WatchPoolRequest(pool=world.pool(rng), heartbeat=duration_pb2.Duration(seconds=1))
    if rng.random() < 0.7:
        request.since_epoch = rng.randrange(20)
    elif rng.random() < 0.5:
        request.cursor = f"{rng.randrange(4)}.{rng.randrange(20)}.{rng.randrange(200)}"
    return [request]


def _audit(rng: Random, world: World) -> Requests:
    kinds = rng.sample(range(1, 5), rng.randrange(3))
    request = audits_pb2.AuditPoolRequest(parent=world.pool(rng), kinds=kinds, request_id=_request_id(rng))
    if rng.random() < 0.5:
        request.neighbors = rng.randrange(1, 20)
    return [request]


# How often each is called, beside the others; 20 unless told. What starts long work is rarer.
WEIGHTS: Mapping[str, int] = {
    "/assay.v1.Models/UploadBackbone": 2,
    "/assay.v1.Models/ActivateModel": 2,
    "/assay.v1.Models/RollbackModel": 2,
    "/assay.v1.Models/TrainHead": 2,
    "/assay.v1.Audits/AuditPool": 2,
    "/google.longrunning.Operations/WaitOperation": 2,
    "/grpc.health.v1.Health/Watch": 2,
    "/assay.v1.Changes/WatchPool": 2,
}

CORPUS: Mapping[str, Maker] = {
    "/assay.v1.Pools/CreatePool": _create_pool,
    "/assay.v1.Pools/UpdatePool": _update_pool,
    "/assay.v1.Pools/GetPool": _of_pool(pools_pb2.GetPoolRequest, "name"),
    "/assay.v1.Pools/ListPools": _always(pools_pb2.ListPoolsRequest, page_size=5),
    "/assay.v1.Pools/DeletePool": _delete_pool,
    "/assay.v1.Pools/AddSamples": _add,
    "/assay.v1.Pools/UpdateSamples": _update_samples,
    "/assay.v1.Pools/UploadSamples": _stream,
    "/assay.v1.Pools/GetSample": lambda rng, world: [
        pools_pb2.GetSampleRequest(name=f"{world.pool(rng)}/samples/{_ids(rng)[0]}")
    ],
    "/assay.v1.Pools/ListSamples": _list_samples,
    "/assay.v1.Pools/DeleteSamples": lambda rng, world: [
        pools_pb2.DeleteSamplesRequest(parent=world.pool(rng), ids=[f"f{rng.randrange(2000)}-0"], allow_missing=True)
    ],
    "/assay.v1.Pools/SearchSamples": _search,
    "/assay.v1.Models/UploadBackbone": _upload,
    "/assay.v1.Models/GetModel": _model(models_pb2.GetModelRequest),
    "/assay.v1.Models/ListModels": _of_pool(models_pb2.ListModelsRequest, page_size=3),
    "/assay.v1.Models/DeleteModel": _model(models_pb2.DeleteModelRequest),
    "/assay.v1.Models/ActivateModel": _model(models_pb2.ActivateModelRequest),
    "/assay.v1.Models/RollbackModel": _of_pool(models_pb2.RollbackModelRequest, kind=models_pb2.MODEL_KIND_HEAD),
    "/assay.v1.Models/TrainHead": _train,
    "/assay.v1.Models/Predict": _predict,
    "/assay.v1.Predictions/UpdatePredictions": _predictions,
    "/assay.v1.Predictions/ListPredictionSources": _of_pool(predictions_pb2.ListPredictionSourcesRequest, page_size=5),
    "/assay.v1.Predictions/DeletePredictionSource": lambda rng, world: [
        predictions_pb2.DeletePredictionSourceRequest(name=f"{world.pool(rng)}/predictionSources/other")
    ],
    "/assay.v1.Mining/ListStrategies": _always(mining_pb2.ListStrategiesRequest, page_size=5),
    "/assay.v1.Mining/ListPresets": _always(mining_pb2.ListPresetsRequest, page_size=5, task=2),
    "/assay.v1.Mining/Score": _score,
    "/assay.v1.Mining/Mine": _mine,
    "/assay.v1.Labeling/NextBatch": _next,
    "/assay.v1.Labeling/GetLease": lambda rng, world: [labeling_pb2.GetLeaseRequest(name=world.lease(rng).name)],
    "/assay.v1.Labeling/ListLeases": _of_pool(labeling_pb2.ListLeasesRequest, page_size=5),
    "/assay.v1.Labeling/RenewLease": _lease_verb(labeling_pb2.RenewLeaseRequest, ttl=duration_pb2.Duration(seconds=2)),
    "/assay.v1.Labeling/ReleaseLease": _lease_verb(labeling_pb2.ReleaseLeaseRequest, reason="unclear"),
    "/assay.v1.Labeling/ExportLabels": _of_pool(labeling_pb2.ExportLabelsRequest),
    "/assay.v1.Audits/AuditPool": _audit,
    "/assay.v1.Audits/ListSuspects": _of_pool(audits_pb2.ListSuspectsRequest, page_size=5),
    "/assay.v1.Annotations/Annotate": _annotate,
    "/assay.v1.Annotations/SkipSamples": _skip,
    "/assay.v1.Annotations/WithdrawAnnotations": _of_samples(
        annotations_pb2.WithdrawAnnotationsRequest,
        annotator=lambda rng: rng.choice(("", "w1", "w2", "import")),
        reason=lambda rng: rng.choice(("", "blurred")),
    ),
    "/assay.v1.Annotations/SetSampleState": _of_samples(
        annotations_pb2.SetSampleStateRequest,
        action=lambda rng: rng.randrange(4),
        reason=lambda rng: rng.choice(("", "blurred")),
    ),
    "/assay.v1.Annotations/ReviewSamples": _review,
    "/assay.v1.Annotations/UndoLastAction": _undo,
    "/assay.v1.Annotations/ListAnnotations": _list_annotations,
    "/assay.v1.Annotations/ListLabels": _of_pool(annotations_pb2.ListLabelsRequest, page_size=5),
    "/assay.v1.Audits/ListAnnotators": _of_pool(audits_pb2.ListAnnotatorsRequest, page_size=5),
    "/assay.v1.Audits/ResolveLabels": _of_pool(audits_pb2.ResolveLabelsRequest),
    "/assay.v1.Changes/WatchPool": _watch,
    "/assay.v1.Server/GetServerInfo": _always(server_pb2.GetServerInfoRequest),
    "/google.longrunning.Operations/GetOperation": _operation(operations_pb2.GetOperationRequest),
    "/google.longrunning.Operations/ListOperations": _of_pool(
        operations_pb2.ListOperationsRequest, "name", page_size=5
    ),
    "/google.longrunning.Operations/CancelOperation": _operation(operations_pb2.CancelOperationRequest),
    "/google.longrunning.Operations/DeleteOperation": _operation(operations_pb2.DeleteOperationRequest),
    "/google.longrunning.Operations/WaitOperation": _operation(
        operations_pb2.WaitOperationRequest, timeout=duration_pb2.Duration(seconds=1)
    ),
    "/grpc.health.v1.Health/Check": _always(health_pb2.HealthCheckRequest),
    "/grpc.health.v1.Health/List": _always(health_pb2.HealthListRequest),
    "/grpc.health.v1.Health/Watch": _always(health_pb2.HealthCheckRequest),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _always(
        reflection_pb2.ServerReflectionRequest, file_containing_symbol="assay.v1.Pools"
    ),
}
