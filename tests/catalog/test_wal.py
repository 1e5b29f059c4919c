"""A write-ahead log that was damaged: SQLite passes over what it cannot read without a word, so the catalog says it."""

import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from assay.server.adapters.sql import open_catalog
from assay.server.adapters.sql.sqlite import checkpoint
from tests.catalog.records import pool_record

POOLS = 10
HEADER, FRAME = 32, 24 + 4096
Spoil = Callable[[Path, int], None]


def flip(place: int) -> Spoil:
    """Damages the byte at a place; one below 0 is counted from the end."""

    def spoil(path: Path, size: int) -> None:
        content = bytearray(path.read_bytes())
        content[place % size] ^= 0x40
        path.write_bytes(content)

    return spoil


def cut(bytes_off: int) -> Spoil:
    """Takes bytes off the end."""
    return lambda path, size: os.truncate(path, size - bytes_off)


def after_a_kill(folder: Path, *, older_log: bool = False) -> Path:
    """A catalog of POOLS transactions that are in its log only, as a server that was killed leaves it."""
    catalog = open_catalog(f"sqlite:///{folder}/live.db")
    if older_log:
        for number in range(3 * POOLS):
            with catalog.transaction() as tx:
                tx.insert_pool(pool_record(f"old-{number}"))
        checkpoint(catalog._reader)
    for number in range(POOLS):
        with catalog.transaction() as tx:
            tx.insert_pool(pool_record(f"pool-{number}"))
    for suffix in ("", "-wal"):
        shutil.copy(folder / f"live.db{suffix}", folder / f"catalog.db{suffix}")
    catalog.close()
    return folder / "catalog.db"


def read_anew(database: Path, caplog: pytest.LogCaptureFixture) -> tuple[int, list[int]]:
    """How many pools there are, and the levels of what is logged."""
    caplog.clear()
    catalog = open_catalog(f"sqlite:///{database}")
    with catalog.reading() as tx:
        count = sum(pool.pool_id.startswith("pool-") for pool in tx.pools())
    catalog.close()
    return count, [record.levelno for record in caplog.records]


@pytest.mark.parametrize("older_log", [False, True])
def test_a_whole_log_is_no_news(tmp_path: Path, caplog: pytest.LogCaptureFixture, older_log: bool) -> None:
    """Nor is what lies beneath it, of a log that was written over."""
    database = after_a_kill(tmp_path, older_log=older_log)
    assert read_anew(database, caplog) == (POOLS, [])
    assert read_anew(database, caplog) == (POOLS, [])


@pytest.mark.parametrize(
    ("spoil", "level"),
    [
        (flip(HEADER + 100), logging.ERROR),
        (flip(-4 * FRAME), logging.ERROR),
        (flip(0), logging.ERROR),
        (flip(20), logging.ERROR),
        (flip(-100), logging.WARNING),
        (cut(100), logging.WARNING),
    ],
    ids=["in the first frame", "near the end", "in its magic number", "in its salts", "in the last frame", "cut off"],
)
def test_what_is_lost_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Spoil, level: int) -> None:
    """Several transactions, which were acknowledged, or the last, of which nobody knows."""
    database = after_a_kill(tmp_path)
    log = tmp_path / "catalog.db-wal"
    spoil(log, log.stat().st_size)
    count, levels = read_anew(database, caplog)
    assert count < POOLS
    assert levels == [level]
    if level == logging.ERROR:
        assert "acknowledged, are lost" in caplog.records[0].getMessage()
