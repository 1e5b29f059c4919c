"""What a segment file says of itself, in the metadata of its schema."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_KEY = b"assay"
_FORMAT = 1

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Run:
    """Neighbouring samples whose model inputs have the same shapes; `shapes` is per sample, empty without inputs."""

    stop: int
    shapes: Shapes


@dataclass(frozen=True, slots=True)
class Header:
    """Kind of the file, and for samples the dtypes and runs of the model inputs."""

    kind: str
    dtypes: Mapping[str, str]
    runs: Sequence[Run] = ()


def encode(header: Header) -> dict[bytes, bytes]:
    """The header as schema metadata."""
    content = {
        "format": _FORMAT,
        "kind": header.kind,
        "inputs": dict(header.dtypes),
        "runs": [[run.stop, {name: list(shape) for name, shape in run.shapes.items()}] for run in header.runs],
    }
    return {_KEY: json.dumps(content).encode()}


def decode(schema: pa.Schema) -> Header:
    """The header of a file. Raises ValueError, KeyError or TypeError for one that is not ours."""
    content: dict[str, Any] = json.loads((schema.metadata or {})[_KEY])
    if content["format"] != _FORMAT:
        raise ValueError(f"unknown format {content['format']}")
    runs = [
        Run(int(stop), {name: tuple(map(int, shape)) for name, shape in shapes.items()})
        for stop, shapes in content["runs"]
    ]
    return Header(content["kind"], content["inputs"], runs)
