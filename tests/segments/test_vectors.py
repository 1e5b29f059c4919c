"""Vectors files: exact bits, mapped and aligned."""

from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.arrow import ArrowSegmentStore
from tests.segments.builders import POOL, embeddings, rows, vectors


def mappings_of(path: Path) -> list[tuple[int, int]]:
    """Address ranges at which this process maps a file."""
    lines = [line.split() for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [line[0].split("-") for line in lines if line[-1] == str(path)]
    return [(int(start, 16), int(stop, 16)) for start, stop in ranges]


@pytest.mark.parametrize(("count", "dimension", "classes"), [(1, 1, 1), (1001, 7, 3), (64, 384, None)])
def test_vectors_are_views_of_the_mapped_file(
    store: ArrowSegmentStore, data_dir: Path, count: int, dimension: int, classes: int | None
) -> None:
    given = embeddings(count, dimension)
    logits = None if classes is None else embeddings(count, classes, seed=1)
    segment = vectors(store, 9, given, logits)
    (start, stop), *_ = mappings_of(data_dir / segment.file.file)
    for written, read in ((given, segment.embeddings_ND), (logits, segment.logits_NC)):
        if written is None or read is None:
            assert written is read
            continue
        np.testing.assert_array_equal(read, written)
        assert read.dtype == np.float32
        assert read.flags.c_contiguous
        assert not read.flags.writeable
        assert start <= read.ctypes.data < read.ctypes.data + read.nbytes <= stop
    assert segment.embeddings_ND.ctypes.data % 64 == 0
    assert segment.rows_N.tolist() == list(range(9, 9 + count))


def test_no_descriptor_stays_open_while_a_file_is_mapped(store: ArrowSegmentStore, data_dir: Path) -> None:
    segment = vectors(store, 0, embeddings(4, 4))
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    assert data_dir / segment.file.file not in [link.readlink() for link in links if link.exists()]
    assert mappings_of(data_dir / segment.file.file)


def test_arrays_of_any_order_and_type_are_written_as_float32(store: ArrowSegmentStore) -> None:
    given = np.asfortranarray(embeddings(6, 4).astype(np.float64))[::2]
    np.testing.assert_array_equal(vectors(store, 0, given).embeddings_ND, given.astype(np.float32))


def test_the_file_says_where_it_belongs(store: ArrowSegmentStore, data_dir: Path) -> None:
    file = store.write_vectors(POOL, "minilm", np.array([3, 8]), embeddings(2, 4), None)
    assert (file.kind, file.space, file.first_row, file.last_row, file.count) == ("vectors", "minilm", 3, 8, 2)
    assert file.file.startswith(f"pools/{POOL}/vectors/minilm/vectors-000000000003-")
    assert file.size == (data_dir / file.file).stat().st_size


def test_unequal_lengths_are_refused(store: ArrowSegmentStore) -> None:
    with pytest.raises(ValueError, match="length"):
        store.write_vectors(POOL, "pushed", rows(0, 2), embeddings(3, 4), None)


@pytest.mark.parametrize("space", ["", ".", "..", "a/b", "..\\c", "nul\0"])
def test_a_space_cannot_lead_out_of_the_store(store: ArrowSegmentStore, space: str) -> None:
    with pytest.raises(ValueError, match="path"):
        store.write_vectors(POOL, space, rows(0, 1), embeddings(1, 4), None)


def test_a_discarded_file_stays_readable_while_mapped(store: ArrowSegmentStore, data_dir: Path) -> None:
    given = embeddings(10, 4)
    segment = vectors(store, 0, given)
    store.discard([segment.file.file, segment.file.file])
    assert not (data_dir / segment.file.file).exists()
    np.testing.assert_array_equal(segment.embeddings_ND, given)
