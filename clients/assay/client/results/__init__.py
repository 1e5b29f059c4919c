"""What calls return. Times are aware datetimes in UTC, timings are seconds by stage."""

from assay.client.results.audits import Annotator, Confusion, ResolveResult
from assay.client.results.labeling import AsideResult, Batch, Label, Lease, SubmitResult
from assay.client.results.mining import (
    CostEstimate,
    MineResult,
    Pick,
    Preset,
    Provenance,
    QuotaReport,
    ScorePart,
    ScoreResult,
    Strategy,
)
from assay.client.results.models import (
    BackboneInfo,
    HeadInfo,
    HeadMetrics,
    Model,
    Prediction,
    PredictResult,
    TensorSpec,
)
from assay.client.results.operations import Progress
from assay.client.results.pools import (
    AddResult,
    Counts,
    DamagedSegment,
    DeleteResult,
    IndexStatus,
    Pool,
    Sample,
    SampleBatch,
    SearchHit,
    SearchResult,
)
from assay.client.results.server import ServerInfo, ServerLimits

__all__ = [
    "AddResult",
    "Annotator",
    "AsideResult",
    "BackboneInfo",
    "Batch",
    "Confusion",
    "CostEstimate",
    "Counts",
    "DamagedSegment",
    "DeleteResult",
    "HeadInfo",
    "HeadMetrics",
    "IndexStatus",
    "Label",
    "Lease",
    "MineResult",
    "Model",
    "Pick",
    "Pool",
    "PredictResult",
    "Prediction",
    "Preset",
    "Progress",
    "Provenance",
    "QuotaReport",
    "ResolveResult",
    "Sample",
    "SampleBatch",
    "ScorePart",
    "ScoreResult",
    "SearchHit",
    "SearchResult",
    "ServerInfo",
    "ServerLimits",
    "Strategy",
    "SubmitResult",
    "TensorSpec",
]
