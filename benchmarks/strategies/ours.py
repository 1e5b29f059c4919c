"""Our side of each work: a function of its data that gives the call to be timed.

assay is imported inside the functions: the environments of the peers read this file too, and do without it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.strategies.data import Data

Call = Callable[[], Any]
Prepare = Callable[[Data], Call]


def selecting(name: str, *arrays: str, **params: Any) -> Prepare:
    """`select` of a strategy from the named arrays of the data; gives the picks."""

    def prepare(data: Data) -> Call:
        from assay.strategies import select

        given = {array: data[array] for array in arrays}
        return lambda: select(name, size=data.size.picks, **given, **params).indices

    return prepare


def scoring(name: str, *arrays: str, **params: Any) -> Prepare:
    """`score` of a strategy from the named arrays of the data; gives the scores."""

    def prepare(data: Data) -> Call:
        from assay.strategies import score

        given = {array: data[array] for array in arrays}
        return lambda: score(name, **given, **params)

    return prepare


def four_scores(data: Data) -> Call:
    """Margin, entropy, least confidence and ratio in one pass over the logits; gives the margins."""
    from assay.strategies.kernels.fused import from_logits

    wanted = ("margin", "entropy", "least_confidence", "ratio")
    return lambda: from_logits(data["logits"], wanted)["margin"]


def top_k(data: Data) -> Call:
    """The highest scores."""
    from assay.strategies.kernels.topk import top_k as highest

    return lambda: highest(data["scores"], data.size.picks)


def prob_cover(data: Data) -> Call:
    """With the radius that all get, in the space of the embeddings as they are."""
    return selecting("prob_cover", "embeddings", radius=float(data["radius"]), normalize=False)(data)


def information_density(data: Data) -> Call:
    """Density times entropy, the entropy included."""
    from assay.strategies import score, select

    def call() -> Any:
        entropy_N = score("entropy", probs=data["probs"])
        picks = data.size.picks
        return select("information_density", size=picks, utility=entropy_N, embeddings=data["embeddings"]).indices

    return call
