"""What the demo shows at its end: tables for the terminal and files for later."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.client import Batch, Pick
from demo.curves import Curves
from demo.rounds import Run, Stopwatch

STRATEGY, BASELINE = "margin", "random"


def curves_of(runs: Sequence[Run], labels: Sequence[int]) -> dict[str, Curves]:
    """The curves of each strategy, seeds in the order of the runs."""
    names = dict.fromkeys(run.strategy for run in runs)
    return {name: Curves.of(labels, [run.accuracy for run in runs if run.strategy == name]) for name in names}


def write_report(curves: Mapping[str, Curves], path: Path) -> None:
    """Write `{strategy: {"labels": [...], "accuracy": [...]}}`: one list of accuracies per seed."""
    report = {
        name: {"labels": curve.labels_L.tolist(), "accuracy": curve.accuracy_SL.tolist()}
        for name, curve in curves.items()
    }
    path.write_text(json.dumps(report, indent=2) + "\n")


def curves_table(curves: Mapping[str, Curves]) -> Table:
    """Mean and spread over the seeds at each label count, and the mean of the paired differences."""
    strategy, baseline = curves[STRATEGY], curves[BASELINE]
    table = Table(title="Held-out accuracy, mean ± standard deviation over seeds", box=box.SIMPLE_HEAD)
    table.add_column("labels", justify="right")
    for name in (STRATEGY, BASELINE, "difference"):
        table.add_column(name, justify="right")
    difference = Curves(strategy.labels_L, strategy.accuracy_SL - baseline.accuracy_SL)
    for at, labels in enumerate(strategy.labels_L):
        cells = [_spread(curve, at, "") for curve in (strategy, baseline)]
        table.add_row(str(labels), *cells, _spread(difference, at, "+"))
    return table


def verdict(strategy: Curves, baseline: Curves) -> list[str]:
    """What the curves say of the strategy against the baseline, in words, whichever way it went."""
    ours_S, theirs_S = strategy.areas_S(), baseline.areas_S()
    wins, seeds = int((ours_S > theirs_S).sum()), len(ours_S)
    goal, end = float(baseline.mean_L[-1]), int(baseline.labels_L[-1])
    reached = strategy.labels_to_reach(goal)
    if reached is None:
        saving = f"{STRATEGY} does not reach {BASELINE}'s final accuracy ({goal:.3f}) within {end} labels"
    else:
        share = 1 - reached / end
        saving = (
            f"{BASELINE}'s final accuracy ({goal:.3f} at {end} labels) is reached by {STRATEGY} "
            f"at {reached:.0f} labels: {share:.0%} fewer"
        )
    return [
        f"area under the curve: {STRATEGY} {ours_S.mean():.4f}, {BASELINE} {theirs_S.mean():.4f}; "
        f"{STRATEGY} is ahead with {wins} of {seeds} seeds",
        _significance(ours_S - theirs_S),
        saving,
    ]


def _significance(difference_S: NDArray[np.float64]) -> str:
    mean, seeds = difference_S.mean(), len(difference_S)
    if seeds < 2:
        return f"difference of the areas: {mean:+.4f}; one seed cannot tell it from chance"
    error = difference_S.std(ddof=1) / np.sqrt(seeds)
    finding = "more than" if abs(mean) > 2 * error else "no more than"
    return (
        f"mean difference of the areas, paired by seed: {mean:+.4f}, standard error {error:.4f}: "
        f"{finding} chance would do with {seeds} seeds"
    )


def why(pick: Pick, names: int = 2) -> str:
    """Why a pick was picked: the parts of its score, and the classes that the model hesitates between."""
    guesses = [f"{guess.class_name} {guess.probability:.3f}" for guess in pick.predictions[:names]]
    parts = ", ".join(f"{part.strategy} {part.score:.4f}" for part in pick.parts)
    return f"{parts or 'no score'}: {' or '.join(guesses) or 'nothing predicted'}"


def picks_table(batch: Batch, truth: Mapping[str, str], shown: int, width: int = 160) -> RenderableType:
    """The first picks of a batch: what they are, what the model thought, and where that comes from."""
    origin = batch.provenance
    table = Table(box=box.SIMPLE_HEAD, show_lines=False)
    table.add_column("rank", justify="right")
    table.add_column("score", justify="right")
    table.add_column("why it was picked, its text, and the label it got")
    for pick in batch.picks[:shown]:
        table.add_row(str(pick.rank), f"{pick.score:.4f}", _pick_cell(pick, truth[pick.id], width))
    return Group(
        Text(f"The last batch of {STRATEGY}: {shown} of its {len(batch.picks)} picks", style="bold"),
        Text(f"ranked by score, highest first, out of {origin.candidates:,} candidates at epoch {origin.epoch}"),
        Text(f"predictions: {origin.head or origin.prediction_source}; backbone: {origin.backbone or 'none'}"),
        Text(f"plan {origin.plan_digest[:16]}, seed {origin.seed}"),
        table,
    )


def timings_table(watch: Stopwatch) -> Table:
    """Median and slowest call of each kind, as the client saw them."""
    table = Table(title="Calls, seen from the client", box=box.SIMPLE_HEAD)
    for column in ("call", "times", "median ms", "slowest ms"):
        table.add_column(column, justify="left" if column == "call" else "right")
    for what, seconds in watch.seconds.items():
        table.add_row(what, str(len(seconds)), f"{1e3 * median(seconds):.1f}", f"{1e3 * max(seconds):.1f}")
    return table


def _spread(curve: Curves, at: int, sign: str) -> str:
    mean = f"{curve.mean_L[at]:{sign}.3f}"
    return f"{mean} ± {curve.sd_L[at]:.3f}" if len(curve.accuracy_SL) > 1 else mean


def _pick_cell(pick: Pick, label: str, width: int) -> Text:
    text = pick.sample.text
    beginning = text if len(text) <= width else text[: width - 1] + "…"
    return Text.assemble((f"{why(pick)}\n", "cyan"), f"“{beginning}”\n", (f"{pick.id} → {label}", "green"))
