"""`assay annotation`: what was said, and taking it back."""

from itertools import islice
from typing import Annotated

import typer

from assay.client.cli.arguments import JsonOption, PoolArgument, connect
from assay.client.cli.labeling import WorkerOption
from assay.client.cli.output import show, table, value_cell

app = typer.Typer(help="List what was said, event by event; take it back.", no_args_is_help=True)


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    sample: Annotated[str | None, typer.Option("--sample", "-s", help="Only of this sample: its history.")] = None,
    worker: Annotated[str | None, typer.Option(help="Only of this worker.")] = None,
    external_id: Annotated[str | None, typer.Option("--external-id", help="Only the one with this id.")] = None,
    after: Annotated[int | None, typer.Option(help="Only what came after the event of this number.")] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0 for all.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List annotations, skips, verdicts and what took them back, the oldest first."""
    with connect(context) as client:
        found = client.list_annotations(
            pool, sample_id=sample, worker=worker, external_id=external_id, after_event=after
        )
        events = list(islice(found, limit or None))
    show(
        {"annotations": events},
        as_json,
        lambda: table(
            ("event", "id", "what", "value", "worker", "by", "time", "stands", "comment"),
            (
                (
                    str(each.event),
                    each.sample_id,
                    each.verb,
                    value_cell(each.value),
                    each.worker,
                    each.by,
                    each.time,
                    each.standing,
                    each.comment,
                )
                for each in events
            ),
        ),
    )


@app.command()
def withdraw(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    worker: WorkerOption,
    annotator: Annotated[
        str | None, typer.Option("--of", help="Whose annotations, if not the worker's own; needs the role admin.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Take annotations of samples back; what was said stays in the log."""
    with connect(context) as client:
        result = client.withdraw_annotations(pool, sample_ids, worker, reason, annotator=annotator)
    show(
        result,
        as_json,
        lambda: f"withdrew {result.withdrawn:,} annotations, {result.labeled:,} samples have a label still",
    )


@app.command()
def undo(
    context: typer.Context,
    pool: PoolArgument,
    worker: WorkerOption,
    event: Annotated[int | None, typer.Option(help="An event of the action, if not the last is meant.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Undo what a worker did last."""
    with connect(context) as client:
        result = client.undo_last_action(pool, worker, event=event)
    show(
        result, as_json, lambda: f"undid {result.undone:,} ({', '.join(result.verbs)}): {', '.join(result.sample_ids)}"
    )
