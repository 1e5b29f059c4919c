"""Which data files an ONNX file names: as much of its format as that takes, so that the client needs no onnx package.

An ONNX file is one protobuf message. Its tensors may keep their bytes in other files ("external data"), which exporters
write beside it. The fields are those of onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

# Messages of onnx.proto that lead to a tensor: their fields that do, and the message that each holds.
_FIELDS: Final[Mapping[str, Mapping[int, str]]] = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Function": {7: "Node", 11: "Attribute"},
    "Graph": {1: "Node", 5: "Tensor", 15: "Sparse"},
    "Node": {5: "Attribute"},
    "Attribute": {5: "Tensor", 6: "Graph", 10: "Tensor", 11: "Graph", 22: "Sparse", 23: "Sparse"},
    "Sparse": {1: "Tensor", 2: "Tensor"},
    "Tensor": {13: "Entry"},
    "Entry": {1: "Key", 2: "Value"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_MAX_DEPTH = 200
_MAX_NAME = 4096  # bytes; no file system has longer ones


class _NotOnnx(Exception):
    """Bytes that are no protobuf message; what is wrong with them is for the server to say."""


def data_file_names(path: Path) -> list[str]:
    """Names of the files that hold tensors of an ONNX file, in the order of their first mention; none if it is no ONNX
    file."""
    if path.stat().st_size == 0:
        return []
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return list(dict.fromkeys(_locations(content, 0, len(content), "Model", 0)))
        except _NotOnnx:
            return []


def find_data_files(path: Path) -> dict[str, Path]:
    """The data files that an ONNX file names, by name; they lie beside it.

    A file that somebody else made says which files are sent. So only regular files below the ONNX file's own folder are
    taken (where the two are links, as in a download cache: below the folder that they lead to).

    Raises:
        ValueError: a name leads out of the folder.
        FileNotFoundError: a file is not there.
    """
    return {name: _beside(path, name) for name in data_file_names(path)}


def _beside(path: Path, name: str) -> Path:
    parts = PurePosixPath(name).parts
    if not parts or name.startswith(("/", "\\")) or ".." in parts or "\0" in name or ":" in name:
        raise ValueError(
            f"{path} keeps tensors in {name!r}, which is not beside it: nothing was sent. Save the model with its "
            "weights inside, or pass data_files"
        )
    file = path.parent.joinpath(*parts)
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} keeps tensors in {name!r}, and there is no such file beside it. Copy it there, or pass data_files"
        )
    homes = (path.parent.resolve(), path.resolve().parent)
    if not any(file.resolve().is_relative_to(home) for home in homes):
        raise ValueError(
            f"{path} keeps tensors in {name!r}, which is a link that leads elsewhere: nothing was sent. Copy the file "
            "there, or pass data_files"
        )
    return file


def _locations(content: mmap.mmap, start: int, stop: int, message: str, depth: int) -> Iterator[str]:
    """Values of the key "location" of all tensors within a message."""
    if depth > _MAX_DEPTH:
        raise _NotOnnx
    if message == "Entry":
        pair = {
            number: content[first : min(last, first + _MAX_NAME)]
            for number, first, last in _fields(content, start, stop)
        }
        if pair.get(1) == b"location":
            yield _normal(_text(pair.get(2, b"")))
        return
    for number, first, last in _fields(content, start, stop):
        inner = _FIELDS[message].get(number)
        if inner is not None:
            yield from _locations(content, first, last, inner, depth + 1)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _NotOnnx from None


def _normal(name: str) -> str:
    """As the server names it."""
    return name.removeprefix("./")


def _fields(content: mmap.mmap, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(number, first, last) of each field of a message that holds bytes; others are passed over."""
    while start < stop:
        key, start = _varint(content, start, stop)
        kind = key & 7
        if kind == _VARINT:
            _, start = _varint(content, start, stop)
            continue
        if kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        elif kind == _BYTES:
            size, start = _varint(content, start, stop)
        else:
            raise _NotOnnx
        if start + size > stop:
            raise _NotOnnx
        if kind == _BYTES:
            yield key >> 3, start, start + size
        start += size


def _varint(content: mmap.mmap, start: int, stop: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if start >= stop:
            raise _NotOnnx
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
    raise _NotOnnx
