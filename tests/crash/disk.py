"""The data directory: files that the catalog names, and those that it does not."""

import errno
import shutil
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from tests.crash.database import Database
from tests.crash.faults import require

CATALOG = "catalog.db"
NAMED = "SELECT file FROM segments UNION ALL SELECT file FROM models"
NEXT_ROW = "SELECT coalesce(max(next_row), 0) FROM pools"
LOCK = ".lock"
SETTLE_SECONDS = 60.0
_LOOK_AGAIN_SECONDS = 0.05


class Catalog(Protocol):
    """What the disk is compared with."""

    def facts(self) -> tuple[set[str], int]:
        """Files that the catalog names, and the next row of the pool that has most. Whether a server runs or not."""


class SqliteCatalog:
    """The catalog of a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def facts(self) -> tuple[set[str], int]:
        """Read from a copy: opening it would already repair it."""
        with TemporaryDirectory() as folder:
            for file in self._data_dir.glob(f"{CATALOG}*"):
                shutil.copy(file, folder)
            with closing(sqlite3.connect(Path(folder, CATALOG))) as catalog:
                return _named(catalog.execute(NAMED).fetchall()), _number(catalog.execute(NEXT_ROW).fetchall())


class PostgresCatalog:
    """The catalog in a database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def facts(self) -> tuple[set[str], int]:
        """Read past the proxy."""
        return _named(self._database.rows(NAMED)), _number(self._database.rows(NEXT_ROW))


def leftovers(data_dir: Path, catalog: Catalog) -> Counter[str]:
    """What a killed server left half done, by the work that it was at: files that are not, or no longer, named."""
    named, next_row = catalog.facts()
    return Counter(_work(file, next_row) for file in _stored(data_dir) - named)


def merging(data_dir: Path) -> bool:
    """Whether a merged file is being written: one of rows that other files, which begin after it, have gone beyond."""
    unfinished = [file for file in _stored(data_dir) if file.endswith(".tmp") and "/models/" not in file]
    return any(_first_row(file) < _last_begin(data_dir) for file in unfinished)


def fill(ballast: Path) -> None:
    """Takes all room that is left on a disk."""
    with ballast.open("ab", buffering=0) as file:
        size = 1 << 22
        while size:
            try:
                if not file.write(bytes(size)):
                    break
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                size //= 2


def last_commit(data_dir: Path) -> int:
    """When the catalog's log was last written, in nanoseconds."""
    try:
        return (data_dir / f"{CATALOG}-wal").stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def owner(data_dir: Path) -> int:
    """Id of the process that took the data directory last; 0 in the moment in which it is taken."""
    return int((data_dir / LOCK).read_text() or 0)


def require_tidy(data_dir: Path, catalog: Catalog) -> int:
    """Waits until the disk holds exactly the files that the catalog names, while merging may go on; returns how many.

    Raises:
        BrokenPromise: a file is left over, or missing, for good.
    """
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        named, _ = catalog.facts()
        stored = _stored(data_dir)
        if stored == named:
            return len(stored)
        require(time.monotonic() < end, f"left over: {stored - named}, missing: {named - stored}")
        time.sleep(_LOOK_AGAIN_SECONDS)


def require_whole_backbones(data_dir: Path, sent: bytes) -> None:
    """Every backbone on disk has the bytes that were sent."""
    for path in data_dir.glob("pools/*/models/backbone-*"):
        require(path.read_bytes() == sent, f"{path.name} differs from what was sent")


def _named(rows: Sequence[Sequence[object]]) -> set[str]:
    return {str(file) for (file,) in rows if file}


def _number(rows: Sequence[Sequence[object]]) -> int:
    return int(str(rows[0][0]))


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
