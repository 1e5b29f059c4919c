"""One simulated labeling: pick, label, train, measure, again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assay.strategies import Need, get, kind, select
from assay.strategies.base import optional_needs
from assay.strategies.serving import PredictionKind, available
from benchmarks.learning.data import DataSet
from benchmarks.learning.heads import Head, train

ROUNDS = 15


@dataclass(frozen=True)
class Entry:
    """A strategy as it is entered.

    utility: the scorer that a selector ranks by. of_targets: parameters that are learned from the labels so far.
    """

    label: str
    strategy: str
    utility: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    of_targets: Callable[[NDArray[Any]], Mapping[str, Any]] | None = None


def curve(data: DataSet, entry: Entry, seed: int) -> list[float]:
    """Held-out quality after each round of labels. The first batch is the strategy's own where it needs no model, and
    random where it does; the same random one for all of a seed."""
    labeled: NDArray[np.int64] = np.empty(0, np.int64)
    head: Head | None = None
    qualities = []
    for number in range(ROUNDS):
        left = np.setdiff1d(np.arange(len(data.pool_ND)), labeled)
        chosen = entry if head is not None or not _needs_model(entry) else Entry("random", "random")
        learned = chosen.of_targets(data.pool_targets[labeled]) if chosen.of_targets else {}
        picks = select(
            chosen.strategy,
            size=data.batch,
            utility=chosen.utility,
            seed=seed * 1000 + number,
            **_arrays(data, chosen, head, labeled, left),
            **chosen.params,
            **learned,
        )
        labeled = np.concatenate([labeled, left[picks.indices]])
        head = train(data, labeled, seed * 1000 + number)
        qualities.append(head.quality(data))
    return qualities


def _needs_model(entry: Entry) -> bool:
    strategy = get(entry.strategy)
    of_model = strategy.needs - available(PredictionKind.NOTHING) - {Need.LABELED_CLASSES}
    return bool(of_model) or (kind(strategy) == "selector" and entry.utility is not None)


def _arrays(
    data: DataSet, entry: Entry, head: Head | None, labeled: NDArray[np.int64], left: NDArray[np.int64]
) -> dict[str, Any]:
    """What the strategy asks for and there is."""
    arrays: dict[Need, Any] = {
        Need.EMBEDDINGS: data.pool_ND[left],
        Need.LABELED_EMBEDDINGS: data.pool_ND[labeled],
    }
    if data.kind is PredictionKind.CLASSES:
        arrays[Need.LABELED_CLASSES] = data.pool_targets[labeled]
    if head is not None:
        arrays |= head.arrays(data.pool_ND[left], data.pool_ND[labeled])
    wanted = _wanted(entry.strategy) | (_wanted(entry.utility) if entry.utility else frozenset())
    # PROBS is met by LOGITS; and one array at least must say how many candidates there are.
    wanted |= {Need.EMBEDDINGS} | ({Need.LOGITS} if Need.PROBS in wanted else frozenset())
    return {need.value: array for need, array in arrays.items() if need in wanted}


def _wanted(name: str) -> frozenset[Need]:
    strategy = get(name)
    return strategy.needs | optional_needs(strategy)
