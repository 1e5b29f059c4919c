"""Writes are whole or leave nothing: full disks, failing sources, kill -9, and the sweep after them."""

import errno
import json
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.adapters.arrow.errors import storage_error
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.segments import Owner, Swept
from assay.server.core.records.predictions import PredictionColumns
from assay.server.core.records.samples import SampleColumns, SegmentFile
from tests.segments.builders import POOL, embeddings, files_below, keep_all, rows, samples, start_python, vectors

# Writes pairs of files for ever and names each when it is complete.
WRITER = """
import dataclasses, json, pathlib, sys
import numpy as np
from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.core.types import SampleColumns
store = ArrowSegmentStore(pathlib.Path(sys.argv[1]))
vectors = np.ones((4096, 256), np.float32)
for start in range(0, 10**9, 4096):
    rows = np.arange(start, start + 4096)
    file = store.write_samples(1, rows, SampleColumns([f"id {row}" for row in rows]))
    print(json.dumps(dataclasses.asdict(file) | {"rows": None}), flush=True)
    file = store.write_vectors(1, "pushed", rows, vectors, None)
    print(json.dumps(dataclasses.asdict(file) | {"rows": None}), flush=True)
"""

# Dies by signal 9 with a file half written.
DYING_WRITER = """
import os, pathlib, signal, sys
from assay.server.adapters.arrow import ArrowSegmentStore
def chunks():
    yield b"x" * 100_000
    os.kill(os.getpid(), signal.SIGKILL)
ArrowSegmentStore(pathlib.Path(sys.argv[1])).write_model(1, "model", chunks())
"""


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """Writes beyond a size fail, as on a full disk (Python ignores the signal that comes with it)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_nothing_behind(store: ArrowSegmentStore, data_dir: Path) -> None:
    before = vectors(store, 0, embeddings(500, 128))
    sources = [samples(store, 0, SampleColumns([f"{i:0200d}" for i in range(1000)]))]
    kept = files_below(data_dir)
    attempts = {
        "samples": lambda: store.write_samples(POOL, rows(0, 1), SampleColumns(["a"], payloads=[b"x" * 200_000])),
        "vectors": lambda: store.write_vectors(POOL, "pushed", rows(0, 500), embeddings(500, 128), None),
        "predictions": lambda: store.write_predictions(
            POOL, "mine", rows(0, 500), PredictionColumns(embeddings(500, 128))
        ),
        "model": lambda: store.write_model(POOL, "m", iter([b"x" * 60_000] * 4)),
        "merged vectors": lambda: store.merge_vectors(POOL, [before], keep_all),
        "merged samples": lambda: store.merge_samples(POOL, sources, keep_all),
    }
    for name, attempt in attempts.items():
        with file_size_limit(100_000), pytest.raises(AssayError) as caught:
            attempt()
        assert caught.value.reason is Reason.STORAGE_FULL, name
        assert int(caught.value.metadata["bytes_needed"]) >= 100_000
        assert files_below(data_dir) == kept, name
    store.verify(before.file)


def test_no_space_left_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="space") as caught, open("/dev/full", "wb", buffering=0) as full:
        full.write(b"x")
    error = storage_error(caught.value, tmp_path / "file", 123)
    assert error.reason is Reason.STORAGE_FULL
    assert error.metadata["bytes_needed"] == "123"
    assert int(error.metadata["bytes_free"]) > 0


def test_what_is_in_the_way_is_a_failure(store: ArrowSegmentStore, data_dir: Path) -> None:
    (data_dir / "pools").write_text("not a folder")
    with pytest.raises(AssayError) as caught:
        store.write_vectors(POOL, "pushed", rows(0, 1), embeddings(1, 2), None)
    assert caught.value.reason is Reason.STORAGE_FAILED
    with pytest.raises(AssayError) as caught:
        ArrowSegmentStore(data_dir / "pools" / "data")
    assert caught.value.reason is Reason.STORAGE_FAILED


def test_a_model_is_written_as_it_comes(store: ArrowSegmentStore, data_dir: Path) -> None:
    content = bytes(range(256)) * 20_000
    chunks = (content[start : start + 70_001] for start in range(0, len(content), 70_001))
    file, size, digest = store.write_model(POOL, "minilm", chunks)
    assert (size, digest) == (len(content), sha256(content).hexdigest())
    with store.open_model(file) as stream:
        assert stream.read() == content
    assert Path(store.model_path(file)) == data_dir / file
    assert store.write_model(POOL, "minilm", [b"again"])[0] != file
    with pytest.raises(AssayError) as caught:
        store.open_model("pools/7/models/none")
    assert caught.value.reason is Reason.SEGMENT_DAMAGED


def test_a_failing_source_leaves_nothing_behind(store: ArrowSegmentStore, data_dir: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"half"
        raise AssayError(Reason.TOO_LARGE, "too large")

    with pytest.raises(AssayError) as caught:
        store.write_model(POOL, "m", broken())
    assert caught.value.reason is Reason.TOO_LARGE
    assert files_below(data_dir) == set()


def test_sweep_leaves_what_is_named_and_what_is_derived(store: ArrowSegmentStore, data_dir: Path) -> None:
    kept = [vectors(store, 0, embeddings(2, 2)).file.file, store.write_model(POOL, "m", [b"x"])[0]]
    gone = [samples(store, 0, SampleColumns(["a"])).file.file, store.write_model(99, "m", [b"x"])[0]]
    half = f"pools/{POOL}/samples/samples-1.arrow.tmp"
    (data_dir / half).write_bytes(b"half")
    (data_dir / "derived").mkdir()
    (data_dir / "derived/index").write_bytes(b"index")
    assert store.sweep(set(kept)).files == sorted([*gone, half])
    assert files_below(data_dir) == {*kept, "derived/index"}
    assert not (data_dir / "pools/99").exists()
    assert not (data_dir / f"pools/{POOL}/samples").exists()
    assert store.sweep(set(kept)) == Swept([], [])
    assert store.sweep(set()).files == sorted(kept)
    assert not (data_dir / "pools").exists()
    assert samples(store, 0, SampleColumns(["a"])).find(["a"]).tolist() == [0]


def test_a_sweep_moves_instead_of_deleting_while_a_named_file_is_missing(
    store: ArrowSegmentStore, data_dir: Path
) -> None:
    kept = samples(store, 0, SampleColumns(["a"])).file.file
    lost = samples(store, 1, SampleColumns(["b"])).file.file
    unnamed = [samples(store, 2, SampleColumns(["c"])).file.file, store.write_model(99, "m", [b"x"])[0]]
    content = {file: (data_dir / file).read_bytes() for file in unnamed}
    (data_dir / lost).unlink()
    swept = store.sweep({kept, lost})
    assert swept == Swept(sorted(unnamed), [lost], str(data_dir / "swept"))
    assert {file: (data_dir / "swept" / file).read_bytes() for file in unnamed} == content
    assert files_below(data_dir) == {kept, *(f"swept/{file}" for file in unnamed)}
    assert store.sweep({kept, lost}) == Swept([], [lost])
    again = samples(store, 3, SampleColumns(["d"])).file.file
    assert store.sweep({kept}) == Swept([again], [])
    assert files_below(data_dir) == {kept, *(f"swept/{file}" for file in unnamed)}


def test_files_that_are_newer_than_the_catalog_are_told(store: ArrowSegmentStore) -> None:
    known, cut_off, later = (samples(store, row, SampleColumns(["x"])).file.file for row in (0, 1, 2))
    new_pool = store.write_model(8, "m", [b"x"])[0]
    uid = int(known.split("/")[1])
    assert store.ahead({uid: 1, 5: 0}, 7) == sorted([later, new_pool])
    assert store.ahead({uid: 2}, 8) == []
    assert store.ahead({}, 8) == []
    assert store.sweep({known, cut_off}, aside=True).moved_to


def test_a_sweep_does_not_follow_links(store: ArrowSegmentStore, data_dir: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("mine")
    (data_dir / "pools").mkdir()
    (data_dir / "pools/link").symlink_to(outside)
    store.sweep(set())
    assert (outside / "precious").exists()


def test_a_death_in_the_middle_of_a_write_leaves_only_what_is_swept(store: ArrowSegmentStore, data_dir: Path) -> None:
    process = start_python(DYING_WRITER, data_dir)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    (half,) = files_below(data_dir)
    assert half.endswith(".tmp")
    assert store.sweep(set()).files == [half]
    assert files_below(data_dir) == set()


@pytest.mark.parametrize("complete", [3, 8])
def test_what_was_acknowledged_survives_a_kill(store: ArrowSegmentStore, data_dir: Path, complete: int) -> None:
    process = start_python(WRITER, data_dir)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(complete)]
    process.kill()
    lines += process.communicate()[0].splitlines(keepends=True)
    files = [SegmentFile(**json.loads(line) | {"rows": b""}) for line in lines if line.endswith("\n")]
    store.sweep({file.file for file in files})
    assert files_below(data_dir) == {file.file for file in files}
    for file in files:
        if file.kind == "vectors":
            assert np.all(store.open_vectors(file, verify=True).embeddings_ND == 1)
        else:
            segment = store.open_samples(file, verify=True)
            assert segment.find([f"id {file.last_row}"]).tolist() == [file.last_row]


def test_a_directory_says_whose_it_is(data_dir: Path) -> None:
    store = ArrowSegmentStore(data_dir)
    assert store.owner() is None
    for owner in (Owner("one", "here"), Owner("two", "there")):
        store.join(owner)
        assert ArrowSegmentStore(data_dir).owner() == owner


@pytest.mark.parametrize("content", ["", "one\n", "\xff\n"])
def test_a_directory_that_does_not_say_all_names_no_directory(data_dir: Path, content: str) -> None:
    store = ArrowSegmentStore(data_dir)
    (data_dir / "catalog-id").write_text(content, encoding="latin-1")
    owner = store.owner()
    assert owner is not None
    assert owner.directory == ""


def test_a_name_half_written_before_a_crash_is_not_in_the_way(data_dir: Path) -> None:
    store = ArrowSegmentStore(data_dir)
    (data_dir / "catalog-id.tmp").write_text("")
    store.join(Owner("one", "here"))
    assert store.owner() == Owner("one", "here")
    assert not (data_dir / "catalog-id.tmp").exists()


def test_a_name_that_cannot_be_written_leaves_the_one_before(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ArrowSegmentStore(data_dir)
    store.join(Owner("one", "here"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(AssayError) as refused:
        store.join(Owner("two", "there"))
    assert refused.value.reason is Reason.STORAGE_FULL
    assert store.owner() == Owner("one", "here")
