"""`assay add`: samples from files."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import typer
from numpy.typing import NDArray

from assay.client import AddResult, SampleBatch
from assay.client._arrays import float_rows
from assay.client._files import Table, located, read_table
from assay.client._values import Place, column, shown, texts
from assay.client.cli.arguments import FormatOption, JsonOption, PoolArgument, connect, read_arrays, read_matrix
from assay.client.cli.output import fields, show
from assay.client.cli.progress import counting


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Which field of a record is what."""

    id: str = "id"
    text: str = "text"
    payload: str = "payload"
    label: str = "label"
    uri: str = "uri"
    embedding: str = "embedding"
    attributes: Sequence[str] = ()

    @property
    def single(self) -> tuple[str, ...]:
        """All fields but the attributes."""
        return (self.id, self.text, self.payload, self.label, self.uri, self.embedding)


_USUAL: Final = FieldNames()


def add(
    context: typer.Context,
    pool: PoolArgument,
    source: Annotated[
        Path,
        typer.Option(
            "--from",
            "-f",
            help="JSON Lines, JSON array, CSV, Parquet, Arrow (- for standard input), or .npz with ids and embeddings.",
        ),
    ],
    format: FormatOption = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy file, one row per record.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help=".npz file with the model's inputs by name, one row per record.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field of the id.")] = _USUAL.id,
    text_field: Annotated[str, typer.Option(help="Field of the text to label.")] = _USUAL.text,
    payload_field: Annotated[
        str, typer.Option(help="Field of a JSON payload, where there is no text.")
    ] = _USUAL.payload,
    label_field: Annotated[str, typer.Option(help="Field of a known label.")] = _USUAL.label,
    uri_field: Annotated[str, typer.Option(help="Field of the uri.")] = _USUAL.uri,
    embedding_field: Annotated[str, typer.Option(help="Field of the embedding.")] = _USUAL.embedding,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", help="Field to keep as an attribute, for filters.")
    ] = None,
    on_conflict: Annotated[
        str,
        typer.Option(
            help="For ids that are there already: error, skip, or replace, which drops what the old sample had: its "
            "label, attributes and payload too, unless they are given again."
        ),
    ] = "error",
    batch_size: Annotated[int | None, typer.Option(help="Most samples per message.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add samples from files.

    A record is an object, or a row under a head: {"id": "a1", "text": "...", "label": "sport", "embedding": [...],
    "attributes": {...}}. Only the id is needed, with an embedding there or in a file, or model inputs in a file. In CSV
    an empty field is missing, columns without a name are passed over, and a column of attributes is numbers or
    true/false where all of it is; nan among numbers is missing.
    """
    names = FieldNames(id_field, text_field, payload_field, label_field, uri_field, embedding_field, attribute or ())
    batch = read_batch(source, names, embeddings, inputs, format)
    with connect(context) as client, counting("adding") as progress, located(source):
        client.health()  # Whether a server is there is found out first; the upload rides out what comes later.
        result = client.add_samples(
            pool,
            batch.ids,
            embeddings=batch.embeddings,
            inputs=batch.inputs,
            uris=batch.uris,
            payloads=batch.payloads,
            attributes=batch.attributes,
            labels=batch.labels,
            predictions=batch.predictions,
            on_conflict=on_conflict,  # type: ignore[arg-type]
            batch_size=batch_size,
            progress=progress,
        )
    show(result, as_json, lambda: fields(_told(result)))


def _told(result: AddResult) -> list[tuple[str, int]]:
    told = [("added", result.added), ("skipped", result.skipped), ("replaced", result.replaced)]
    if result.replaced:
        told += [("labels dropped", result.labels_dropped), ("attributes dropped", result.attributes_dropped)]
    return told


def read_batch(
    source: Path, names: FieldNames, embeddings: Path | None, inputs: Path | None, format: str | None = None
) -> SampleBatch:
    """The samples of a file, with what other files say of them.

    Raises:
        ValueError: what cannot be read, or does not fit together.
        Missing: the file is of a format that needs pyarrow.
        OSError: a file cannot be read.
    """
    if source.suffix == ".npz" and format is None:
        batch = arrays_batch(source)
    else:
        table = read_table(source, format)
        with located(source):
            batch = table_batch(table, names)
    return SampleBatch(
        ids=batch.ids,
        embeddings=read_matrix(embeddings) if embeddings else batch.embeddings,
        inputs=read_arrays(inputs) if inputs else None,
        uris=batch.uris,
        payloads=batch.payloads,
        attributes=batch.attributes,
        labels=batch.labels,
        predictions=batch.predictions,
    )


def arrays_batch(path: Path) -> SampleBatch:
    """The samples of a .npz file: ids, and embeddings, uris, texts, labels, predictions as there are.

    Raises:
        ValueError: no ids, or an array of another name.
        OSError: the file cannot be read.
    """
    arrays = read_arrays(path)
    known = {"ids", "embeddings", "uris", "texts", "labels", "predictions"}
    if "ids" not in arrays or arrays.keys() - known:
        raise ValueError(
            f"{path} holds {', '.join(sorted(arrays))}; ids is needed, and only {', '.join(sorted(known))}"
        )
    return SampleBatch(
        ids=arrays["ids"],
        embeddings=arrays.get("embeddings"),
        uris=_filled(arrays.get("uris")),
        payloads=_filled(arrays.get("texts")),
        labels=_filled(arrays.get("labels")),
        predictions=arrays.get("predictions"),
    )


def _filled(texts_N: NDArray[Any] | None) -> list[Any] | None:
    """A column of an array file, where "" stands for what a sample has not: numpy's text has no other word for it."""
    return None if texts_N is None else [None if text == "" else text for text in texts_N.tolist()]


def table_batch(table: Table, names: FieldNames) -> SampleBatch:
    """The samples of a table; a column that no record has is left out, unless its field was named.

    Raises:
        ValueError: no column of ids, or of a field that was named; or a value that its column cannot take.
        TypeError: a value of a type that its column cannot take.
    """
    for given, usual in zip(names.single, _USUAL.single, strict=True):
        if given != usual:
            table.required(given)
    ids = texts(table.required(names.id, *_OTHER_ID), Place(names.id))
    return SampleBatch(
        ids=ids,
        embeddings=_embeddings(table, names.embedding, ids),
        uris=table.columns.get(names.uri),
        payloads=_payloads(table, names),
        attributes=_attributes(table, names.attributes, ids),
        labels=table.columns.get(names.label),
    )


# What an export of labels calls the id; tried where the field of ids is not there.
_OTHER_ID = ("sample_id",)


def _payloads(table: Table, names: FieldNames) -> list[Any] | None:
    """The text of each record, or its payload where it has no text."""
    columns = [column(table.columns[name], name) for name in (names.text, names.payload) if name in table.columns]
    merged = [next((value for value in given if value is not None), None) for given in zip(*columns, strict=True)]
    return merged or None


def _embeddings(table: Table, name: str, ids: Sequence[str]) -> NDArray[Any] | None:
    vectors = table.columns.get(name)
    if vectors is None or (isinstance(vectors, list) and all(vector is None for vector in vectors)):
        return None
    if table.untyped:
        vectors = [None if text is None else _vector(text, Place(name, ids), row) for row, text in enumerate(vectors)]
    rows = float_rows(vectors, name, ids)
    # Numbers that come as text have no width of their own, and vectors are kept as float32.
    return rows.astype(np.float32) if isinstance(vectors, list) else rows


def _vector(text: str, place: Place, row: int) -> Any:
    """A vector in a field of CSV: a JSON array, or numbers with spaces or commas between them."""
    try:
        numbers = (
            json.loads(text)
            if text.lstrip().startswith("[")
            # One or the other: 1,5 2,5 may be two numbers with decimal commas.
            else list(map(float, text.split("," if "," in text else None)))
        )
    except ValueError:
        raise ValueError(f"{place.at(row)} is {text[:40]!r}: write a vector as [0.1, 0.2]") from None
    return numbers


def _attributes(table: Table, picked: Sequence[str], ids: Sequence[str]) -> dict[str, list[Any]]:
    """The picked fields, and those of the objects in the field "attributes"."""
    columns: dict[str, list[Any]] = {}
    for name in picked:
        values = column(table.required(name), name)
        columns[name] = typed(values) if table.untyped else values
    nested = table.columns.get("attributes")
    for row, given in enumerate([] if nested is None else column(nested, "attributes")):
        fields = _object(given, Place("attributes", ids), row) if table.untyped and given is not None else given
        if fields is None:
            continue
        if not isinstance(fields, dict):
            raise ValueError(f"{Place('attributes', ids).at(row)} is {shown(fields)}, and no object")
        for name, value in fields.items():
            columns.setdefault(name, [None] * table.rows)[row] = value
    return columns


def _object(text: str, place: Place, row: int) -> Any:
    """An object in a field of CSV."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place.at(row)} is {shown(text)}, which is no JSON: {error}") from None


def typed(values: Sequence[str | None]) -> list[Any]:
    """A column of text as what all of it stands for: truth values, whole numbers or numbers, "nan" beside them being
    none; text where it would not be written the same again, such as 007."""
    given = [value for value in values if value not in (None, *_NO_NUMBER)]
    for pattern, read in _TYPES:
        if given and all(pattern.fullmatch(value) for value in given):
            return [None if value in (None, *_NO_NUMBER) else read(value) for value in values]
    return list(values)


# What numpy and pandas write for a number that is missing.
_NO_NUMBER: Final = ("nan", "NaN")
_TYPES: Final = (
    # As JSON, Python and spreadsheets write them.
    (re.compile("true|false|True|False|TRUE|FALSE"), lambda text: text.lower() == "true"),
    (re.compile(r"-?(0|[1-9]\d{0,17})"), int),
    (re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?"), float),
)
