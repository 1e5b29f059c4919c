"""`assay strategies`, `assay score` and `assay mine`."""

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import typer
from rich.console import Group, RenderableType

from assay.client import CostEstimate, Preset, Strategy
from assay.client.cli.arguments import (
    JsonOption,
    PlanOption,
    PoolArgument,
    PredictionsOption,
    SeedOption,
    StateOption,
    WhereOption,
    connect,
    read_plan,
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
from assay.client.cli.output import fields, picked, show, table


def strategies(
    context: typer.Context,
    task: Annotated[str, typer.Option(help="Task of the pools that they are for.")] = "classification",
    as_json: JsonOption = False,
) -> None:
    """List the strategies of the server that serve a task, and its presets."""
    with connect(context) as client:
        presets = list(client.list_presets(task))  # type: ignore[arg-type]
        known = [entry for entry in client.list_strategies() if task in entry.tasks]
    show({"strategies": known, "presets": presets}, as_json, lambda: _strategies(known, presets))


def score(
    context: typer.Context,
    pool: PoolArgument,
    plan: PlanOption = None,
    where: WhereOption = None,
    state: StateOption = None,
    top: Annotated[int, typer.Option(min=0, help="Only the highest; 0 for all, by row.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Score samples; higher is more informative."""
    with connect(context) as client:
        result = client.score(
            pool,
            read_plan(plan),
            where=read_where(where),
            states=state or (),  # type: ignore[arg-type]
        )
    order_N = np.argsort(-result.scores_N, kind="stable")[:top] if top else np.arange(len(result.ids))
    scored = [{"id": result.ids[row], "score": float(result.scores_N[row])} for row in order_N]
    show(
        {"scores": scored, "scored": len(result.ids), "provenance": result.provenance},
        as_json,
        lambda: table(("id", "score"), (entry.values() for entry in scored)),  # type: ignore[misc]
    )


def mine(
    context: typer.Context,
    pool: PoolArgument,
    size: Annotated[int, typer.Argument(metavar="SIZE", min=1, help="Number of picks.")],
    plan: PlanOption = None,
    where: WhereOption = None,
    quota: QuotaOption = None,
    by: ByOption = "",
    apart: ApartOption = None,
    explore: ExploreOption = None,
    like: LikeOption = None,
    source: SourceOption = "",
    draw_from: DrawOption = "",
    seed: SeedOption = 0,
    predictions: PredictionsOption = 1,
    payload: Annotated[bool, typer.Option("--payload/--no-payload", help="Whether picks carry payloads.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate the cost only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pick samples by a plan, without leasing them."""
    chosen = Additions(explore, apart, like, quota, by, source, draw_from).to(plan)
    with connect(context) as client:
        result = client.mine(
            pool,
            size,
            chosen,
            where=read_where(where),
            seed=seed,
            validate_only=dry_run,
            include_payload=payload,
            predictions=predictions,
        )
    estimate = result.estimate
    show(result, as_json, lambda: _estimate(estimate) if estimate else picked(result.picks, result.quotas))


def _strategies(known: Sequence[Strategy], presets: Sequence[Preset]) -> RenderableType:
    return Group(
        table(
            ("strategy", "kind", "needs", "meaning"),
            ((entry.name, entry.kind, entry.needs, entry.summary) for entry in known),
        ),
        "",
        table(
            ("preset", "default", "meaning"),
            ((preset.name, preset.is_default or None, preset.summary) for preset in presets),
        ),
    )


def _estimate(estimate: CostEstimate) -> RenderableType:
    return fields(
        [
            ("candidates", estimate.candidates),
            ("bytes read", estimate.bytes_read),
            ("GFLOP", estimate.gflop),
            ("seconds", estimate.duration.total_seconds()),
        ]
    )
