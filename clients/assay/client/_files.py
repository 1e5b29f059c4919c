"""Files of records: JSON Lines, JSON arrays, CSV, Parquet, Arrow and COCO, told apart by their content and name.

Parquet and Arrow need pyarrow, which the base install has not; it is imported when such a file is read.
"""

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from assay.client._coco import coco_records


class Missing(Exception):
    """Something of this installation is missing."""


FileFormat: TypeAlias = Literal["jsonl", "json", "csv", "tsv", "parquet", "arrow", "coco"]
FORMATS: Final[tuple[FileFormat, ...]] = get_args(FileFormat)

_SUFFIXES: Final[Mapping[str, FileFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
_NAMES: Final[Mapping[FileFormat, str]] = {
    "jsonl": "JSON Lines",
    "json": "JSON",
    "csv": "CSV",
    "tsv": "TSV",
    "parquet": "Parquet",
    "arrow": "Arrow",
    "coco": "COCO",
}
# How files begin: Parquet, Arrow files (Feather too) and Arrow streams; what is packed; text with a byte order mark.
_MAGIC: Final[Mapping[bytes, FileFormat]] = {b"PAR1": "parquet", b"ARROW1": "arrow", b"\xff\xff\xff\xff": "arrow"}
_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2"}
_COCO: Final = re.compile(r'\{\s*"(images|annotations|categories|info|licenses)"\s*:\s*[\[{]')
_MARKS: Final = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
_DELIMITERS: Final = (",", ";", "\t")
_LONGEST_FIELD = 1 << 26


@dataclass(frozen=True, slots=True)
class Table:
    """The records of a file, column by column; a column is a list with None for what is missing, or one of Arrow.

    Attributes:
        columns: by field, each with an entry for every record.
        rows: number of records.
        untyped: whether all values are text, as in CSV, whatever they stand for.
    """

    columns: Mapping[str, Any]
    rows: int
    untyped: bool = False

    @classmethod
    def of_records(cls, records: Sequence[Mapping[str, Any]], untyped: bool = False) -> "Table":
        """Records as columns; a field that a record has not is missing there."""
        names = dict.fromkeys(name for record in records for name in record)
        return cls({name: [record.get(name) for record in records] for name in names}, len(records), untyped)

    def required(self, *names: str) -> Any:
        """The first of these columns that there is.

        Raises:
            ValueError: there is none.
        """
        for name in names:
            if name in self.columns:
                return self.columns[name]
        known = ", ".join(self.columns) or "none"
        raise ValueError(f"no record has a field {' or '.join(map(repr, names))}; there are: {known}")


@contextmanager
def located(source: object) -> Iterator[None]:
    """Say of what goes wrong with a file's content which file it is.

    Raises:
        ValueError: for each ValueError and TypeError, with the file's name before it.
    """
    try:
        yield
    except (ValueError, TypeError) as error:
        raise ValueError(f"{'standard input' if str(source) == '-' else source}: {error}") from error


def read_table(path: Path, format: str | None = None) -> Table:
    """The records of a file; "-" is standard input.

    Raises:
        ValueError: no records, or what is not of its format; the message names the file, the format and the place.
        Missing: the format needs pyarrow.
        OSError: the file cannot be read.
    """
    data = _stdin() if str(path) == "-" else path.read_bytes()
    with located(path):
        kind = format_of(path, data, format)
        table = _READERS[kind](data)
        if not table.rows:
            raise ValueError(f"there are no records in this {_NAMES[kind]}")
        return table


def format_of(path: Path, data: bytes, format: str | None = None) -> FileFormat:
    """The format of a file: the one that is asked for, else by how it begins, else by the end of its name.

    Raises:
        ValueError: compressed, empty, or of no format that is known.
    """
    for asked in FORMATS:
        if asked == format:
            return asked
    if format is not None:
        raise ValueError(f"the format {format!r} is none of {', '.join(FORMATS)}")
    for start, kind in _MAGIC.items():
        if data.startswith(start):
            return kind
    for start, packing in _PACKED.items():
        if data.startswith(start):
            raise ValueError(f"this is compressed by {packing}: unpack it first")
    named = _SUFFIXES.get(path.suffix.lower())
    if named is not None and named not in ("jsonl", "json"):
        return named
    # The two are taken for each other often enough: the first character decides.
    return _told_by_content(data, named)


def _told_by_content(data: bytes, named: FileFormat | None) -> FileFormat:
    beginning = _beginning(data)
    if _COCO.match(beginning):
        return "coco"
    if beginning.startswith(("[", "{")):
        return "json" if beginning.startswith("[") else "jsonl"
    if not beginning:
        raise ValueError("this is empty")
    if named is None:
        raise ValueError(f"the format cannot be told: name it with --format, one of {', '.join(FORMATS)}")
    return named


def _beginning(data: bytes) -> str:
    head = data[:4096]
    encoding = next((encoding for mark, encoding in _MARKS.items() if head.startswith(mark)), "utf-8")
    return head.decode(encoding, errors="replace").lstrip()


def _stdin() -> bytes:
    binary = getattr(sys.stdin, "buffer", None)
    data: bytes = sys.stdin.read().encode() if binary is None else binary.read()
    return data


def _decoded(data: bytes) -> str:
    encoding = next((encoding for mark, encoding in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        at = error.start
        raise ValueError(f"the text is no UTF-8 (byte {data[at]:#04x} at {at:,}): save it as UTF-8") from error


# --- JSON ------------------------------------------------------------------------------------------------------------


def _json_lines(data: bytes) -> Table:
    # Nothing else ends a line here: text may hold other line separators of Unicode.
    lines = _decoded(data).split("\n")
    return Table.of_records([_record(line, number) for number, line in enumerate(lines, 1) if line.strip()])


def _record(line: str, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"line {number} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ValueError(f"line {number} is no JSON object")
    return record


def _json(data: bytes) -> Any:
    try:
        return json.loads(_decoded(data))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is no JSON: {error}") from error


def _coco(data: bytes) -> Table:
    return Table.of_records(coco_records(_json(data)))


def _json_array(data: bytes) -> Table:
    records = _json(data)
    if not isinstance(records, list):
        raise ValueError("this JSON is no array of objects")
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            raise ValueError(f"entry {number} of the JSON array is no object")
    return Table.of_records(records)


# --- CSV -------------------------------------------------------------------------------------------------------------


def _comma_separated(data: bytes) -> Table:
    text = _decoded(data)
    head = text.partition("\n")[0]
    # Where a comma is the decimal point, spreadsheets write semicolons.
    return _separated(text, max(_DELIMITERS, key=head.count))


def _tab_separated(data: bytes) -> Table:
    return _separated(_decoded(data), "\t")


def _separated(text: str, delimiter: str) -> Table:
    """Rows under a head; an empty field is missing. Columns without a name, as spreadsheets leave them at the end and
    pandas puts one before the others, are passed over."""
    csv.field_size_limit(_LONGEST_FIELD)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in next(rows, [])]
        if len(set(filter(None, names))) < len(list(filter(None, names))):
            raise ValueError(f"the head names a column twice: {', '.join(names)}")
        records = [_fields(names, row, rows.line_num) for row in rows if row]
    except csv.Error as error:
        raise ValueError(f"line {rows.line_num} is no CSV: {error}") from error
    return Table.of_records(records, untyped=True)


def _fields(names: Sequence[str], row: Sequence[str], line: int) -> dict[str, str | None]:
    if len(row) != len(names):
        raise ValueError(f"line {line} has {len(row)} fields, and the head {len(names)}")
    return {name: None if value == "" else value for name, value in zip(names, row, strict=True) if name}


# --- Parquet and Arrow -----------------------------------------------------------------------------------------------


def _parquet(data: bytes) -> Table:
    return _of_arrow(data, "Parquet")


def _arrow(data: bytes) -> Table:
    return _of_arrow(data, "Arrow")


def pyarrow_for(what: str) -> Any:
    """pyarrow, for something that needs it. Raises Missing."""
    try:
        import pyarrow
        import pyarrow.feather
        import pyarrow.parquet
    except ImportError as error:
        raise Missing(f"{what} needs pyarrow, which is not here ({error}); install assay[parquet]") from error
    return pyarrow


def arrow_table(data: bytes) -> Any:
    """The table of a Parquet file, as Arrow has it."""
    pyarrow = pyarrow_for("an Arrow table")
    return pyarrow.parquet.read_table(pyarrow.BufferReader(data))


def _of_arrow(data: bytes, what: str) -> Table:
    pyarrow = pyarrow_for(what)
    feather, ipc, parquet = pyarrow.feather, pyarrow.ipc, pyarrow.parquet
    buffer = pyarrow.py_buffer(data)
    readers: Mapping[str, Callable[[], Any]] = {
        "Parquet": lambda: parquet.read_table(pyarrow.BufferReader(buffer)),
        "Arrow": lambda: (
            feather.read_table(pyarrow.BufferReader(buffer))
            if data.startswith((b"ARROW1", b"FEA1"))
            else ipc.open_stream(buffer).read_all()
        ),
    }
    try:
        table = readers[what]()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"this is no {what}: {error}") from error
    return Table({name: table.column(name) for name in table.column_names}, table.num_rows)


_READERS: Final[Mapping[FileFormat, Callable[[bytes], Table]]] = {
    "jsonl": _json_lines,
    "json": _json_array,
    "csv": _comma_separated,
    "tsv": _tab_separated,
    "parquet": _parquet,
    "arrow": _arrow,
    "coco": _coco,
}
