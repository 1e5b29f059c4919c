"""From messages to results."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np
from google.protobuf import duration_pb2, timestamp_pb2
from google.protobuf.message import Message

from assay.client import results
from assay.client._arrays import from_matrix
from assay.client._names import enum_word
from assay.client.filters import attribute_scalar
from assay.client.plans import plan_from_proto, struct_dict
from assay.client.tasks import task_from_proto
from assay.client.values import value_from_proto
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


def when(message: Message, field: str) -> datetime | None:
    """The time in a field; None where unset."""
    if not message.HasField(field):
        return None
    stamp: timestamp_pb2.Timestamp = getattr(message, field)
    return stamp.ToDatetime(tzinfo=UTC)


def seconds(duration: duration_pb2.Duration) -> float:
    """A duration in seconds."""
    return duration.seconds + duration.nanos / 1e9


def timings(stages: Iterable[types_pb2.StageTiming]) -> dict[str, float]:
    """Seconds by stage."""
    return {stage.stage: seconds(stage.duration) for stage in stages}


def pool(message: pools_pb2.Pool) -> results.Pool:
    """A pool."""
    counts, index = message.counts, message.index
    return results.Pool(
        name=message.name,
        metric=enum_word(pools_pb2.Metric, message.metric),
        task=task_from_proto(message.task),
        dimension=message.dimension,
        embedding_space=message.embedding_space,
        discard_inputs=message.discard_inputs,
        counts=results.Counts(
            counts.unlabeled,
            counts.leased,
            counts.labeled,
            counts.excluded,
            counts.total,
            counts.damaged,
            counts.answered,
            counts.disputed,
        ),
        state=enum_word(pools_pb2.PoolState, message.state),
        epoch=message.epoch,
        active_backbone=message.active_backbone or None,
        active_head=message.active_head or None,
        attributes={
            name: enum_word(types_pb2.AttributeKind, kind) for name, kind in sorted(message.attributes.items())
        },
        index=results.IndexStatus(enum_word(pools_pb2.IndexKind, index.kind), index.indexed, index.building),
        segments=message.segments,
        embedding_bytes=message.embedding_bytes,
        damaged_segments=tuple(
            results.DamagedSegment(segment.file, segment.samples, segment.reason)
            for segment in message.damaged_segments
        ),
        create_time=when(message, "create_time"),
        annotations_per_sample=message.annotations_per_sample,
        policy=enum_word(pools_pb2.LabelPolicy, message.policy),
        metadata=dict(sorted(message.metadata.items())),
        unseen_classes=tuple(message.unseen_classes),
    )


def added(message: pools_pb2.AddSamplesResponse) -> results.AddResult:
    """What an ingest did."""
    return results.AddResult(
        added=message.added,
        skipped=message.skipped,
        replaced=message.replaced,
        epoch=message.epoch,
        timings=timings(message.timings),
        labels_dropped=message.labels_dropped,
        attributes_dropped=message.attributes_dropped,
    )


def updated_samples(message: pools_pb2.UpdateSamplesResponse) -> results.UpdateSamplesResult:
    """What became of an update."""
    return results.UpdateSamplesResult(message.updated, message.epoch)


def updated_predictions(message: predictions_pb2.UpdatePredictionsResponse) -> results.UpdatePredictionsResult:
    """What became of predictions."""
    return results.UpdatePredictionsResult(message.updated, message.epoch)


def prediction_source(message: predictions_pb2.NamedSource) -> results.PredictionSource:
    """A source of predictions."""
    return results.PredictionSource(
        name=message.name,
        id=message.name.rpartition("/")[2],
        samples=message.samples,
        lost=message.lost,
        has_spread=message.has_spread,
        size_bytes=message.size_bytes,
        update_epoch=message.update_epoch,
        all_metrics=tuple(map(_metrics, message.metrics)),
    )


def deleted(message: pools_pb2.DeleteSamplesResponse) -> results.DeleteResult:
    """What a deletion did."""
    return results.DeleteResult(message.deleted, message.epoch)


def sample(message: types_pb2.Sample) -> results.Sample:
    """A sample."""
    attributes = {name: attribute_scalar(value) for name, value in sorted(message.attributes.items())}
    return results.Sample(
        id=message.id,
        uri=message.uri,
        payload=message.payload,
        media_type=message.payload_media_type,
        attributes={name: value for name, value in attributes.items() if value is not None},
        state=enum_word(types_pb2.SampleState, message.state),
        label=value_from_proto(message.label),
        row=message.row,
        name=message.name,
    )


def search_result(message: pools_pb2.SearchSamplesResponse) -> results.SearchResult:
    """The hits of each query."""
    hits = tuple(
        tuple(
            results.SearchHit(sample(neighbor.sample), neighbor.similarity, neighbor.distance)
            for neighbor in result.neighbors
        )
        for result in message.results
    )
    return results.SearchResult(hits, message.exact, message.epoch, timings(message.timings))


def model(message: models_pb2.Model) -> results.Model:
    """A model version."""
    return results.Model(
        name=message.name,
        kind=enum_word(models_pb2.ModelKind, message.kind),
        display_name=message.display_name,
        active=message.active,
        create_time=when(message, "create_time"),
        backbone=_backbone(message.backbone) if message.HasField("backbone") else None,
        head=_head(message.head) if message.HasField("head") else None,
    )


def _backbone(message: models_pb2.BackboneInfo) -> results.BackboneInfo:
    return results.BackboneInfo(
        inputs=tuple(
            results.TensorSpec(spec.name, enum_word(types_pb2.DType, spec.dtype), tuple(spec.shape))
            for spec in message.inputs
        ),
        embedding_output=message.embedding_output,
        logits_output=message.logits_output,
        pooling=enum_word(models_pb2.Pooling, message.pooling),
        mask_input=message.mask_input,
        normalize=message.normalize,
        dimension=message.dimension,
        size_bytes=message.size_bytes,
        sha256=message.sha256,
        data_files=tuple(file.name for file in message.data_files),
        embedding_space=message.embedding_space,
    )


def _head(message: models_pb2.HeadInfo) -> results.HeadInfo:
    return results.HeadInfo(
        embedding_space=message.embedding_space,
        classes_seen=message.classes_seen,
        members=message.members,
        labels=message.labels,
        l2=message.l2,
        temperature=message.temperature,
        balanced=message.balanced,
        soft_targets=message.soft_targets,
        seed=message.seed,
        task=enum_word(tasks_pb2.TaskKind, message.task),
        all_metrics=tuple(map(_metrics, message.metrics)),
        trained_classes=tuple(message.trained_classes),
        unseen_classes=tuple(message.unseen_classes),
    )


def _metrics(message: models_pb2.HeadMetrics) -> results.HeadMetrics:
    return results.HeadMetrics(
        split=enum_word(models_pb2.MeasuredSplit, message.split),
        samples=message.samples,
        measures=_measures(message.measures),
        classes=tuple(
            results.ClassMetrics(
                name=each.name,
                class_id=each.class_id if each.HasField("class_id") else None,
                samples=each.samples,
                measures=_measures(each.measures),
            )
            for each in message.classes
        ),
        confusion=tuple(results.ConfusionCell(cell.label, cell.predicted, cell.samples) for cell in message.confusion),
    )


def _measures(messages: Iterable[models_pb2.Measure]) -> dict[str, results.Measure]:
    return {
        each.name: results.Measure(
            value=each.value if each.HasField("value") else None,
            low=each.low if each.HasField("low") else None,
            high=each.high if each.HasField("high") else None,
        )
        for each in messages
    }


def predicted(message: models_pb2.PredictResponse) -> results.PredictResult:
    """Probabilities or numbers, and embeddings."""
    return results.PredictResult(
        probs_NC=from_matrix(message.probabilities) if message.probabilities.cols else None,
        class_names=tuple(message.class_names),
        embeddings_ND=from_matrix(message.embeddings) if message.embeddings.cols else None,
        head=message.head or None,
        prediction_source=enum_word(types_pb2.PredictionSource, message.prediction_source),
        embedding_space=message.embedding_space,
        timings=timings(message.timings),
        thresholds_C=np.array(message.thresholds, np.float32) if message.thresholds else None,
        numbers_NT=from_matrix(message.numbers) if message.numbers.cols else None,
        deviations_NT=from_matrix(message.deviations) if message.deviations.cols else None,
        target_names=tuple(message.target_names),
    )


def provenance(message: types_pb2.Provenance) -> results.Provenance:
    """What scores or picks were computed from."""
    return results.Provenance(
        backbone=message.backbone or None,
        head=message.head or None,
        prediction_source=enum_word(types_pb2.PredictionSource, message.prediction_source),
        embedding_space=message.embedding_space,
        epoch=message.epoch,
        plan_digest=message.plan_digest,
        seed=message.seed,
        candidates=message.candidates,
        named_source=message.named_source or None,
    )


def pick(message: types_pb2.Pick) -> results.Pick:
    """A pick."""
    return results.Pick(
        sample=sample(message.sample),
        rank=message.rank,
        score=message.score,
        parts=tuple(results.ScorePart(part.strategy, part.score) for part in message.parts),
        predictions=tuple(
            results.Prediction(prediction.class_name, prediction.probability) for prediction in message.predictions
        ),
        exploring=message.exploring,
        numbers=tuple(
            results.NumberPrediction(each.target, each.value, each.deviation if each.HasField("deviation") else None)
            for each in message.numbers
        ),
    )


def mined(message: mining_pb2.MineResponse) -> results.MineResult:
    """Picks, or an estimate."""
    return results.MineResult(
        picks=tuple(map(pick, message.picks)),
        plan=plan_from_proto(message.plan),
        provenance=provenance(message.provenance),
        estimate=_estimate(message.estimate) if message.HasField("estimate") else None,
        timings=timings(message.timings),
        quotas=tuple(map(_quota_report, message.quotas)),
    )


def _quota_report(message: types_pb2.QuotaReport) -> results.QuotaReport:
    value = attribute_scalar(message.value)
    return results.QuotaReport(
        value="" if value is None else value,
        picked=message.picked,
        available=message.available,
        minimum=message.minimum,
        maximum=message.maximum if message.HasField("maximum") else None,
        target=message.target if message.HasField("target") else None,
    )


def _estimate(message: mining_pb2.CostEstimate) -> results.CostEstimate:
    duration = timedelta(seconds=seconds(message.duration))
    return results.CostEstimate(message.candidates, message.bytes_read, message.gflop, duration)


def strategy(message: mining_pb2.Strategy) -> results.Strategy:
    """A strategy."""
    return results.Strategy(
        name=message.name,
        kind=enum_word(mining_pb2.StrategyKind, message.kind),
        summary=message.summary,
        params_schema=struct_dict(message.params_schema),
        needs=tuple(enum_word(mining_pb2.Need, need) for need in message.needs),
        optional_needs=tuple(enum_word(mining_pb2.Need, need) for need in message.optional_needs),
        deterministic=message.deterministic,
        needs_utility=message.needs_utility,
        tasks=tuple(enum_word(tasks_pb2.TaskKind, task) for task in message.tasks),
    )


def preset(message: mining_pb2.Preset) -> results.Preset:
    """A preset."""
    return results.Preset(message.name, message.summary, plan_from_proto(message.plan), message.is_default)


def lease(message: labeling_pb2.Lease) -> results.Lease:
    """A lease."""
    return results.Lease(
        name=message.name,
        fencing_token=message.fencing_token,
        worker=message.worker,
        state=enum_word(labeling_pb2.LeaseState, message.state),
        create_time=when(message, "create_time"),
        expire_time=when(message, "expire_time"),
        sample_ids=tuple(message.sample_ids),
    )


def batch(message: labeling_pb2.NextBatchResponse) -> results.Batch:
    """Leased picks."""
    return results.Batch(
        lease=lease(message.lease),
        picks=tuple(map(pick, message.picks)),
        plan=plan_from_proto(message.plan),
        provenance=provenance(message.provenance),
        timings=timings(message.timings),
        quotas=tuple(map(_quota_report, message.quotas)),
    )


def annotation(message: annotations_pb2.Annotation) -> results.AnnotationEvent:
    """An event of a pool's log."""
    return results.AnnotationEvent(
        name=message.name,
        event=message.event,
        sample_id=message.sample_id,
        verb=enum_word(annotations_pb2.AnnotationVerb, message.verb),
        value=value_from_proto(message.value),
        worker=message.worker or None,
        by=message.by or None,
        create_time=when(message, "create_time"),
        time=when(message, "time"),
        duration=seconds(message.duration) if message.HasField("duration") else None,
        lease=message.lease or None,
        origin=enum_word(annotations_pb2.Origin, message.origin),
        external_id=message.external_id or None,
        comment=message.comment,
        confidence=message.confidence if message.HasField("confidence") else None,
        supersedes=message.supersedes or None,
        undoes=message.undoes or None,
        standing=message.standing,
    )


def reviewed(message: annotations_pb2.ReviewSamplesResponse) -> results.ReviewResult:
    """What became of verdicts."""
    return results.ReviewResult(message.decided, message.unchanged, message.labeled, message.epoch, message.last_event)


def undone(message: annotations_pb2.UndoLastActionResponse) -> results.UndoResult:
    """What was undone."""
    return results.UndoResult(
        undone=message.undone,
        verbs=tuple(enum_word(annotations_pb2.AnnotationVerb, verb) for verb in message.verbs),
        sample_ids=tuple(message.sample_ids),
        epoch=message.epoch,
        last_event=message.last_event,
    )


def skipped(message: annotations_pb2.SkipSamplesResponse) -> results.SkipResult:
    """What became of skips."""
    return results.SkipResult(
        message.skipped, message.unchanged, message.lease_remaining, message.epoch, message.last_event
    )


def withdrawn(message: annotations_pb2.WithdrawAnnotationsResponse) -> results.WithdrawResult:
    """What became of withdrawals."""
    return results.WithdrawResult(message.withdrawn, message.labeled, message.epoch, message.last_event)


def moved(message: annotations_pb2.SetSampleStateResponse) -> results.StateResult:
    """What became of samples to set aside, take back or reopen."""
    return results.StateResult(message.changed, message.unchanged, message.epoch, message.last_event)


def annotated(message: annotations_pb2.AnnotateResponse) -> results.AnnotateResult:
    """What became of annotations."""
    return results.AnnotateResult(
        stored=message.stored,
        unchanged=message.unchanged,
        lease_remaining=message.lease_remaining,
        labeled=message.labeled,
        disputed=message.disputed,
        epoch=message.epoch,
        last_event=message.last_event,
    )


def label(message: annotations_pb2.Label) -> results.Label:
    """A label."""
    return results.Label(
        sample_id=message.sample_id,
        value=value_from_proto(message.value),
        state=enum_word(types_pb2.SampleState, message.state),
        annotations=message.annotations,
        agreement=message.agreement if message.HasField("agreement") else None,
        confidence=message.confidence if message.HasField("confidence") else None,
        decided_by=enum_word(annotations_pb2.LabelBasis, message.decided_by) if message.decided_by else "",
        worker=message.worker,
        update_time=when(message, "update_time"),
        lease=message.lease or None,
    )


def pool_changes(message: changes_pb2.WatchPoolResponse) -> results.PoolChanges:
    """A message of a watch."""
    return results.PoolChanges(
        message.cursor, message.epoch, when(message, "change_time"), tuple(map(_change, message.changes))
    )


_EVENTS = ("annotated", "corrected", "withdrawn", "skipped", "verdicts", "resolved", "retracted", "resumed")


def _change(message: changes_pb2.Change) -> results.Change:
    match message.WhichOneof("kind"):
        case "samples":
            word = enum_word(changes_pb2.SamplesChange.Action, message.samples.action)
            touched = message.samples.samples
            return results.Change("samples", word, touched.count, tuple(touched.sample_ids))
        case "annotations":
            said = message.annotations
            return results.Change(
                "annotations",
                count=said.samples.count,
                sample_ids=tuple(said.samples.sample_ids),
                name=said.lease,
                worker=said.worker,
                first_event=said.first_event,
                events={name: getattr(said, name) for name in _EVENTS if getattr(said, name)},
            )
        case "lease":
            lease = message.lease
            word = enum_word(changes_pb2.LeaseChange.Action, lease.action)
            ids = tuple(lease.samples.sample_ids)
            return results.Change("lease", word, lease.samples.count, ids, name=lease.lease, worker=lease.worker)
        case "model":
            word = enum_word(changes_pb2.ModelChange.Action, message.model.action)
            return results.Change("model", word, name=message.model.model)
        case "operation":
            operation = message.operation
            word = enum_word(changes_pb2.OperationChange.Action, operation.action)
            return results.Change("operation", word, name=operation.operation, error_reason=operation.error_reason)
        case "pool":
            return results.Change("pool", fields=tuple(message.pool.fields))
        case _:  # of a newer server
            return results.Change("")


def annotator(message: audits_pb2.Annotator) -> results.Annotator:
    """A report on an annotator."""
    return results.Annotator(
        annotator=message.annotator,
        annotations=message.annotations,
        median_seconds=seconds(message.median_duration) if message.HasField("median_duration") else None,
        compared=message.compared,
        agreement=message.agreement if message.HasField("agreement") else None,
        skill=message.skill if message.HasField("skill") else None,
        confusion=tuple(results.Confusion(pair.label, pair.said, pair.count) for pair in message.confusion),
    )


def audited(message: audits_pb2.AuditPoolResponse) -> results.AuditResult:
    """What an audit found."""
    return results.AuditResult(
        tuple(
            results.KindFindings(
                enum_word(audits_pb2.SuspectKind, each.kind), each.samples, each.found, each.kept, each.left_out
            )
            for each in message.kinds
        ),
        message.suspects,
        message.epoch,
    )


def suspect(message: audits_pb2.Suspect) -> results.Suspect:
    """A suspect."""
    word = enum_word(audits_pb2.SuspectKind, message.kind)
    return results.Suspect(message.sample_id, word, message.score, message.label, message.suggested)


def resolved(message: audits_pb2.ResolveLabelsResponse) -> results.ResolveResult:
    """What resolving did."""
    return results.ResolveResult(
        samples=message.samples,
        changed=message.changed,
        disputed=message.disputed,
        overtaken=message.overtaken,
        converged=message.converged,
        epoch=message.epoch,
    )


def progress(
    kind: str,
    metadata: models_pb2.TrainHeadMetadata
    | models_pb2.ActivateModelMetadata
    | audits_pb2.ResolveLabelsMetadata
    | audits_pb2.AuditPoolMetadata,
) -> results.Progress:
    """How far an operation of a kind is."""
    message = metadata.progress
    return results.Progress(
        stage=message.stage,
        done=message.done,
        total=message.total,
        eta=timedelta(seconds=seconds(message.eta)) if message.HasField("eta") else None,
        create_time=when(message, "create_time"),
        pool=metadata.pool,
        kind=kind,
        cancel_requested=message.cancel_requested,
    )


def server_info(message: server_pb2.ServerInfo) -> results.ServerInfo:
    """A server."""
    limits = message.limits
    return results.ServerInfo(
        version=message.version,
        start_time=when(message, "start_time"),
        uptime=message.uptime.ToTimedelta(),
        tasks=tuple(enum_word(tasks_pb2.TaskKind, kind) for kind in message.tasks),
        strategies=message.strategies,
        presets=message.presets,
        limits=results.ServerLimits(
            max_message_bytes=limits.max_message_bytes,
            max_batch_rows=limits.max_batch_rows,
            max_payload_bytes=limits.max_payload_bytes,
            max_dimension=limits.max_dimension,
            max_classes=limits.max_classes,
            max_attributes=limits.max_attributes,
            max_model_bytes=limits.max_model_bytes,
            max_picks=limits.max_picks,
            max_batch_picks=limits.max_batch_picks,
            max_ids=limits.max_ids,
            max_queries=limits.max_queries,
            max_neighbors=limits.max_neighbors,
            max_predicted=limits.max_predicted,
            max_page_size=limits.max_page_size,
            max_lease=limits.max_lease.ToTimedelta(),
            request_memory=limits.request_memory.ToTimedelta(),
        ),
    )
