"""Stored indexes: what is loaded is what was built, or nothing; a crash leaves the old one or the new one."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.vector_index import FaissIndex, FaissIndexBuilder
from assay.server.adapters.vector_index.sidecar import Sidecar
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.pools import Metric
from tests.index.pools import as_stored, blocks_of, clustered, cut

COUNT, DIMENSION = 400, 16
KINDS = ["hnsw", "ivf"]


def builder_for(directory: Path, kind: str = "hnsw") -> FaissIndexBuilder:
    return FaissIndexBuilder(directory, hnsw_from=100, ivf_from=100 if kind == "ivf" else 10**9)


def build(
    builder: FaissIndexBuilder,
    count: int = COUNT,
    *,
    space: str = "pushed",
    metric: Metric = Metric.COSINE,
    base: FaissIndex | None = None,
    pool_uid: int = 1,
) -> FaissIndex:
    segments = cut(np.arange(count), as_stored(metric, clustered(count, DIMENSION, 1)), 2)
    index = builder.build(pool_uid, space, metric, DIMENSION, lambda: blocks_of(segments), count, base, lambda: False)
    assert index is not None
    return index


def load(directory: Path, space: str = "pushed", metric: Metric = Metric.COSINE) -> FaissIndex | None:
    return builder_for(directory).load(1, space, metric, DIMENSION)


def folder(directory: Path) -> Path:
    return directory / "1" / "pushed"


def index_file(directory: Path) -> Path:
    (found,) = folder(directory).glob("index-*.faiss")
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", list(Metric))
def test_loaded_equals_built(tmp_path: Path, kind: str, metric: Metric) -> None:
    index = build(builder_for(tmp_path, kind), metric=metric)
    loaded = load(tmp_path, metric=metric)
    assert loaded is not None
    assert loaded.kind == kind
    np.testing.assert_array_equal(loaded.indexed_rows, index.indexed_rows)
    queries_QD = clustered(20, DIMENSION, 2)
    allowed = np.arange(COUNT) % 3 > 0
    for mask in (None, allowed):
        np.testing.assert_array_equal(loaded.search(queries_QD, 7, mask)[1], index.search(queries_QD, 7, mask)[1])
        np.testing.assert_array_equal(loaded.search(queries_QD, 7, mask)[0], index.search(queries_QD, 7, mask)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_is_mapped_and_outlives_its_files_name(tmp_path: Path, kind: str) -> None:
    index = build(builder_for(tmp_path, kind))
    assert str(index_file(tmp_path)) in Path("/proc/self/maps").read_text()
    queries_QD = clustered(20, DIMENSION, 2)
    before = index.search(queries_QD, 7, None)
    builder_for(tmp_path).forget(1)
    np.testing.assert_array_equal(index.search(queries_QD, 7, None)[1], before[1])


def test_a_loaded_index_can_be_extended(tmp_path: Path) -> None:
    build(builder_for(tmp_path))
    loaded = load(tmp_path)
    assert loaded is not None
    extended = build(builder_for(tmp_path), COUNT + 50, base=loaded)
    assert len(extended.indexed_rows) == COUNT + 50
    again = load(tmp_path)
    assert again is not None
    np.testing.assert_array_equal(again.indexed_rows, np.arange(COUNT + 50))


def test_nothing_stored_is_none(tmp_path: Path) -> None:
    assert load(tmp_path) is None


@pytest.mark.parametrize(
    ("space", "metric", "dimension"),
    [("pushed", Metric.L2, DIMENSION), ("pushed", Metric.COSINE, DIMENSION + 1)],
)
def test_an_index_for_something_else_is_dropped(tmp_path: Path, space: str, metric: Metric, dimension: int) -> None:
    build(builder_for(tmp_path))
    assert builder_for(tmp_path).load(1, space, metric, dimension) is None
    assert not folder(tmp_path).exists()


@pytest.mark.parametrize(("field", "value"), [("format", 0), ("release", "1.2"), ("space", "other")])
def test_another_version_or_a_moved_folder_is_dropped(tmp_path: Path, field: str, value: object) -> None:
    sidecar = build(builder_for(tmp_path)).sidecar
    fields = {name: getattr(sidecar, name) for name in Sidecar.__dataclass_fields__} | {field: value}
    (folder(tmp_path) / "index.json").write_bytes(Sidecar(**fields).encode())
    assert load(tmp_path) is None


def flip(path: Path, place: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 0x20
    path.write_bytes(data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", [0.0, 0.001, 0.5, 1.0])
def test_a_flipped_byte_in_the_index_is_found(tmp_path: Path, kind: str, place: float) -> None:
    build(builder_for(tmp_path, kind))
    flip(index_file(tmp_path), place)
    assert load(tmp_path) is None
    assert not folder(tmp_path).exists()


def test_a_base_that_was_damaged_meanwhile_is_built_afresh(tmp_path: Path) -> None:
    base = build(builder_for(tmp_path))
    path = index_file(tmp_path)
    data = path.read_bytes()
    path.unlink()  # what the base maps stays as it was
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    extended = build(builder_for(tmp_path), COUNT + 50, base=base)
    assert extended.sidecar.trained == COUNT + 50
    np.testing.assert_array_equal(extended.indexed_rows, np.arange(COUNT + 50))


def test_every_flipped_byte_in_the_sidecar_is_found(tmp_path: Path) -> None:
    data = build(builder_for(tmp_path)).sidecar.encode()
    good = Sidecar.decode(data)
    for place in range(len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 0x01
        try:
            read = Sidecar.decode(bytes(spoilt))
        except ValueError:
            continue
        assert read == good  # white space


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.parent / "index.json").write_text("[]"),
        lambda path: (path.parent / "index.json").write_text(json.dumps({"sidecar_checksum": None})),
        lambda path: (path.parent / "index.json").write_bytes(b"\xff\xfe"),
        lambda path: (path.parent / "index.json").unlink(),
    ],
)
def test_files_that_are_cut_longer_missing_or_garbage_are_dropped(
    tmp_path: Path, spoil: Callable[[Path], object]
) -> None:
    build(builder_for(tmp_path))
    spoil(index_file(tmp_path))
    assert load(tmp_path) is None
    build(builder_for(tmp_path))
    assert load(tmp_path) is not None


DIES = """
import os, signal, sys
from pathlib import Path
from tests.index.test_files import COUNT, build, builder_for

def dying(call):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapper

directory, left = Path(sys.argv[1]), int(sys.argv[2])
os.fsync, Path.replace, Path.unlink = dying(os.fsync), dying(Path.replace), dying(Path.unlink)
build(builder_for(directory), COUNT + 50)
print("survived")
"""


# Steps: sync and rename the index file, sync the folder, the same for the sidecar, delete the old index file.
@pytest.mark.parametrize(("step", "survivors"), [(1, COUNT), (3, COUNT), (5, COUNT), (7, COUNT + 50)])
def test_killed_in_the_middle_of_a_write(tmp_path: Path, step: int, survivors: int) -> None:
    build(builder_for(tmp_path))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.run(
        [sys.executable, "-c", DIES, str(tmp_path), str(step)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert child.returncode == -9, child.stderr
    assert len(list(folder(tmp_path).iterdir())) > 2
    loaded = load(tmp_path)
    assert loaded is not None
    np.testing.assert_array_equal(loaded.indexed_rows, np.arange(survivors))
    assert len(list(folder(tmp_path).iterdir())) == 2


@pytest.mark.parametrize(
    ("number", "reason"), [(errno.ENOSPC, Reason.STORAGE_FULL), (errno.EIO, Reason.STORAGE_FAILED)]
)
def test_a_failing_disk_is_told_and_the_old_index_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason
) -> None:
    build(builder_for(tmp_path))

    def fail(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(AssayError) as caught:
        build(builder_for(tmp_path), COUNT + 50)
    assert caught.value.reason is reason
    assert len(list(folder(tmp_path).iterdir())) == 2
    loaded = load(tmp_path)
    assert loaded is not None
    assert len(loaded.indexed_rows) == COUNT


def test_forgetting_one_pool_leaves_the_others(tmp_path: Path) -> None:
    builder = builder_for(tmp_path)
    for pool_uid in (1, 11):
        for space in ("pushed", "b1"):
            build(builder, pool_uid=pool_uid, space=space)
    builder.forget(1)
    builder.forget(2)
    assert builder.load(1, "pushed", Metric.COSINE, DIMENSION) is None
    assert builder.load(1, "b1", Metric.COSINE, DIMENSION) is None
    assert builder.load(11, "b1", Metric.COSINE, DIMENSION) is not None


@pytest.mark.parametrize("space", ["..", ".", "a/b", "../../outside", "ä %2F"])
def test_no_space_leads_out_of_its_pools_directory(tmp_path: Path, space: str) -> None:
    directory = tmp_path / "data" / "derived"
    build(builder_for(directory), space=space)
    assert load(directory, space) is not None
    (only,) = (directory / "1").iterdir()
    assert {path.parent for path in tmp_path.rglob("*") if path.is_file()} == {only}
