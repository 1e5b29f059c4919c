"""`assay annotators`."""

import typer

from assay.client.cli.arguments import JsonOption, PoolArgument, connect
from assay.client.cli.output import show, table


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
