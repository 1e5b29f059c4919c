"""`assay add`: samples from files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from assay.client import SampleBatch
from assay.client.cli.arguments import JsonOption, PoolArgument, connect, read_matrix, read_records
from assay.client.cli.output import fields, show
from assay.client.cli.progress import counting


@dataclass(frozen=True, slots=True)
class FieldNames:
    """Which field of a record is what."""

    id: str
    text: str
    payload: str
    label: str
    uri: str
    embedding: str
    attributes: Sequence[str]


def add(
    context: typer.Context,
    pool: PoolArgument,
    source: Annotated[
        Path,
        typer.Option("--from", "-f", help="JSON Lines (- for standard input), or .npz with ids and embeddings."),
    ],
    embeddings: Annotated[Path | None, typer.Option(help=".npy file, one row per record.")] = None,
    inputs: Annotated[
        Path | None, typer.Option(help=".npz file with the model's inputs by name, one row per record.")
    ] = None,
    id_field: Annotated[str, typer.Option(help="Field of the id.")] = "id",
    text_field: Annotated[str, typer.Option(help="Field of the text to label.")] = "text",
    payload_field: Annotated[str, typer.Option(help="Field of a JSON payload, where there is no text.")] = "payload",
    label_field: Annotated[str, typer.Option(help="Field of a known label.")] = "label",
    uri_field: Annotated[str, typer.Option(help="Field of the uri.")] = "uri",
    embedding_field: Annotated[str, typer.Option(help="Field of the embedding.")] = "embedding",
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", help="Field to keep as an attribute, for filters.")
    ] = None,
    on_conflict: Annotated[str, typer.Option(help="For ids that are there already: error, skip, replace.")] = "error",
    batch_size: Annotated[int | None, typer.Option(help="Most samples per message.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add samples from files.

    A record is a JSON object: {"id": "a1", "text": "...", "label": "sport", "embedding": [...], "attributes": {...}}.
    Only the id is needed, with an embedding there or in a file, or model inputs in a file.
    """
    names = FieldNames(id_field, text_field, payload_field, label_field, uri_field, embedding_field, attribute or ())
    batch = read_batch(source, names, embeddings, inputs)
    with connect(context) as client, counting("adding") as progress:
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
    show(
        result,
        as_json,
        lambda: fields([("added", result.added), ("skipped", result.skipped), ("replaced", result.replaced)]),
    )


def read_batch(source: Path, names: FieldNames, embeddings: Path | None, inputs: Path | None) -> SampleBatch:
    """The samples of a file, with what other files say of them.

    Raises:
        ValueError: what cannot be read, or does not fit together.
        OSError: a file cannot be read.
    """
    batch = arrays_batch(source) if source.suffix == ".npz" else records_batch(read_records(source), names)
    return SampleBatch(
        ids=batch.ids,
        embeddings=read_matrix(embeddings) if embeddings else batch.embeddings,
        inputs=dict(np.load(inputs, allow_pickle=False)) if inputs else None,
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
    arrays = dict(np.load(path, allow_pickle=False))
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


def records_batch(records: Sequence[Mapping[str, Any]], names: FieldNames) -> SampleBatch:
    """The samples of JSON records; a column that no record has is left out.

    Raises:
        ValueError: a record without an id, embeddings in some records only, or attributes that are no object.
    """
    return SampleBatch(
        ids=[_id(record, names.id) for record in records],
        embeddings=_embeddings(records, names.embedding),
        uris=_texts(records, names.uri, ""),
        payloads=_payloads(records, names),
        attributes=_attributes(records, names.attributes),
        labels=_texts(records, names.label, None),
    )


def _id(record: Mapping[str, Any], name: str) -> str:
    value = record.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"a record has no {name!r}: {str(record)[:80]}")
    return str(value)


def _texts(records: Sequence[Mapping[str, Any]], name: str, absent: Any) -> list[Any] | None:
    values = [record.get(name) for record in records]
    for value in values:
        if not isinstance(value, str | None):
            raise ValueError(f"field {name!r} is text, not {value!r}")
    return [absent if value is None else value for value in values] if any(values) else None


def _payloads(records: Sequence[Mapping[str, Any]], names: FieldNames) -> list[Any] | None:
    texts = _texts(records, names.text, None)
    if texts is not None:
        return texts
    payloads = [record.get(names.payload) for record in records]
    return payloads if any(payload is not None for payload in payloads) else None


def _embeddings(records: Sequence[Mapping[str, Any]], name: str) -> np.ndarray | None:
    rows = [record.get(name) for record in records]
    if all(row is None for row in rows):
        return None
    lengths = {len(row) if isinstance(row, list) else None for row in rows}
    if len(lengths) != 1 or None in lengths:
        raise ValueError(f"every record needs a list of numbers of the same length as its {name!r}")
    return np.array(rows, dtype=np.float32)


def _attributes(records: Sequence[Mapping[str, Any]], picked: Sequence[str]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {name: [record.get(name) for record in records] for name in picked}
    for row, record in enumerate(records):
        given = record.get("attributes") or {}
        if not isinstance(given, dict):
            raise ValueError(f"attributes is an object, not {given!r}")
        for name, value in given.items():
            columns.setdefault(name, [None] * len(records))[row] = value
    return columns
