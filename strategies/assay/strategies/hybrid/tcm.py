"""tcm: typiclust while there are few labels, margin from then on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import Selection, checked_size
from assay.strategies.candidates import Candidates
from assay.strategies.diversity.typiclust import TypiClustParams, typiclust
from assay.strategies.hybrid.cluster_margin import margin_scores
from assay.strategies.kernels.points import Metric, labeled_embeddings
from assay.strategies.kernels.topk import top_k
from assay.strategies.needs import Need


@dataclass(frozen=True)
class TcmParams:
    switch: int = field(
        default=10, metadata={"doc": "From this many labels on (see unit) it goes by margin.", "minimum": 0}
    )
    unit: Literal["per_class", "total"] = field(
        default="per_class", metadata={"doc": "What switch counts: labels per class of the model, or all labels."}
    )
    metric: Metric = field(
        default="cosine", metadata={"doc": "For typiclust: embeddings scaled to length 1 (cosine) or as they are (l2)."}
    )
    max_clusters: int = field(default=500, metadata={"doc": "For typiclust: clusters at most.", "minimum": 1})


@dataclass(frozen=True)
class Tcm:
    """First typical samples, later uncertain ones: each strategy where it is strong.

    While fewer than `switch` labels per class are there (or in all), or as long as no model predicts anything, picks
    are those of typiclust; from then on those of lowest margin. A batch is never split: the labels at its start, those
    in somebody's hands included, decide. The diagnostics say which of the two it was.

    Formula:
        typiclust if L < switch * C (per_class) or L < switch (total), or without probabilities; else the top k of
        1 - (p1 - p2), ties by index.
    Cost:
        that of typiclust at first; O(N C) after the switch.
    Use when:
        a project starts from nothing, on embeddings from self-supervision, and should need no change of strategy.
    Avoid when:
        large batches follow the switch: margin alone picks near copies (cluster_margin spreads them).
    Paper:
        Doucet, Estermann, Aczel and Wattenhofer, Bridging Diversity and Uncertainty in Active learning with
        Self-Supervised Pre-Training, ICLR 2024 workshop on Practical ML for Limited/Low Resource Settings.
    Reference:
        typiclust's and margin's picks. The paper counts rounds until the switch; we count labels, which says the same
        whatever the size of the batches.
    """

    name: ClassVar[str] = "tcm"
    summary: ClassVar[str] = "Typical samples while labels are few (typiclust), then those of lowest margin."
    needs: ClassVar[frozenset[Need]] = frozenset({Need.EMBEDDINGS, Need.LABELED_EMBEDDINGS})
    optional: ClassVar[frozenset[Need]] = frozenset({Need.PROBS})
    params: ClassVar[type[TcmParams]] = TcmParams
    deterministic: ClassVar[bool] = False
    needs_utility: ClassVar[bool] = False

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: TcmParams,
    ) -> Selection:
        """Scores of the picks: typicality before the switch, 1 - (p1 - p2) after it.

        Raises NeedMissing, or StrategyError INVALID_ARRAY, NOT_FINITE or PROBABILITIES_INVALID.
        """
        size = checked_size(size, candidates)
        labels = len(labeled_embeddings(candidates))
        if candidates.has(Need.PROBS):
            margins_N = margin_scores(candidates)
            if labels >= params.switch * (_classes(candidates) if params.unit == "per_class" else 1):
                indices = top_k(margins_N, size)
                return Selection(indices, margins_N[indices], {"phase": "margin", "labeled": labels})
        settings = TypiClustParams(metric=params.metric, max_clusters=params.max_clusters)
        selection = typiclust.select(candidates, size, rng, None, settings)
        return Selection(selection.indices, selection.scores, {**selection.diagnostics, "phase": "typiclust"})


def _classes(candidates: Candidates) -> int:
    need = Need.LOGITS if candidates.has(Need.LOGITS) else Need.PROBS
    return int(candidates.unchecked(need).shape[1])


tcm = Tcm()
