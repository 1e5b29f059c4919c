"""The runs as tables and a picture."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from assay.strategies.evaluation import bootstrap_interval, mean_height, penalty_matrix, wilcoxon_holm
from benchmarks.learning.entries import BASELINE
from benchmarks.learning.simulate import BATCH, ROUNDS

matplotlib.use("Agg")

from matplotlib import pyplot as plt

LABELS_Q = BATCH * np.arange(1, ROUNDS + 1)
FEW = 100
_SETTING = """\
Simulated labeling on real data, by `make bench-learning`; what to make of it is in
[which strategy when](which-strategy.md). A logistic head is trained anew after each round on frozen features: the
columns of wdbc (2 classes) and the pixels of digits (10), scaled; all-MiniLM-L6-v2 embeddings of 20 Newsgroups (20)
and Reuters R52 (52, very unequal). The first batch is the strategy's own where it needs no model, else random, the
same for all. Parameters are the defaults; `fass`, `weighted_kmeans`, `u_herding` and `information_density` rank by
the margin."""
_SHOWN = ("random", "margin", "u_herding", "max_herding", "typiclust", "k_center")
_COLORS = ("#555555", "#0b5fa5", "#e08214", "#1b7837", "#b2182b", "#762a83")


@dataclass(frozen=True)
class Runs:
    """Accuracies by data set: strategies x seeds x checkpoints, the strategies in one order for all."""

    labels: list[str]
    accuracies: Mapping[str, NDArray[np.float64]]

    @property
    def seeds(self) -> int:
        return next(iter(self.accuracies.values())).shape[1]

    def heights(self, part: slice) -> dict[str, NDArray[np.float64]]:
        """Mean accuracy over some checkpoints, strategies x seeds, by data set."""
        return {name: mean_height(LABELS_Q[part], values[:, :, part]) for name, values in self.accuracies.items()}


def markdown(runs: Runs) -> str:
    """The tables."""
    few, many = slice(0, int(np.searchsorted(LABELS_Q, FEW)) + 1), slice(int(np.searchsorted(LABELS_Q, FEW)), None)
    sizes = f"{runs.seeds} seeds, {BATCH} labels a round, {LABELS_Q[-1]} in all"
    lines = [
        "# What each strategy is worth",
        "",
        _SETTING,
        "",
        "![Accuracy gained over random sampling, by labels, on four data sets](strategy-learning.png)",
        "",
        f"Held-out accuracy in %, mean over the labels ({sizes}). After each mean, the difference to `{BASELINE}` "
        "under the same seeds, with its 95% bootstrap interval; bold where that leaves out 0.",
    ]
    for title, part in ((f"Up to {FEW} labels", few), (f"From {FEW} to {LABELS_Q[-1]} labels", many)):
        lines += ["", f"### {title}", "", *_table(runs, runs.heights(part))]
    lines += ["", "### Who beats whom", "", *_penalties(runs)]
    return "\n".join(lines) + "\n"


def _table(runs: Runs, heights: Mapping[str, NDArray[np.float64]]) -> list[str]:
    base = runs.labels.index(BASELINE)
    gains_S = np.mean([(values - values[base]).mean(1) for values in heights.values()], axis=0)
    names = list(heights)
    lines = ["| strategy | mean gain | " + " | ".join(names) + " |", "|---" * (len(names) + 2) + "|"]
    for s in np.argsort(-gains_S, kind="stable"):
        cells = [_cell(heights[name][s], heights[name][base]) for name in names]
        lines.append(f"| {runs.labels[s]} | {100 * gains_S[s]:+.1f} | " + " | ".join(cells) + " |")
    return lines


def _cell(values_R: NDArray[np.float64], baseline_R: NDArray[np.float64]) -> str:
    mean = f"{100 * values_R.mean():.1f}"
    difference_R = 100 * (values_R - baseline_R)
    if not difference_R.any():
        return mean
    interval = bootstrap_interval(difference_R, seed=0)
    text = f"{difference_R.mean():+.1f} [{interval.low:+.1f}, {interval.high:+.1f}]"
    return f"{mean} **{text}**" if interval.low > 0 or interval.high < 0 else f"{mean} {text}"


def _penalties(runs: Runs) -> list[str]:
    """Ash et al. 2020: each data set gives 1 / checkpoints for each checkpoint at which one beats the other."""
    matrix = penalty_matrix(list(runs.accuracies.values()))
    won_S, lost_S = matrix.wins_SS.sum(axis=1), matrix.wins_SS.sum(axis=0)
    scores_SN = np.concatenate(list(runs.heights(slice(None)).values()), axis=1)
    adjusted_SS = wilcoxon_holm(scores_SN).adjusted_SS
    base = runs.labels.index(BASELINE)
    lines = [
        "Checkpoints won and lost against all others by a paired t-test at 95% (1 = all checkpoints of one data set "
        f"against one other strategy), and the Wilcoxon signed-rank p against `{BASELINE}` after Holm, over all pairs.",
        "",
        f"| strategy | won | lost | p against {BASELINE} |",
        "|---|---|---|---|",
    ]
    for s in np.argsort(lost_S - won_S, kind="stable"):
        lines.append(f"| {runs.labels[s]} | {won_S[s]:.1f} | {lost_S[s]:.1f} | {adjusted_SS[s, base]:.2g} |")
    return lines


def plot(runs: Runs, path: Path) -> None:
    """A panel per data set: the accuracy gained over the baseline, mean and standard error over the seeds."""
    figure, panels = plt.subplots(1, len(runs.accuracies), figsize=(4 * len(runs.accuracies), 4), layout="constrained")
    base = runs.labels.index(BASELINE)
    for axes, (name, values_SRQ) in zip(np.atleast_1d(panels), runs.accuracies.items(), strict=True):
        for label, color in zip(_SHOWN, _COLORS, strict=True):
            if label not in runs.labels:
                continue
            gains_RQ = 100 * (values_SRQ[runs.labels.index(label)] - values_SRQ[base])
            mean_Q, error_Q = gains_RQ.mean(0), gains_RQ.std(0) / np.sqrt(len(gains_RQ))
            axes.plot(LABELS_Q, mean_Q, color=color, label=label, marker="o", markersize=3)
            axes.fill_between(LABELS_Q, mean_Q - error_Q, mean_Q + error_Q, color=color, alpha=0.15, linewidth=0)
        axes.set_title(name)
        axes.set_xlabel("labels")
        axes.grid(alpha=0.3)
    np.atleast_1d(panels)[0].set_ylabel(f"held-out accuracy over {BASELINE}, points")
    np.atleast_1d(panels)[-1].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
