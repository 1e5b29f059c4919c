"""Room for derived arrays, on a disk that has none left."""

from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.scratch import ScratchSpace
from assay.server.core.errors import AssayError, Reason
from tests.small_disk import small_disk

MIB = 1 << 20


def test_a_full_disk_is_an_error_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 4 * MIB) as disk:
        scratch = ScratchSpace(disk, memory_bytes=0)
        with pytest.raises(AssayError) as caught:
            scratch.array((3 * MIB, 1))
        assert caught.value.reason is Reason.STORAGE_FULL
        array = scratch.array((MIB // 2, 1))
        array[:] = 1
        assert array.sum() == MIB // 2
        with pytest.raises(AssayError):
            scratch.array((MIB, 1))
        del array
        scratch.array((MIB // 2, 1))[:] = 1


def test_it_begins_with_zeros_and_leaves_no_name(tmp_path: Path) -> None:
    array = ScratchSpace(tmp_path, memory_bytes=0).array((1000, 3))
    assert not array.any()
    assert not list(tmp_path.iterdir())
    array[:] = np.nan
