"""`assay sample` and `assay search`."""

from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from assay.client import Sample, SearchResult
from assay.client.cli.arguments import (
    JsonOption,
    PoolArgument,
    StateOption,
    WhereOption,
    connect,
    read_matrix,
    read_where,
)
from assay.client.cli.output import decoded, fields, preview, show, table
from assay.client.cli.pools import confirm

app = typer.Typer(help="Look at and delete samples.", no_args_is_help=True)


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
    columns = ("near", "id", "distance", "state", "label", "text")
    return Group(
        table(
            columns,
            (
                (query, hit.sample.id, hit.distance, hit.sample.state, hit.sample.label, preview(hit.sample))
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
