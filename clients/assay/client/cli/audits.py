"""`assay audit`, `assay suspects` and `assay annotators`."""

from collections.abc import Sequence
from itertools import islice
from typing import Annotated

import typer
from rich.console import Group, RenderableType

from assay.client import AuditResult, Suspect
from assay.client.cli.arguments import JsonOption, PoolArgument, WhereOption, connect, read_where
from assay.client.cli.output import show, table, value_cell
from assay.client.cli.progress import operating

_KINDS = "model, neighbors, annotators or duplicates"


def audit(
    context: typer.Context,
    pool: PoolArgument,
    kind: Annotated[
        list[str] | None,
        typer.Option(help=f"What contradicts labels: {_KINDS}; if not given, all that can."),
    ] = None,
    where: WhereOption = None,
    neighbors: Annotated[int, typer.Option(min=1, help="Labeled samples that each label is compared with.")] = 10,
    duplicate_radius: Annotated[
        float, typer.Option(min=0, help="Distance up to which samples are copies of each other.")
    ] = 0.0,
    top: Annotated[int, typer.Option(min=0, help="Suspects to show, the worst first.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Look for labels that are probably wrong, in place of what was found before."""
    with connect(context) as client:
        operation = client.audit_pool(
            pool, kind, where=read_where(where), neighbors=neighbors, duplicate_radius=duplicate_radius
        )
        with operating("auditing") as progress:
            result = operation.result(progress=progress)
        worst = list(islice(client.list_suspects(pool), top))
    show({"audit": result, "suspects": worst}, as_json, lambda: Group(_findings(result), "", _suspects(worst)))


def suspects(
    context: typer.Context,
    pool: PoolArgument,
    kind: Annotated[str | None, typer.Option(help=f"Only those contradicted by {_KINDS}.")] = None,
    min_score: Annotated[float, typer.Option(min=0, max=1, help="Only those with this score or more.")] = 0.0,
    limit: Annotated[int, typer.Option(min=1, help="How many to list.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """List what the last audit found and nobody has spoken of since, the worst first."""
    with connect(context) as client:
        found = list(islice(client.list_suspects(pool, kind, min_score=min_score), limit))
    show({"suspects": found}, as_json, lambda: _suspects(found))


def _findings(result: AuditResult) -> RenderableType:
    return table(
        ("kind", "samples", "found", "left out"),
        ((each.kind, each.samples, each.found, each.left_out or None) for each in result.kinds),
    )


def _suspects(found: Sequence[Suspect]) -> RenderableType:
    return table(
        ("id", "kind", "score", "label", "suggested"),
        ((each.sample_id, each.kind, each.score, value_cell(each.label), value_cell(each.suggested)) for each in found),
    )


def annotators(context: typer.Context, pool: PoolArgument, as_json: JsonOption = False) -> None:
    """What each annotator did: how much, how fast, and how often they agree with the labels."""
    with connect(context) as client:
        found = list(client.list_annotators(pool))
    show(
        {"annotators": found},
        as_json,
        lambda: table(
            ("annotator", "annotations", "median seconds", "compared", "agreement", "skill"),
            (
                (each.annotator, each.annotations, each.median_seconds, each.compared, each.agreement, each.skill)
                for each in found
            ),
        ),
    )
