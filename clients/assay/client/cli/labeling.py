"""`assay next`, `assay annotate`, `assay label` and `assay export`."""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from assay.client import Batch, Lease
from assay.client._values import Place, texts
from assay.client.cli.arguments import (
    FormatOption,
    JsonOption,
    PlanOption,
    PoolArgument,
    PredictionsOption,
    SeedOption,
    WhereOption,
    connect,
    read_where,
)
from assay.client.cli.composing import Additions, ApartOption, ByOption, ExploreOption, LikeOption, QuotaOption
from assay.client.cli.files import Table, located, read_table
from assay.client.cli.output import fields, picked, show, table

app = typer.Typer(help="List labels.", no_args_is_help=True)

WorkerOption = Annotated[str, typer.Option(envvar="ASSAY_WORKER", help="Who labels.")]
TtlOption = Annotated[float, typer.Option(min=1, help="Seconds that the lease lasts.")]


def next_batch(
    context: typer.Context,
    pool: PoolArgument,
    size: Annotated[int, typer.Argument(metavar="SIZE", min=1, help="Number of samples.")],
    worker: WorkerOption,
    plan: PlanOption = None,
    where: WhereOption = None,
    quota: QuotaOption = None,
    by: ByOption = "",
    apart: ApartOption = None,
    explore: ExploreOption = None,
    like: LikeOption = None,
    ttl: TtlOption = 900,
    seed: SeedOption = 0,
    predictions: PredictionsOption = 1,
    again: Annotated[bool, typer.Option("--again", help="Offer what this worker gave back before, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lease the next samples to label."""
    chosen = Additions(explore, apart, like, quota, by).to(plan)
    with connect(context) as client:
        batch = client.next_batch(
            pool,
            worker,
            size,
            plan=chosen,
            where=read_where(where),
            ttl=ttl,
            seed=seed,
            predictions=predictions,
            include_released=again,
        )
    show(batch, as_json, lambda: _batch(batch))


def annotate(
    context: typer.Context,
    pool: PoolArgument,
    worker: WorkerOption,
    labels: Annotated[list[str] | None, typer.Argument(metavar="ID=CLASS...", help="What is said.")] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            "-f",
            help="File with the fields id and label, or an export: JSON Lines, JSON, CSV, Parquet or Arrow; - for "
            "standard input.",
        ),
    ] = None,
    format: FormatOption = None,
    lease: Annotated[str | None, typer.Option(help="Name of the lease that holds the samples.")] = None,
    token: Annotated[int, typer.Option(help="Fencing token of the lease.")] = 0,
    correct: Annotated[bool, typer.Option("--correct", help="Replace what this worker said before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Store what a worker says of samples, all or none."""
    given = read_labels(labels or (), source, format)
    with connect(context) as client:
        result = client.annotate(pool, given, worker, lease=Lease(lease, token) if lease else None, correct=correct)
    show(
        result,
        as_json,
        lambda: fields(
            [
                ("stored", result.stored),
                ("unchanged", result.unchanged),
                ("labeled", result.labeled),
                ("disputed", result.disputed),
                ("left in the lease", result.lease_remaining),
            ]
        ),
    )


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    worker: Annotated[str | None, typer.Option(help="Only of this worker.")] = None,
    class_name: Annotated[str | None, typer.Option("--class", help="Only of this class.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0 for all.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List labels by row."""
    with connect(context) as client:
        labels = list(islice(client.list_labels(pool, worker=worker, class_name=class_name), limit or None))
    show(
        {"labels": labels},
        as_json,
        lambda: table(
            ("id", "label", "worker", "time", "lease"),
            ((label.sample_id, label.value, label.worker, label.update_time, label.lease) for label in labels),
        ),
    )


def export(
    context: typer.Context,
    pool: PoolArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File; - for standard output.")] = Path("-"),
    format: Annotated[str | None, typer.Option(help="jsonl, csv or parquet; by the file's name if not given.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write all labels to a file, which `annotate --from` reads again."""
    chosen = _export_format(out) if format is None else format
    to_stdout = str(out) == "-"
    if to_stdout and as_json:
        raise ValueError("standard output takes either the labels or --json: name a file with --out")
    with connect(context) as client:
        written = client.export_labels(pool, sys.stdout.buffer if to_stdout else out, chosen)  # type: ignore[arg-type]
    if not to_stdout:
        report = {"file": str(out), "format": chosen, "bytes": written}
        show(report, as_json, lambda: fields(report.items()))


def _export_format(out: Path) -> str:
    """The format that a file's name asks for; JSON Lines where it has no ending.

    Raises:
        ValueError: the ending of a format that labels are not written in.
    """
    suffix = out.suffix.lower()
    if suffix not in _EXPORTED:
        raise ValueError(f"{out}: labels are written as jsonl, csv or parquet; name one with --format")
    return _EXPORTED[suffix]


_EXPORTED = {"": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}


def read_labels(pairs: Sequence[str], source: Path | None, format: str | None = None) -> dict[str, str]:
    """Labels from the command line and from a file. An id may hold "=", a class may not (a file takes any).

    Raises:
        ValueError: no label, two for one sample, or what is none.
        Missing: the file is of a format that needs pyarrow.
        OSError: the file cannot be read.
    """
    given = [_pair(text) for text in pairs]
    if source is not None:
        table = read_table(source, format)
        with located(source):
            given += _labeled(table)
    labels = dict(given)
    if not labels:
        raise ValueError("give labels as ID=CLASS, or a file with --from")
    if len(labels) < len(given):
        raise ValueError("a sample is labeled twice")
    return labels


def _pair(text: str) -> tuple[str, str]:
    sample_id, equals, class_name = text.rpartition("=")
    if not (sample_id and equals and class_name):
        raise ValueError(f"{text!r} is no label: write ID=CLASS")
    return sample_id, class_name


def _labeled(table: Table) -> list[tuple[str, str]]:
    """Ids and class names, under the names of this command or those of an export."""
    ids = texts(table.required("id", "sample_id"), Place("id"))
    return list(zip(ids, texts(table.required("label", "class_name"), Place("label", ids)), strict=True))


def _batch(batch: Batch) -> RenderableType:
    lease = batch.lease
    return Group(
        fields([("lease", lease.name), ("token", str(lease.fencing_token)), ("until", lease.expire_time)]),
        "",
        picked(batch.picks, batch.quotas),
    )
