"""`assay sample` and `assay search`."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Group, RenderableType

from assay.client import Sample, SearchResult
from assay.client._files import located
from assay.client.cli.add import FieldNames, read_batch
from assay.client.cli.arguments import (
    FormatOption,
    JsonOption,
    PoolArgument,
    StateOption,
    WhereOption,
    connect,
    read_matrix,
    read_where,
)
from assay.client.cli.labeling import WorkerOption
from assay.client.cli.output import decoded, fields, preview, show, table
from assay.client.cli.pools import confirm

app = typer.Typer(help="Look at, change and delete samples.", no_args_is_help=True)


@app.command()
def get(
    context: typer.Context,
    pool: PoolArgument,
    sample_id: Annotated[str, typer.Argument(metavar="ID")],
    as_json: JsonOption = False,
) -> None:
    """Show a sample with its payload."""
    with connect(context) as client:
        sample = client.get_sample(pool, sample_id)
    show(sample, as_json, lambda: _details(sample))


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    where: WhereOption = None,
    state: StateOption = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0 for all.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List samples by row."""
    with connect(context) as client:
        found = client.list_samples(
            pool,
            where=read_where(where),
            states=state or (),  # type: ignore[arg-type]
            include_payload=True,
        )
        samples = list(islice(found, limit or None))
    show({"samples": samples}, as_json, lambda: _table(samples))


@app.command()
def export(
    context: typer.Context,
    pool: PoolArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File; - for standard output.")] = Path("-"),
    where: WhereOption = None,
    state: StateOption = None,
    embeddings: Annotated[bool, typer.Option("--embeddings/--no-embeddings", help="Whether to write them.")] = True,
) -> None:
    """Write samples as JSON Lines that `assay add` reads again, with their labels, attributes and embeddings."""
    with connect(context) as client, _opened(out) as file:
        found = client.list_samples(
            pool,
            where=read_where(where),
            states=state or (),  # type: ignore[arg-type]
            include_payload=True,
        )
        while samples := list(islice(found, _EXPORT_BLOCK)):
            vectors_ND = None
            if embeddings:
                ids = [sample.id for sample in samples]
                vectors_ND = client.predict(pool, samples=ids, include_embeddings=True).embeddings_ND
            for row, sample in enumerate(samples):
                record = _record(sample) | ({} if vectors_ND is None else {"embedding": vectors_ND[row].tolist()})
                file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


# Samples whose embeddings are asked for at once.
_EXPORT_BLOCK = 1000


@contextmanager
def _opened(out: Path) -> Iterator[TextIO]:
    """A text file that takes its name when it is complete; standard output for "-"."""
    if str(out) == "-":
        yield sys.stdout
        return
    partial = out.with_name(out.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)


def _record(sample: Sample) -> dict[str, Any]:
    """A sample as `assay add` reads it; what it has not is left out.

    Raises:
        ValueError: a payload that is neither text nor JSON, which JSON Lines has no place for.
    """
    record: dict[str, Any] = {"id": sample.id}
    if sample.payload and sample.media_type == "application/json":
        record["payload"] = sample.json()
    elif sample.payload:
        text = decoded(sample)
        if text is None or sample.media_type != "text/plain":
            raise ValueError(f"the payload of {sample.id!r} is {sample.media_type}: only text and JSON are written")
        record["text"] = text
    given = {"label": sample.label, "uri": sample.uri or None, "attributes": dict(sample.attributes) or None}
    return record | {name: value for name, value in given.items() if value is not None}


@app.command()
def update(
    context: typer.Context,
    pool: PoolArgument,
    source: Annotated[
        Path, typer.Option("--from", "-f", help="JSON Lines, JSON array, CSV, Parquet or Arrow (- for standard input).")
    ],
    format: FormatOption = None,
    attribute: Annotated[
        list[str] | None, typer.Option("--attribute", "-a", help="Field to keep as an attribute, for filters.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change attributes, uris and payloads of samples, by id: labels, embeddings and leases stay.

    Records are as `assay add` reads them. A field that no record has stays as it is; where others have it, it is taken
    away from a sample without it.
    """
    batch = read_batch(source, FieldNames(attributes=attribute or ()), None, None, format)
    with connect(context) as client, located(source):
        result = client.update_samples(
            pool, batch.ids, attributes=batch.attributes, uris=batch.uris, payloads=batch.payloads
        )
    show(result, as_json, lambda: f"updated {result.updated:,} samples")


@app.command()
def delete(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    allow_missing: Annotated[bool, typer.Option("--allow-missing", help="Pass over ids that are not there.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete samples with their labels."""
    if not yes:
        confirm(f"Delete {len(sample_ids)} samples of {pool} with their labels?")
    with connect(context) as client:
        result = client.delete_samples(pool, sample_ids, allow_missing)
    show(result, as_json, lambda: f"deleted {result.deleted:,} samples")


@app.command()
def exclude(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    worker: WorkerOption,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Set samples aside: nobody is offered them until they are included again."""
    with connect(context) as client:
        result = client.set_sample_state(pool, sample_ids, "exclude", worker, reason)
    show(result, as_json, lambda: f"set {result.changed:,} samples aside, {result.unchanged:,} were already")


@app.command()
def include(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    worker: WorkerOption,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take samples back that were set aside."""
    with connect(context) as client:
        result = client.set_sample_state(pool, sample_ids, "include", worker, reason)
    show(result, as_json, lambda: f"took {result.changed:,} samples back, {result.unchanged:,} were not set aside")


@app.command()
def reopen(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    worker: WorkerOption,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Withdraw all that was said of samples, so that they are open again."""
    if not yes:
        confirm(f"Withdraw all annotations of {len(sample_ids)} samples of {pool}?")
    with connect(context) as client:
        result = client.set_sample_state(pool, sample_ids, "reopen", worker, reason)
    show(result, as_json, lambda: f"reopened {result.changed:,} samples, {result.unchanged:,} were open")


def search(
    context: typer.Context,
    pool: PoolArgument,
    sample: Annotated[list[str] | None, typer.Option("--sample", "-s", help="Id of a sample to search for.")] = None,
    vectors: Annotated[Path | None, typer.Option(help=".npy file with one query per row.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Hits per query.")] = 10,
    where: WhereOption = None,
    state: StateOption = None,
    mode: Annotated[str, typer.Option(help="auto, exact or approximate.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find the samples nearest to others, or to vectors."""
    with connect(context) as client:
        result = client.search(
            pool,
            vectors=read_matrix(vectors) if vectors else None,
            samples=sample,
            k=k,
            where=read_where(where),
            states=state or (),  # type: ignore[arg-type]
            mode=mode,  # type: ignore[arg-type]
            include_payload=True,
        )
    queries = sample or [f"row {row}" for row in range(len(result.hits))]
    show(result, as_json, lambda: _hits(queries, result))


def _hits(queries: list[str], result: SearchResult) -> RenderableType:
    columns = ("near", "id", "similarity", "state", "label", "text")
    return Group(
        table(
            columns,
            (
                (query, hit.sample.id, hit.similarity, hit.sample.state, hit.sample.label, preview(hit.sample))
                for query, hits in zip(queries, result.hits, strict=True)
                for hit in hits
            ),
        ),
        "" if result.exact else "approximate",
    )


def _table(samples: list[Sample]) -> RenderableType:
    return table(
        ("id", "state", "label", "attributes", "text"),
        ((sample.id, sample.state, sample.label, sample.attributes, preview(sample)) for sample in samples),
    )


def _details(sample: Sample) -> RenderableType:
    text = decoded(sample)
    return fields(
        [
            ("id", sample.id),
            ("state", sample.state),
            ("label", sample.label),
            ("row", sample.row),
            ("uri", sample.uri or None),
            ("attributes", sample.attributes),
            ("media type", sample.media_type or None),
            ("payload", preview(sample) if text is None else text),
        ]
    )
