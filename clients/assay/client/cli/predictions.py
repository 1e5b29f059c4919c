"""`assay predictions`: what models of one's own say of samples."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from assay.client import (
    Boxes,
    Freeform,
    MultiLabel,
    PredictedObjects,
    PredictionSource,
    Regression,
    Spans,
    Target,
    Task,
)
from assay.client._files import Table, located, read_table
from assay.client._importing import boxes_of, entries, object_of, one_of
from assay.client._ingest import MAX_ROWS
from assay.client._values import Place, column, texts
from assay.client.cli.arguments import FormatOption, JsonOption, PoolArgument, connect, read_arrays
from assay.client.cli.output import show, table
from assay.client.cli.pools import confirm

app = typer.Typer(help="What models of your own say of samples.", no_args_is_help=True)

SourceArgument = Annotated[str, typer.Argument(metavar="SOURCE", help="Your name for the model or its version.")]


@app.command()
def push(
    context: typer.Context,
    pool: PoolArgument,
    source: SourceArgument,
    file: Annotated[
        Path,
        typer.Option("--from", "-f", help="JSON Lines, JSON, CSV, Parquet, Arrow or .npz (- for standard input)."),
    ],
    format: FormatOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep predictions, in place of what the source said of these samples before.

    Records have an id, and a field per class with its probability, or per number; of a regression NAME_spread may stand
    beside NAME. Boxes and spans are in the field boxes or spans, each object with class_name, its place and its score.
    A .npz file has ids, and probabilities or numbers (and spread), a column per class by id or per number.
    """
    with connect(context) as client:
        task = client.get_pool(pool).task
        if task is None:
            raise ValueError(f"the task of {pool} is newer than this command: update it")
        with located(file):
            parts = list(_parts(file, format, task))
        updated = sum([client.update_predictions(pool, source, **part).updated for part in parts])
    show({"source": source, "updated": updated}, as_json, lambda: f"{updated:,} samples predicted by {source}")


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Measure each on the samples that are set apart and labeled.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """List the sources of a pool."""
    with connect(context) as client:
        found = list(client.list_prediction_sources(pool, metrics=metrics))
    heading = ("source", "samples", "lost", "bytes", "epoch", "measured on", "measures")
    rows = [_row(each) for each in found]
    show({"sources": found}, as_json, lambda: table(heading if metrics else heading[:5], rows))


@app.command()
def delete(
    context: typer.Context,
    pool: PoolArgument,
    source: SourceArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a source with all that it said."""
    if not yes:
        confirm(f"Delete all predictions of {source} in {pool}?")
    with connect(context) as client:
        client.delete_prediction_source(pool, source)


def _row(source: PredictionSource) -> tuple[object, ...]:
    found = source.metrics
    measures = ", ".join(f"{name} {each.value:.3f}" for name, each in found.measures.items() if each.value is not None)
    row = (source.id, source.samples, source.lost or None, source.size_bytes, source.update_epoch)
    return (*row, f"{found.samples} of {found.split}", measures) if found.measures else row


# --- files -----------------------------------------------------------------------------------------------------------


def _parts(file: Path, format: str | None, task: Task) -> Iterator[dict[str, Any]]:
    """The arguments of each call to `update_predictions`: as many samples as one takes.

    Raises:
        ValueError, TypeError: what cannot be read, or is of another task.
        Missing: the file is of a format that needs pyarrow.
        OSError: the file cannot be read.
    """
    if file.suffix == ".npz" and format is None:
        whole = _of_arrays(read_arrays(file), task)
    else:
        whole = _of_table(read_table(file, format), task)
    ids = whole.pop("ids")
    for start in range(0, len(ids), MAX_ROWS):
        window = slice(start, start + MAX_ROWS)
        yield {"ids": ids[window], **_taken(whole, window)}


def _taken(whole: Mapping[str, Any], window: slice) -> dict[str, Any]:
    part = {name: values if name == "columns" else values[window] for name, values in whole.items()}
    if "objects" in part:
        part["objects"] = PredictedObjects.of(part["objects"], part.pop("columns"))
    return part


def _of_arrays(arrays: Mapping[str, Any], task: Task) -> dict[str, Any]:
    if isinstance(task, Boxes | Spans):
        raise ValueError("objects do not come as .npz: give JSON Lines with a field boxes or spans")
    field = _field(task)
    name = "numbers" if field == "numbers" else "probabilities"
    known = {"ids", name} | ({"spread"} if field == "numbers" else set())
    if not {"ids", name} <= arrays.keys() or arrays.keys() - known:
        raise ValueError(f"it holds {', '.join(sorted(arrays))}, and the pool's task takes {', '.join(sorted(known))}")
    spread = {"spread": arrays["spread"]} if "spread" in arrays else {}
    return {"ids": texts(arrays["ids"], Place("ids")), field: arrays[name], **spread}


def _of_table(table: Table, task: Task) -> dict[str, Any]:
    ids = texts(table.required("id", "sample_id"), Place("id"))
    if isinstance(task, Boxes | Spans):
        name = "boxes" if isinstance(task, Boxes) else "spans"
        cells = column(table.required(name), name)
        read = boxes_of if isinstance(task, Boxes) else _spans
        held = [read(cell, Place(name, ids).at(row)) for row, cell in enumerate(cells)]
        return {"ids": ids, "objects": held, "columns": _names(task)}
    names = _names(task)
    found = [name for name in names if name in table.columns]
    if not found:
        raise ValueError(f"no record has a field of {', '.join(names)}; there are: {', '.join(table.columns)}")
    spreads = [f"{name}_spread" for name in found if f"{name}_spread" in table.columns]
    if spreads and len(spreads) < len(found):
        raise ValueError("give the spread of every number, or of none")
    columns: dict[str, Any] = {_field(task): _matrix(table, found, ids), "columns": found}
    return {"ids": ids, **columns, **({"spread": _matrix(table, spreads, ids)} if spreads else {})}


def _names(task: Task) -> list[str]:
    if isinstance(task, Regression):
        return [each.name for each in task.targets if isinstance(each, Target)]
    return [] if isinstance(task, Freeform) else [each.name for each in task.classes]


def _field(task: Task) -> str:
    if isinstance(task, Regression):
        return "numbers"
    return "label_probabilities" if isinstance(task, MultiLabel) else "probabilities"


def _matrix(table: Table, names: Sequence[str], ids: Sequence[str]) -> Any:
    out_NC = np.zeros((len(ids), len(names)), np.float32)
    for place, name in enumerate(names):
        for row, cell in enumerate(column(table.columns[name], name)):
            try:
                out_NC[row, place] = float(cell)
            except (TypeError, ValueError):
                raise ValueError(f"{Place(name, ids).at(row)} is {cell!r:.40}, and no number") from None
    return out_NC


def _spans(cell: Any, where: str) -> list[tuple[tuple[int, int], dict[str, float]]]:
    spans = [object_of(each, where) for each in entries(cell, where)]
    return [
        (
            (one_of(each, where, "start"), one_of(each, where, "end")),
            {one_of(each, where, "class_name"): one_of(each, where, "score")},
        )
        for each in spans
    ]
