"""What SQLite's write-ahead log lost: SQLite reads it up to the first frame that is not whole, and says nothing of the
rest.

With `synchronous = FULL` a transaction begins only when the one before it is on disk. So what a crash leaves behind the
last whole transaction is at most one more, which nobody was told of. Where there are several, the log was damaged, and
what was acknowledged is gone. The format is at https://www.sqlite.org/fileformat2.html#the_write_ahead_log.
"""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

SUFFIX = "-wal"
HEADER = struct.Struct(">8I")  # magic, version, page size, number of the checkpoint, 2 salts, 2 checksums
FRAME = struct.Struct(">6I")  # page, pages of the database after a commit or 0, 2 salts, 2 checksums
MAGIC = {0x377F0682: "<", 0x377F0683: ">"}  # with the byte order of its checksums


@dataclass(frozen=True, slots=True)
class Log:
    """A write-ahead log as it lies on disk.

    Attributes:
        whole: whether its header is; SQLite passes over the log otherwise.
        commits: places, from 1, of the frames that end a transaction, whether SQLite takes them or not.
    """

    whole: bool
    commits: tuple[int, ...]

    def beyond(self, frames: int) -> int:
        """Transactions that end behind so many frames."""
        return sum(place > frames for place in self.commits)


def read(database: Path) -> Log:
    """The log of a database. Raises OSError."""
    try:
        stream = database.with_name(database.name + SUFFIX).open("rb")
    except FileNotFoundError:
        return Log(True, ())
    with stream:
        header = stream.read(HEADER.size)
        if len(header) < HEADER.size:
            return Log(True, ())
        _, _, page_size, _, *salts, _, _ = HEADER.unpack(header)
        whole = _is_whole(header)
        if not whole:
            # Its frames are known by the salts of the first: an older log beneath has others.
            page_size, salts = _guess(database, stream)
        return Log(whole, _commits(stream, page_size, salts))


def _is_whole(header: bytes) -> bool:
    order = MAGIC.get(int.from_bytes(header[:4]))
    if order is None:
        return False
    first = second = 0
    words = struct.unpack(f"{order}6I", header[:24])
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return (first, second) == struct.unpack(">2I", header[24:])


def _guess(database: Path, stream: BinaryIO) -> tuple[int, list[int]]:
    """Size of a page, from the database's own header, and salts of the first frame."""
    with database.open("rb") as main:
        size = int.from_bytes(main.read(18)[16:])
    frame = stream.read(FRAME.size)
    if len(frame) < FRAME.size:
        return 0, []
    return (1 << 16 if size == 1 else size), list(FRAME.unpack(frame)[2:4])


def _commits(stream: BinaryIO, page_size: int, salts: list[int]) -> tuple[int, ...]:
    found: list[int] = []
    place = 0
    while page_size:
        stream.seek(HEADER.size + place * (FRAME.size + page_size))
        frame = stream.read(FRAME.size)
        if len(frame) < FRAME.size:
            break
        place += 1
        _, pages, *its_salts, _, _ = FRAME.unpack(frame)
        if pages and its_salts == salts:
            found.append(place)
    return tuple(found)
