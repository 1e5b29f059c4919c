"""Documents into pools: tokenized here, embedded by the server, checked against a held-out set."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from assay.client import Classification, Client
from demo.errors import DemoError
from demo.newsgroups import Document, clip
from demo.tokens import Tokenizer

T = TypeVar("T")
Advance: TypeAlias = Callable[[int], None]

PAYLOAD_BYTES = 2048
_PART = 128


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Documents that are never in a pool: embeddings by the server's backbone, and the group of each."""

    embeddings_ND: NDArray[np.float32]
    groups: list[str]


def add_documents(
    client: Client, pool: str, documents: Sequence[Document], tokenizer: Tokenizer, advance: Advance
) -> None:
    """Add documents as token ids, which the server embeds; the text rides along as payload, the label does not.

    In parts, each durable when its call returns, so that `advance` tells what is stored and not what is sent.
    """
    for part in _parts(documents):
        texts = [clip(document.text, PAYLOAD_BYTES) for document in part]
        client.add_samples(
            pool,
            [document.id for document in part],
            inputs=tokenizer(texts),
            payloads=texts,
            media_type="text/plain",
            attributes={
                "words": [len(document.text.split()) for document in part],
                "reply": [document.text.startswith("re ") for document in part],
            },
        )
        advance(len(part))


def embed_held_out(
    client: Client, pool: str, documents: Sequence[Document], tokenizer: Tokenizer, advance: Advance
) -> HeldOut:
    """Have the server embed documents without adding them."""
    parts = []
    for part in _parts(documents):
        inputs = tokenizer([clip(document.text, PAYLOAD_BYTES) for document in part])
        parts.append(_embeddings(client, pool, inputs=inputs))
        advance(len(part))
    return HeldOut(np.concatenate(parts), [document.group for document in documents])


def copy_pool(client: Client, source: str, target: str, documents: Sequence[Document]) -> None:
    """A new pool of the same documents with the embeddings that the server made for `source`, and no labels."""
    ids = [document.id for document in documents]
    client.create_pool(target, task=Classification(client.get_pool(source).class_names), metric="cosine")
    embeddings_ND = np.concatenate([_embeddings(client, source, samples=part) for part in _parts(ids, 5000)])
    payloads = [clip(document.text, PAYLOAD_BYTES) for document in documents]
    client.add_samples(target, ids, embeddings=embeddings_ND, payloads=payloads, media_type="text/plain")


def _embeddings(client: Client, pool: str, **what: Any) -> NDArray[np.float32]:
    result = client.predict(pool, include_embeddings=True, **what)
    if result.embeddings_ND is None:
        raise DemoError(f"pool {pool} sent no embeddings")
    return result.embeddings_ND


def _parts(rows: Sequence[T], size: int = _PART) -> Iterator[Sequence[T]]:
    return (rows[start : start + size] for start in range(0, len(rows), size))
