"""The data of a work: the same arrays for all that run on it, written once and mapped into each process.

Needs numpy only, as it is read inside the environments of the peers too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

Array = np.ndarray[Any, Any]
Kind = Literal["clustered", "isotropic", "unit"]

_CLUSTERS = 200
_LABELED = 1_000
# The radius of prob_cover reaches about so many neighbours.
_NEIGHBOURS = 50
# The highest probability that the head gives to half of the samples.
_MEDIAN_TOP = 0.7
_SIZES = "size.json"


@dataclass(frozen=True)
class Size:
    """How much there is; 0 where a work has no such thing."""

    rows: int
    dim: int = 0
    classes: int = 0
    members: int = 0
    picks: int = 0

    def divided(self, scale: int) -> Size:
        """The same work with fewer rows and picks."""
        picks = max(5, self.picks // scale) if self.picks else 0
        return replace(self, rows=max(200, self.rows // scale), picks=picks)

    def doubled(self) -> Size:
        """The same work on twice the rows."""
        return replace(self, rows=2 * self.rows)

    def __str__(self) -> str:
        counts = {"D": self.dim, "C": self.classes, "K": self.members, "k": self.picks}
        return ", ".join([f"N = {self.rows:,}", *(f"{letter} = {n:,}" for letter, n in counts.items() if n)])


@dataclass(frozen=True)
class Data:
    """The arrays of a work by name, and their size."""

    size: Size
    arrays: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]


def make(kind: Kind, size: Size, names: Collection[str], seed: int) -> Data:
    """The named arrays. Probabilities, logits and embeddings belong together: a linear head joins them."""
    rng = np.random.default_rng(seed)
    if "scores" in names:
        return Data(size, {"scores": rng.standard_normal(size.rows, np.float32)})
    arrays = _joined(rng, kind, size, names)
    for name, derive in _DERIVED.items():
        if name in names:
            arrays[name] = derive(rng, arrays, size)
    return Data(size, {name: arrays[name] for name in names})


def save(data: Data, folder: Path) -> None:
    """Write the arrays where `load` finds them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in data.arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / _SIZES).write_text(json.dumps(asdict(data.size)))


def load(folder: Path) -> Data:
    """The arrays, mapped and read once, so that their pages are in memory before anything is measured."""
    arrays = {path.stem: _mapped(path) for path in sorted(folder.glob("*.npy"))}
    for array in arrays.values():
        array.sum()
    return Data(Size(**json.loads((folder / _SIZES).read_text())), arrays)


def _mapped(path: Path) -> Array:
    # Copy on write: a peer that writes into its input changes its own copy only.
    return np.load(path, mmap_mode="c").view(np.ndarray)


def _joined(rng: np.random.Generator, kind: Kind, size: Size, names: Collection[str]) -> dict[str, Array]:
    """Embeddings of candidates and labeled samples, and what the head says of them."""
    extra = _LABELED if any(name.startswith("labeled") for name in names) else 0
    points_ND, centres_MD = _points(rng, kind, size.rows + extra, size.dim or 64)
    arrays = {"embeddings": points_ND[: size.rows], "labeled_embeddings": points_ND[size.rows :]}
    if size.classes:
        weights_CD, bias_C = _head(rng, points_ND, centres_MD, size.classes)
        logits_NC = points_ND @ weights_CD.T + bias_C
        arrays |= {"head_weights": weights_CD, "head_bias": bias_C, "logits": logits_NC[: size.rows]}
        if not {"probs", "labeled_probs"}.isdisjoint(names):
            probs_NC = softmax(logits_NC)
            arrays |= {"probs": probs_NC[: size.rows], "labeled_probs": probs_NC[size.rows :]}
        arrays["labeled_classes"] = logits_NC[size.rows :].argmax(1)
    return arrays


def _points(rng: np.random.Generator, kind: Kind, rows: int, dim: int) -> tuple[Array, Array]:
    """float32 points and the centres of their clusters.

    Clusters are of unequal size and width, the noise within them is stronger in some directions than in others, and
    some samples lie between two clusters, as it is in the embeddings of a trained model.
    """
    if kind == "isotropic":
        points_ND = rng.standard_normal((rows, dim), np.float32)
        return points_ND, points_ND[:_CLUSTERS]
    centres_MD = rng.standard_normal((_CLUSTERS, dim), np.float32)
    widths_M = rng.uniform(0.3, 0.9, _CLUSTERS).astype(np.float32)
    spectrum_D = np.sqrt(8 / (8 + np.arange(dim, dtype=np.float32)))
    clusters_N, others_N = rng.choice(_CLUSTERS, (2, rows), p=rng.dirichlet(np.full(_CLUSTERS, 2.0)))
    blend_N1 = rng.beta(0.6, 2, (rows, 1)).astype(np.float32) / 2
    points_ND = rng.standard_normal((rows, dim), np.float32)
    points_ND *= spectrum_D
    points_ND *= widths_M[clusters_N, None]
    points_ND += (1 - blend_N1) * centres_MD[clusters_N]
    points_ND += blend_N1 * centres_MD[others_N]
    if kind == "unit":
        points_ND /= np.linalg.norm(points_ND, axis=1, keepdims=True)
    return points_ND, centres_MD


def _head(rng: np.random.Generator, points_ND: Array, centres_MD: Array, classes: int) -> tuple[Array, Array]:
    """A linear head that tells groups of clusters apart, as sure of half of the samples as `_MEDIAN_TOP` says."""
    owners_M = rng.permutation(np.arange(len(centres_MD)) % classes)
    means = [centres_MD[owners_M == c].mean(0) if (owners_M == c).any() else centres_MD[c % 2] for c in range(classes)]
    weights_CD = np.stack(means)
    bias_C = -(weights_CD**2).sum(1) / 2
    sample_SC = points_ND[:2_000] @ weights_CD.T + bias_C
    scales = np.geomspace(1e-2, 1e3, 60, dtype=np.float32)
    scale = next((s for s in scales if np.median(softmax(sample_SC * s).max(1)) >= _MEDIAN_TOP), scales[0])
    return weights_CD * scale, bias_C * scale


def softmax(logits_NC: Array) -> Array:
    """float32 probabilities, whose rows sum to 1."""
    probs_NC = logits_NC - logits_NC.max(1, keepdims=True)
    np.exp(probs_NC, out=probs_NC)
    probs_NC /= probs_NC.sum(1, keepdims=True)
    return probs_NC


def _member_probs(rng: np.random.Generator, arrays: dict[str, Array], size: Size) -> Array:
    """(K, N, C): each member sees the logits through noise of its own."""
    probs_KNC = np.empty((size.members, size.rows, size.classes), np.float32)
    for probs_NC in probs_KNC:
        probs_NC[:] = softmax(arrays["logits"] + rng.standard_normal(probs_NC.shape, np.float32))
    return probs_KNC


def _radius(rng: np.random.Generator, arrays: dict[str, Array], size: Size) -> Array:
    """The distance within which half of the samples have about 50 neighbours."""
    points_ND = arrays["embeddings"]
    sample_SD = points_ND[rng.choice(size.rows, min(256, size.rows), replace=False)]
    squared_SN = (sample_SD**2).sum(1)[:, None] + (points_ND**2).sum(1) - 2 * sample_SD @ points_ND.T
    neighbour = min(_NEIGHBOURS, size.rows // 10)
    return np.array(np.median(np.sqrt(np.partition(squared_SN, neighbour, axis=1)[:, neighbour])))


_DERIVED: Mapping[str, Callable[[np.random.Generator, dict[str, Array], Size], Array]] = {
    "member_probs": _member_probs,
    "radius": _radius,
}


def blocks(rows: int, length: int = 1 << 14) -> list[slice]:
    """Slices of so many rows each."""
    return [slice(start, start + length) for start in range(0, rows, length)]
