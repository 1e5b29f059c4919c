"""A file that is not what was written says so, by name, and never crashes its reader."""

import dataclasses
import mmap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.segments import SampleSegment
from assay.server.core.records.filters import Compare
from assay.server.core.records.predictions import ObjectColumns, PredictionColumns
from assay.server.core.records.samples import SampleColumns, SegmentFile
from tests.segments.builders import POOL, attribute, embeddings, rows


def write_samples(store: ArrowSegmentStore) -> SegmentFile:
    columns = SampleColumns(
        ["a", "bb", "ccc"],
        uris=["u", "", "w"],
        payloads=[b"1", b"", b"333"],
        payload_media_type="text/plain",
        attributes={"word": attribute("string", ["x", None, "z"]), "year": attribute("int64", [1, 2, None])},
        predictions_NC=np.full((3, 2), 0.5, np.float32),
        inputs={"x": np.ones((3, 2), np.int64)},
    )
    return store.write_samples(POOL, rows(0, 3), columns)


def write_vectors(store: ArrowSegmentStore) -> SegmentFile:
    return store.write_vectors(POOL, "pushed", rows(0, 3), embeddings(3, 2), embeddings(3, 4))


def write_predictions(store: ArrowSegmentStore) -> SegmentFile:
    objects = ObjectColumns(np.array([0, 2, 2, 3]), np.full((3, 2), 0.5, np.float32), np.ones((3, 4), np.float32))
    return store.write_predictions(POOL, "mine", rows(0, 3), PredictionColumns(objects=objects))


def write_numbers(store: ArrowSegmentStore) -> SegmentFile:
    return store.write_predictions(POOL, "mine", rows(0, 3), PredictionColumns(embeddings(3, 2), embeddings(3, 2)))


WRITERS = [write_samples, write_vectors, write_predictions, write_numbers]


def open_file(store: ArrowSegmentStore, file: SegmentFile, verify: bool) -> None:
    """Opens and reads all of it."""
    if file.kind == "vectors":
        np.isfinite(store.open_vectors(file, verify=verify).embeddings_ND)
    elif file.kind == "predictions":
        store.open_predictions(file, verify=verify).columns.taken(np.arange(file.count))
    else:
        read_all(store.open_samples(file, verify=verify))


def read_all(segment: SampleSegment) -> None:
    segment.describe(np.arange(segment.file.count))
    segment.find(["a", "none"])
    segment.matches(Compare("year", ">", 1))
    _ = segment.predictions_NC
    for start, stop in segment.input_runs:
        segment.inputs(start, stop)


def is_damaged(file: SegmentFile, act: Callable[[], object]) -> bool:
    """Whether an act says that this very file is damaged; no other error is let through."""
    try:
        act()
    except AssayError as raised:
        error = raised
    else:
        return False
    assert error.reason is Reason.SEGMENT_DAMAGED
    assert error.metadata["file"] == file.file
    assert file.file in error.message
    return True


@pytest.mark.parametrize("write", WRITERS)
def test_any_flipped_byte_is_detected(
    store: ArrowSegmentStore, data_dir: Path, write: Callable[[ArrowSegmentStore], SegmentFile]
) -> None:
    file = write(store)
    with open(data_dir / file.file, "r+b") as stream, mmap.mmap(stream.fileno(), 0) as content:
        for position in range(len(content)):
            content[position] ^= 0x10
            assert is_damaged(file, lambda: store.verify(file)), position
            content[position] ^= 0x10
    store.verify(file)


@pytest.mark.parametrize("write", WRITERS)
@given(data=st.data())
def test_an_unverified_file_is_damaged_or_readable(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, write: Callable[[ArrowSegmentStore], SegmentFile]
) -> None:
    data_dir = tmp_path_factory.mktemp("data")
    store = ArrowSegmentStore(data_dir)
    file = write(store)
    content = bytearray((data_dir / file.file).read_bytes())
    start = data.draw(st.integers(0, len(content) - 1))
    garbage = data.draw(st.binary(min_size=1, max_size=16))
    content[start : start + len(garbage)] = garbage[: len(content) - start]
    (data_dir / file.file).write_bytes(content)
    is_damaged(file, lambda: open_file(store, file, verify=False))


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("write", WRITERS)
def test_a_truncated_file_is_damaged(
    store: ArrowSegmentStore, data_dir: Path, write: Callable[[ArrowSegmentStore], SegmentFile], verify: bool
) -> None:
    file = write(store)
    path = data_dir / file.file
    content = path.read_bytes()
    for length in (0, 1, 9, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        assert is_damaged(file, lambda: open_file(store, file, verify))
        # A catalog that agrees with the wrong size does not help.
        shorter = dataclasses.replace(file, size=length)
        assert is_damaged(file, lambda shorter=shorter: open_file(store, shorter, verify))


def test_a_missing_file_is_damaged(store: ArrowSegmentStore) -> None:
    file = write_vectors(store)
    store.discard([file.file])
    for verify in (True, False):
        assert is_damaged(file, lambda verify=verify: open_file(store, file, verify))


def test_another_file_in_its_place_is_damaged(store: ArrowSegmentStore, data_dir: Path) -> None:
    file = write_vectors(store)
    other = store.write_vectors(POOL, "pushed", rows(10, 3), embeddings(3, 2), embeddings(3, 4))
    samples = write_samples(store)
    assert is_damaged(file, lambda: store.open_vectors(dataclasses.replace(other, file=file.file), verify=True))
    (data_dir / other.file).replace(data_dir / file.file)
    assert is_damaged(file, lambda: store.open_vectors(file, verify=False))
    assert is_damaged(samples, lambda: store.open_vectors(samples, verify=False))


@pytest.mark.parametrize("name", ["/etc/passwd", "pools/../../x/y", "derived/a/b", "pools//x/y", "", "pools/a\0/b"])
def test_a_name_outside_the_store_is_refused(store: ArrowSegmentStore, name: str) -> None:
    file = SegmentFile(name, "vectors", "pushed", 0, 0, 1, 1, "")
    for act in (
        lambda: store.open_vectors(file, verify=False),
        lambda: store.verify(file),
        lambda: store.open_model(name),
        lambda: store.model_path(name),
        lambda: store.discard([name]),
    ):
        assert is_damaged(file, act)
