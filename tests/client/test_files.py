"""Files of records: every format, however it is written, says the same; what is wrong is said with file and place."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

from assay.client._files import Missing, read_table
from assay.client._importing import import_annotations
from assay.client.cli import main
from assay.client.cli.add import FieldNames, read_batch, typed

NAMES = FieldNames("id", "text", "payload", "label", "uri", "embedding", ("n", "flag", "zip"))
RECORDS: list[dict[str, Any]] = [
    {
        "id": "a",
        "text": 'süß, \u2028 und "mehr"',
        "label": "x",
        "n": 0,
        "flag": False,
        "zip": "007",
        "embedding": [1.5, 2.0],
    },
    {"id": "b", "text": None, "label": None, "n": None, "flag": True, "zip": "08", "embedding": [3.0, -4.5]},
]
LINES = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in RECORDS)
CSV = (
    "id,text,label,n,flag,zip,embedding\n"
    'a,"süß, \u2028 und ""mehr""",x,0,false,007,"[1.5, 2.0]"\n'
    "b,,,,true,08,3.0 -4.5\n"
)


def as_arrow() -> pa.Table:
    """The records as a table of Arrow."""
    return pa.Table.from_pylist(RECORDS)


def written(path: Path) -> Path:
    """The records in a file of the format that its name says."""
    match path.name.split("-")[0]:
        case "parquet":
            pq.write_table(as_arrow(), path)
        case "feather":
            feather.write_feather(as_arrow(), str(path))
        case "stream":
            with pa.ipc.new_stream(str(path), as_arrow().schema) as stream:
                stream.write_table(as_arrow())
        case "lines":
            path.write_bytes(LINES.encode())
        case "crlf":
            path.write_bytes(LINES.replace("\n", "\r\n").encode())
        case "marked":
            path.write_bytes(b"\xef\xbb\xbf" + LINES.encode())
        case "utf16":
            path.write_bytes(LINES.encode("utf-16"))
        case "array":
            path.write_bytes(json.dumps(RECORDS, indent=2).encode())
        case "arraymarked":
            path.write_bytes(b"\xef\xbb\xbf" + json.dumps(RECORDS).encode())
        case "csv":
            path.write_bytes(CSV.encode())
        case "csvmarked":
            path.write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
        case "semicolons":
            path.write_bytes(
                CSV.replace("id,text,label,n,flag,zip,embedding", "id;text;label;n;flag;zip;embedding")
                .replace('a,"', 'a;"')
                .replace('",x,0,false,007,"', '";x;0;false;007;"')
                .replace("b,,,,true,08,", "b;;;;true;08;")
                .encode()
            )
        case "tabs":
            path.write_bytes(
                b"id\ttext\tlabel\tn\tflag\tzip\tembedding\n"
                + 'a\t"süß, \u2028 und ""mehr"""\tx\t0\tfalse\t007\t"[1.5, 2.0]"\n'.encode()
                + b"b\t\t\t\ttrue\t08\t3.0,-4.5\n"
            )
    return path


NAMED = [
    "lines-a.jsonl", "lines-b.ndjson", "lines-c.json", "lines-d.txt", "crlf-a.jsonl", "marked-a.jsonl", "utf16-a.jsonl",
    "array-a.json", "array-b.jsonl", "arraymarked-a.json", "csv-a.csv", "csvmarked-a.CSV", "semicolons-a.csv",
    "tabs-a.tsv", "parquet-a.parquet", "parquet-b.dat", "feather-a.feather", "feather-b.arrow", "stream-a.arrows",
    "stream-b.bin",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_every_format_says_the_same(tmp_path: Path, name: str) -> None:
    batch = read_batch(written(tmp_path / name), NAMES, None, None)
    assert batch.ids == ["a", "b"]
    assert batch.payloads == [RECORDS[0]["text"], None]
    assert str(batch.labels[0]) == "x"
    assert batch.attributes == {"n": [0, None], "flag": [False, True], "zip": ["007", "08"]}
    np.testing.assert_array_equal(batch.embeddings, [[1.5, 2.0], [3.0, -4.5]])


def read_labels(path: Path, format: Any = None) -> dict[str, str]:
    """What a file says, as the first request of its import."""
    call = next(import_annotations("p", path, worker="ann", format=format).steps())
    return {each.sample_id: each.value.class_name for each in call.request.annotations}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", NAMED)
def test_labels_are_read_from_every_format(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: label\[1\] \(id 'b'\) is missing"):
        read_labels(written(tmp_path / name))


def test_an_export_is_read_with_its_own_names(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text("sample_id,class_name,class_index,worker\n1,0,0,ann\n2,1,1,ann\n")
    assert read_labels(path) == {"1": "0", "2": "1"}


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.jsonl", b"", "this is empty"),
        ("a.jsonl", b"\n \n", "this is empty"),
        ("a.json", b"[]", "no records in this JSON"),
        ("a.csv", b"id,label\n", "no records in this CSV"),
        ("a.jsonl", b'{"id": 1}\n{"id"', "line 2 is no JSON"),
        ("a.jsonl", b'{"id": 1}\n[1]', "line 2 is no JSON object"),
        ("a.json", b'[{"id": 1}, 2]', "entry 1 of the JSON array is no object"),
        ("a.json", b'[{"id": 1}', "this is no JSON"),
        ("a.jsonl", b"id,label\n1,a", "line 1 is no JSON"),
        ("a.csv", b"id,label\n1,a\n2", "line 3 has 1 fields, and the head 2"),
        ("a.csv", b"id,id\n1,a", "names a column twice: id, id"),
        ("a.csv", b'id,label\n1,"a', "line 2 is no CSV"),
        ("a.csv", "id,label\n1,süß".encode("latin-1"), "no UTF-8 \\(byte 0xfc"),
        ("a.jsonl", b"\x1f\x8b\x08", "compressed by gzip"),
        ("a.xlsx", b"PK\x03\x04", "compressed by zip"),
        ("a.parquet", b"PAR1 nonsense", "this is no Parquet"),
        ("a.feather", b"ARROW1 nonsense", "this is no Arrow"),
        ("a.arrow", b"nonsense", "this is no Arrow"),
        ("a.xyz", b"nonsense", "the format cannot be told: name it with --format"),
        ("a.csv", b"name,label\n1,a", "no record has a field 'id' or 'sample_id'; there are: name, label"),
    ],
)
def test_what_cannot_be_read_is_said_with_the_file_and_the_place(
    tmp_path: Path, name: str, content: bytes, error: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name}: .*{error}"):
        read_labels(path)


def test_a_format_that_is_named_goes_before_all_else(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text("id,label\n1,a\n")
    assert read_labels(path, "csv") == {"1": "a"}
    with pytest.raises(ValueError, match="'xml' is none of jsonl, json, csv, tsv, parquet, arrow"):
        read_labels(path, "xml")


@pytest.mark.parametrize("data", [LINES.encode(), CSV.encode(), json.dumps(RECORDS).encode()])
def test_standard_input_is_read_by_its_content(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    format = "csv" if data.startswith(b"id") else None
    assert read_table(Path("-"), format).required("id") == ["a", "b"]


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "parquet-a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(Missing, match=r"Parquet needs pyarrow.*assay\[parquet\]"):
        read_table(path)
    assert read_table(written(tmp_path / "csv-a.csv")).rows == 2


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (["1", None, "-20"], [1, None, -20]),
        (["1", "0.5"], [1.0, 0.5]),
        (["true", "false", None], [True, False, None]),
        (["007", "8"], ["007", "8"]),
        (["1", "x"], ["1", "x"]),
        (["nan", "1", "NaN"], [None, 1, None]),
        (["nan", "Smith"], ["nan", "Smith"]),
        (["nan"], ["nan"]),
        (["1" * 30], [float("1" * 30)]),
        ([None, None], [None, None]),
        (["True", "False"], [True, False]),
        (["TRUE", "FALSE"], [True, False]),
        (["yes"], ["yes"]),
        (["1e3"], [1000.0]),
    ],
)
def test_text_of_csv_becomes_what_all_of_a_column_stands_for(given: list[str | None], read: list[Any]) -> None:
    assert typed(given) == read


@pytest.mark.parametrize("out", ["labels.feather", "labels.xlsx", "labels.txt"])
def test_an_export_under_a_name_of_another_format_is_refused(
    out: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["export", "p", "--out", str(tmp_path / out)]) == 2
    assert "written as jsonl, csv, parquet or coco" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def table_of(tmp_path: Path, text: str, names: FieldNames | None = None) -> Any:
    """The batch of a CSV file with this text."""
    path = tmp_path / "records.csv"
    path.write_text(text)
    return read_batch(path, names or FieldNames(), None, None)


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    batch = table_of(tmp_path, ",id, label ,embedding,,\n0,a,x,1 2,,\n1,b,,3 4,,\n")
    assert (batch.ids, batch.labels) == (["a", "b"], ["x", None])


@pytest.mark.parametrize("text", ["1,5 2,5", "1,5; 2,5", "1 2,3"])
def test_a_decimal_comma_makes_no_other_vector(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"embedding\[0\] \(id 'a'\).*write a vector as"):
        table_of(tmp_path, f'id\tembedding\na\t"{text}"\n')


def test_attributes_that_are_no_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"attributes\[1\] \(id 'b'\) is '{n:1}', which is no JSON"):
        table_of(tmp_path, "id;embedding;attributes\na;1 2;{}\nb;1 2;{n:1}\n")


@pytest.mark.parametrize("names", [FieldNames(label="class"), FieldNames(attributes=["class"])])
def test_a_field_that_is_named_must_be_there(tmp_path: Path, names: FieldNames) -> None:
    with pytest.raises(ValueError, match="no record has a field 'class'; there are: id, label, embedding"):
        table_of(tmp_path, "id,label,embedding\na,x,1 2\n", names)


@pytest.mark.parametrize("content", [b"junk", b"", b"PK\x03\x04junk", b"one array"])
def test_what_are_no_arrays_is_said_with_the_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "samples.npz"
    path.write_bytes(content)
    if content == b"one array":
        with path.open("wb") as file:
            np.save(file, np.ones(3))
    with pytest.raises(ValueError, match=r"samples\.npz (is no file of numpy arrays|holds one array)"):
        read_batch(path, FieldNames(), None, None)
