"""`assay review`: what needs a decision, and deciding it."""

from collections.abc import Mapping
from itertools import islice
from typing import Annotated, Any

import typer

from assay.client import REJECT, RETRACT, AnnotationEvent, Client, Review
from assay.client.cli.arguments import JsonOption, PoolArgument, connect
from assay.client.cli.labeling import VALUES_HELP, WorkerOption
from assay.client.cli.output import show, table, value_cell
from assay.client.cli.pools import confirm
from assay.client.cli.tasks import check_pairs, read_pairs, read_values

app = typer.Typer(help="List samples that need a decision, and decide.", no_args_is_help=True)

CommentOption = Annotated[str, typer.Option(help="What is to be said of it.")]
IdsArgument = Annotated[list[str], typer.Argument(metavar="ID...")]


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    limit: Annotated[int, typer.Option(min=0, help="At most this many; 0 for all.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List samples whose annotations do not decide, with what each annotator says."""
    with connect(context) as client:
        labels = list(islice(client.list_labels(pool, states=["disputed"]), limit or None))
        said = {label.sample_id: _standing(client, pool, label.sample_id) for label in labels}
    found: list[dict[str, Any]] = [
        {
            "sample_id": label.sample_id,
            "agreement": label.agreement,
            "annotations": {each.worker: each.value for each in said[label.sample_id]},
        }
        for label in labels
    ]
    show(
        {"samples": found},
        as_json,
        lambda: table(
            ("id", "agreement", "annotations"),
            ((each["sample_id"], each["agreement"], _said(each["annotations"])) for each in found),
        ),
    )


@app.command("set")
def set_(
    context: typer.Context,
    pool: PoolArgument,
    labels: Annotated[list[str], typer.Argument(metavar="ID=VALUE...", help=VALUES_HELP)],
    worker: WorkerOption,
    comment: CommentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Decide labels by values of the reviewer's own."""
    check_pairs(labels)
    with connect(context) as client:
        decided = read_values(client.get_pool(pool).task, labels)
    _decide(context, pool, decided, worker, comment, as_json)


@app.command()
def accept(
    context: typer.Context,
    pool: PoolArgument,
    annotators: Annotated[list[str], typer.Argument(metavar="ID=ANNOTATOR...", help="Who is right, of each sample.")],
    worker: WorkerOption,
    comment: CommentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Decide labels by what an annotator says."""
    with connect(context) as client:
        accepted = {
            sample_id: _said_by(client, pool, sample_id, name)
            for sample_id, name in read_pairs(annotators, "ID=ANNOTATOR").items()
        }
    _decide(context, pool, accepted, worker, comment, as_json)


@app.command()
def retract(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: IdsArgument,
    worker: WorkerOption,
    comment: CommentOption = "",
    as_json: JsonOption = False,
) -> None:
    """Take the reviewer's own decisions back."""
    _decide(context, pool, dict.fromkeys(sample_ids, RETRACT), worker, comment, as_json)


@app.command()
def reject(
    context: typer.Context,
    pool: PoolArgument,
    sample_ids: IdsArgument,
    worker: WorkerOption,
    comment: CommentOption = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Withdraw all that was said of samples, so that they are labeled again."""
    if not yes:
        confirm(f"Withdraw all annotations of {len(sample_ids)} samples of {pool}?")
    _decide(context, pool, dict.fromkeys(sample_ids, REJECT), worker, comment, as_json)


def _decide(
    context: typer.Context, pool: str, decisions: Mapping[str, Any], worker: str, comment: str, as_json: bool
) -> None:
    reviews = [Review(sample_id, decision, comment) for sample_id, decision in decisions.items()]
    with connect(context) as client:
        result = client.review_samples(pool, reviews, worker)
    show(result, as_json, lambda: f"decided {result.decided:,} samples, {result.unchanged:,} were so already")


def _said(annotations: Mapping[str, Any]) -> list[str]:
    return [f"{worker}={value_cell(value)}" for worker, value in annotations.items()]


def _standing(client: Client, pool: str, sample_id: str) -> list[AnnotationEvent]:
    events = client.list_annotations(pool, sample_id=sample_id)
    return [each for each in events if each.standing and each.verb in ("annotate", "correct")]


def _said_by(client: Client, pool: str, sample_id: str, annotator: str) -> AnnotationEvent:
    said = [each for each in _standing(client, pool, sample_id) if each.worker == annotator]
    if not said:
        raise ValueError(
            f"{annotator!r} says nothing of {sample_id!r}: `assay annotation list --sample` shows who does"
        )
    return said[-1]
