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
from assay.client.cli.composing import Additions, ApartOption, ByOption, ExploreOption, LikeOption, QuotaOption
from assay.client.cli.output import fields, picked, show, table


def strategies(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the strategies and presets of the server."""
    with connect(context) as client:
        known, presets = list(client.list_strategies()), list(client.list_presets())
    show({"strategies": known, "presets": presets}, as_json, lambda: _strategies(known, presets))


def score(
    context: typer.Context,
    pool: PoolArgument,
    plan: PlanOption = "margin",
    where: WhereOption = None,
    state: StateOption = None,
    top: Annotated[int, typer.Option(min=0, help="Only the highest; 0 for all, by row.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """Score samples; higher is more informative."""
    with connect(context) as client:
        result = client.score(
            pool,
            read_plan(plan) or "margin",
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
    plan: PlanOption = "margin",
    where: WhereOption = None,
    quota: QuotaOption = None,
    by: ByOption = "",
    apart: ApartOption = None,
    explore: ExploreOption = None,
    like: LikeOption = None,
    seed: SeedOption = 0,
    predictions: PredictionsOption = 1,
    payload: Annotated[bool, typer.Option("--payload/--no-payload", help="Whether picks carry payloads.")] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate the cost only.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Pick samples by a plan, without leasing them."""
    chosen = Additions(explore, apart, like, quota, by).to(plan) or "margin"
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
        table(("preset", "meaning"), ((preset.name, preset.summary) for preset in presets)),
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
