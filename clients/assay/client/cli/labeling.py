"""`assay next`, `assay annotate`, `assay label` and `assay export`."""

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType

from assay.client import Batch, Lease
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
from assay.client.cli.composing import (
    Additions,
    ApartOption,
    ByOption,
    DrawOption,
    ExploreOption,
    LikeOption,
    QuotaOption,
    SourceOption,
)
from assay.client.cli.output import fields, picked, plain, show, table, value_cell
from assay.client.cli.progress import counting, operating
from assay.client.cli.tasks import check_pairs, read_values

app = typer.Typer(help="Label in the terminal; list labels.", no_args_is_help=True)

VALUES_HELP = (
    "What is said: ID=CLASS; of several classes ID=A,B (ID= for none); of numbers ID=NAME=5,OTHER=2; of boxes, spans "
    "and free-form answers ID=JSON, as a file has it."
)
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
    source: SourceOption = "",
    draw_from: DrawOption = "",
    ttl: TtlOption = 900,
    seed: SeedOption = 0,
    predictions: PredictionsOption = 1,
    again: Annotated[bool, typer.Option("--again", help="Offer what this worker gave back before, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Lease the next samples to label."""
    chosen = Additions(explore, apart, like, quota, by, source, draw_from).to(plan)
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
    worker: Annotated[
        str | None,
        typer.Option(envvar="ASSAY_WORKER", help="Who says it; in a file, of records that name no worker."),
    ] = None,
    labels: Annotated[list[str] | None, typer.Argument(metavar="ID=VALUE...", help=VALUES_HELP)] = None,
    source: Annotated[
        Path | None,
        typer.Option(
            "--from",
            "-f",
            help="File with the fields id and label (or class_names, numbers, boxes, spans, json), or an export of "
            "labels or of a history: JSON Lines, JSON, CSV, Parquet or Arrow; - for standard input.",
        ),
    ] = None,
    format: FormatOption = None,
    lease: Annotated[str | None, typer.Option(help="Name of the lease that holds the samples.")] = None,
    token: Annotated[int, typer.Option(help="Fencing token of the lease.")] = 0,
    correct: Annotated[bool, typer.Option("--correct", help="Replace what this worker said before.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Store what is said of samples: of a list all or none, a file in large pieces. What `export` writes is read back
    as it was said."""
    under = Lease(lease, token) if lease else None
    if source is None:
        told = _annotate(context, pool, labels or (), worker, under, correct)
    else:
        told = _import(context, pool, source, format, labels or (), worker, under, correct)
    show(told, as_json, lambda: fields((_CALLED.get(name, name), count) for name, count in told.items()))


_CALLED = {"lease_remaining": "left in the lease", "left_out": "left out"}


def _annotate(
    context: typer.Context, pool: str, pairs: Sequence[str], worker: str | None, lease: Lease | None, correct: bool
) -> dict[str, int]:
    if worker is None:
        raise ValueError("say who labels, with --worker or ASSAY_WORKER")
    check_pairs(pairs)
    with connect(context) as client:
        given = read_values(client.get_pool(pool).task, pairs)
        result = client.annotate(pool, given, worker, lease=lease, correct=correct)
    names = ("stored", "unchanged", "labeled", "disputed", "lease_remaining")
    return {name: getattr(result, name) for name in names}


def _import(
    context: typer.Context,
    pool: str,
    source: Path,
    format: str | None,
    pairs: Sequence[str],
    worker: str | None,
    lease: Lease | None,
    correct: bool,
) -> dict[str, int]:
    """Store what a file says, and labels beside it."""
    with connect(context) as client, counting("annotating") as progress:
        beside = read_values(client.get_pool(pool).task, pairs) if pairs else {}
        sources: list[Any] = [source, {"id": list(beside), "label": list(beside.values())}]
        done = [
            client.import_annotations(
                pool,
                each,
                worker=worker,
                format=format,  # type: ignore[arg-type]
                correct=correct,
                lease=lease,
                progress=progress,
            )
            for each in (sources if beside else sources[:1])
        ]
    counts = {name: sum(getattr(each, name) for each in done) for name in ("stored", "unchanged", "left_out")}
    return {**counts, "lease_remaining": done[-1].lease_remaining}


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
            (
                (label.sample_id, value_cell(label.value), label.worker, label.update_time, label.lease)
                for label in labels
            ),
        ),
    )


@app.command()
def resolve(context: typer.Context, pool: PoolArgument, as_json: JsonOption = False) -> None:
    """Derive the labels of a pool with the policy weighted anew, everybody counted by estimated skill."""
    with connect(context) as client, operating("resolving") as progress:
        result = client.resolve_labels(pool).result(progress=progress)
    show(result, as_json, lambda: fields(plain(result).items()))


def export(
    context: typer.Context,
    pool: PoolArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="File; - for standard output.")] = Path("-"),
    format: Annotated[
        str | None, typer.Option(help="jsonl, csv, parquet or coco; by the file's name if not given.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="All that was said, not only the labels.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write all labels to a file, or all that was said; `annotate --from` reads it again."""
    chosen = _export_format(out) if format is None else format
    to_stdout = str(out) == "-"
    if to_stdout and as_json:
        raise ValueError("standard output takes either the labels or --json: name a file with --out")
    with connect(context) as client:
        target = sys.stdout.buffer if to_stdout else out
        written = client.export_labels(pool, target, chosen, history=history)  # type: ignore[arg-type]
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
        raise ValueError(f"{out}: labels are written as jsonl, csv, parquet or coco; name one with --format")
    return _EXPORTED[suffix]


_EXPORTED = {
    "": "jsonl",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "coco",
}


def _batch(batch: Batch) -> RenderableType:
    lease = batch.lease
    return Group(
        fields([("lease", lease.name), ("token", str(lease.fencing_token)), ("until", lease.expire_time)]),
        "",
        picked(batch.picks, batch.quotas),
    )
