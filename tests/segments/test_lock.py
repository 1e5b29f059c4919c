"""One server a data directory."""

import os
from pathlib import Path

import pytest

from assay.server.adapters.arrow import DirectoryLock
from assay.server.core.errors import AssayError, Reason
from tests.segments.builders import start_python

HOLDER = """
import pathlib, signal, sys
from assay.server.adapters.arrow.lock import DirectoryLock
with DirectoryLock(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    signal.pause()
"""


def refused(lock: DirectoryLock) -> AssayError:
    with pytest.raises(AssayError) as caught:
        lock.acquire()
    assert caught.value.reason is Reason.DATA_DIRECTORY_LOCKED
    return caught.value


def test_a_second_owner_is_refused_and_told_of_the_first(data_dir: Path) -> None:
    with DirectoryLock(data_dir):
        error = refused(DirectoryLock(data_dir))
        assert error.metadata["pid"] == str(os.getpid())
        assert str(os.getpid()) in error.message
    with DirectoryLock(data_dir):
        refused(DirectoryLock(data_dir))


def test_release_twice_is_harmless(data_dir: Path) -> None:
    lock = DirectoryLock(data_dir)
    lock.acquire()
    lock.release()
    lock.release()
    with DirectoryLock(data_dir):
        refused(lock)


def test_the_lock_ends_with_its_process(data_dir: Path) -> None:
    process = start_python(HOLDER, data_dir)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert refused(DirectoryLock(data_dir)).metadata["pid"] == str(process.pid)
    process.kill()
    process.communicate()
    with DirectoryLock(data_dir):
        refused(DirectoryLock(data_dir))


def test_other_directories_are_free(data_dir: Path) -> None:
    with DirectoryLock(data_dir), DirectoryLock(data_dir / "other"):
        refused(DirectoryLock(data_dir))


def test_a_directory_that_cannot_be_made_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError) as caught:
        DirectoryLock(tmp_path / "file" / "data").acquire()
    assert caught.value.reason is Reason.STORAGE_FAILED
