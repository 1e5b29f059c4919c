"""A small labeled corpus: lines of three topics whose embeddings overlap enough for some to be hard to tell apart."""

from collections.abc import Sequence

import numpy as np

from assay.client import Classification

CLASSES = ("sport", "science", "politics")
DIMENSION = 8


class Corpus:
    """`count` samples d000, d001, ... with texts, embeddings, attributes and what a person would answer."""

    def __init__(self, count: int = 120, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.classes_N = rng.integers(0, len(CLASSES), count)
        noise_ND = rng.normal(size=(count, DIMENSION))
        self.embeddings_ND = (noise_ND + 2.5 * np.eye(DIMENSION)[self.classes_N]).astype(np.float32)
        self.ids = [f"d{index:03}" for index in range(count)]
        self.texts = [f"Line {index} is about {CLASSES[self.classes_N[index]]}." for index in range(count)]
        self.languages = ["en" if index % 3 else "de" for index in range(count)]
        self._answers = dict(zip(self.ids, (CLASSES[index] for index in self.classes_N), strict=True))

    def answers(self, sample_ids: Sequence[str]) -> dict[str, str]:
        """What a person answers, by sample."""
        return {sample_id: self._answers[sample_id] for sample_id in sample_ids}

    def create(self, client, pool, **options):
        """Makes a pool that holds it, texts as payloads; returns the pool's id."""
        client.create_pool(pool, task=Classification(CLASSES), **options)
        client.add_samples(
            pool,
            self.ids,
            embeddings=self.embeddings_ND,
            payloads=self.texts,
            attributes={"lang": self.languages, "words": list(range(len(self.ids)))},
            uris=[f"file:///corpus/{sample_id}.txt" for sample_id in self.ids],
        )
        return pool

    def label(self, client, pool, sample_ids, worker="ann"):
        """Labels samples from elsewhere, without a lease."""
        return client.annotate(pool, self.answers(sample_ids), worker)
