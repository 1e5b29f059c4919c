"""What is known of a stored index, as a small JSON file beside it."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

import xxhash

from assay.server.adapters.vector_index.library import faiss
from assay.server.core.records.pools import Metric

FORMAT = 2


def faiss_release() -> str:
    """FAISS's release as far as its file format may depend on it."""
    return ".".join(faiss.__version__.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Description of an index file.

    Attributes:
        space: embedding space of its vectors.
        metric: the pool's metric.
        dimension: number of components of a vector.
        kind: "hnsw" or "ivf".
        count: vectors that it holds.
        epoch: epoch of the pool that it was built from.
        trained: vectors that it held when its lists were laid out ("ivf"), or when it was first built.
        file: name of the index file, in the same folder.
        size: bytes of the index file.
        checksum: xxh3-128 of the index file, hexadecimal.
        format: version of this layout.
        release: FAISS release that wrote the file.
    """

    space: str
    metric: Metric
    dimension: int
    kind: str
    count: int
    epoch: int
    trained: int
    file: str = ""
    size: int = 0
    checksum: str = ""
    format: int = FORMAT
    release: str = dataclasses.field(default_factory=faiss_release)

    def fits(self, space: str, metric: Metric, dimension: int) -> bool:
        """Whether the file can be read by this software and serves this space."""
        wanted = (space, metric, dimension, FORMAT, faiss_release())
        return wanted == (self.space, self.metric, self.dimension, self.format, self.release)

    def encode(self) -> bytes:
        """As JSON, with a checksum of its own."""
        fields = dataclasses.asdict(self)
        return json.dumps({**fields, "sidecar_checksum": _checksum(fields)}, indent=1).encode()

    @staticmethod
    def decode(data: bytes) -> "Sidecar":
        """From JSON. Raises ValueError if it is not what encode() wrote."""
        fields = json.loads(data)
        if not isinstance(fields, dict) or fields.pop("sidecar_checksum", None) != _checksum(fields):
            raise ValueError("the sidecar of an index is damaged")
        try:
            return Sidecar(**{**fields, "metric": Metric(fields["metric"])})
        except (KeyError, TypeError) as error:
            raise ValueError("the sidecar of an index has other fields") from error


def _checksum(fields: dict[str, Any]) -> str:
    return xxhash.xxh3_64_hexdigest(json.dumps(fields, sort_keys=True).encode())
