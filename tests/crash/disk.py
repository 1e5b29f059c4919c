"""The data directory: files that the catalog names, and those that it does not."""

import shutil
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.crash.faults import require

CATALOG = "catalog.db"
LOCK = ".lock"
SETTLE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.05


def leftovers(data_dir: Path) -> Counter[str]:
    """What a killed server left half done, by the work that it was at: files that are not, or no longer, named.

    The catalog is read from a copy: opening it would already repair it.
    """
    with TemporaryDirectory() as folder:
        for file in data_dir.glob(f"{CATALOG}*"):
            shutil.copy(file, folder)
        with closing(sqlite3.connect(Path(folder, CATALOG))) as catalog:
            named, next_row = _named(catalog), _next_row(catalog)
    return Counter(_work(file, next_row) for file in _stored(data_dir) - named)


def merging(data_dir: Path) -> bool:
    """Whether a merged file is being written: one of rows that other files, which begin after it, have gone beyond."""
    unfinished = [file for file in _stored(data_dir) if file.endswith(".tmp") and "/models/" not in file]
    return any(_first_row(file) < _last_begin(data_dir) for file in unfinished)


def last_commit(data_dir: Path) -> int:
    """When the catalog's log was last written, in nanoseconds."""
    return (data_dir / f"{CATALOG}-wal").stat().st_mtime_ns


def owner(data_dir: Path) -> int:
    """Id of the process that took the data directory last; 0 in the moment in which it is taken."""
    return int((data_dir / LOCK).read_text() or 0)


def require_tidy(data_dir: Path) -> int:
    """Waits until the disk holds exactly the files that the catalog names, while merging may go on; returns how many.

    Raises:
        BrokenPromise: a file is left over, or missing, for good.
    """
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        with closing(sqlite3.connect(f"file:{data_dir / CATALOG}?mode=ro", uri=True)) as catalog:
            named = _named(catalog)
        stored = _stored(data_dir)
        if stored == named:
            return len(stored)
        require(time.monotonic() < end, f"left over: {stored - named}, missing: {named - stored}")
        time.sleep(_LOOK_AGAIN_SECONDS)


def require_whole_backbones(data_dir: Path, sent: bytes) -> None:
    """Every backbone on disk has the bytes that were sent."""
    for path in data_dir.glob("pools/*/models/backbone-*"):
        require(path.read_bytes() == sent, f"{path.name} differs from what was sent")


def _named(catalog: sqlite3.Connection) -> set[str]:
    return {file for (file,) in catalog.execute("SELECT file FROM segments UNION ALL SELECT file FROM models")}


def _next_row(catalog: sqlite3.Connection) -> int:
    (row,) = catalog.execute("SELECT coalesce(max(next_row), 0) FROM pools").fetchone()
    return int(row)


def _stored(data_dir: Path) -> set[str]:
    return {path.relative_to(data_dir).as_posix() for path in data_dir.glob("pools/**/*") if path.is_file()}


def _work(file: str, next_row: int) -> str:
    if "/models/" in file:
        return "upload" if "/backbone-" in file else "training"
    return "ingest" if _first_row(file) >= next_row else "merging"


def _last_begin(data_dir: Path) -> int:
    return max((_first_row(file) for file in _stored(data_dir) if "/models/" not in file), default=0)


def _first_row(file: str) -> int:
    return int(file.rpartition("/")[2].split("-")[1])
