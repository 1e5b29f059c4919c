"""What a sample holds, made from its id and version alone: so anything read back can be told right or wrong."""

from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

CLASSES = ("amber", "basalt", "cobalt", "dolomite")
DIMENSION = 64
VERSION = "version"
PART = "part"
# Labelers work on the stock; samples of the churn are replaced and deleted.
STOCK, CHURN = "stock", "churn"


@dataclass(frozen=True, slots=True)
class Content:
    """One sample as it was sent."""

    id: str
    version: int

    @property
    def payload(self) -> str:
        """Text of 100 to 400 bytes."""
        return f"{self.id} in version {self.version}. " + "ore " * (20 + self._seed % 80)

    @property
    def attributes(self) -> dict[str, str | int | float | bool]:
        """One attribute of each type."""
        seed = self._seed
        return {PART: part_of(self.id), VERSION: self.version, "weight": seed / 7, "even": seed % 2 == 0}

    @property
    def embedding_D(self) -> NDArray[np.float32]:
        """The vector, float32."""
        return np.random.default_rng(self._seed).standard_normal(DIMENSION, dtype=np.float32)

    @property
    def class_name(self) -> str:
        """A class that a linear head can learn."""
        return CLASSES[int(np.argmax(self.embedding_D[: len(CLASSES)]))]

    @property
    def _seed(self) -> int:
        return crc32(f"{self.id}/{self.version}".encode())


def sample_id(part: str, number: int) -> str:
    """The id of a sample."""
    return f"{part}-{number:07d}"


def part_of(sample: str) -> str:
    """Which part of the pool a sample belongs to."""
    return sample.partition("-")[0]


def embeddings_ND(contents: Sequence[Content]) -> NDArray[np.float32]:
    """The vectors of several samples."""
    return np.stack([content.embedding_D for content in contents])


def attribute_columns(contents: Sequence[Content]) -> dict[str, list[str | int | float | bool]]:
    """The attributes of several samples, column by column."""
    rows = [content.attributes for content in contents]
    return {name: [row[name] for row in rows] for name in rows[0]}
