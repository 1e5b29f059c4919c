"""The runs as tables and pictures."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from assay.strategies.evaluation import bootstrap_interval, mean_height, penalty_matrix, wilcoxon_holm
from assay.strategies.serving import PredictionKind
from benchmarks.learning.entries import BASELINE
from benchmarks.learning.heads import MEMBERS, QUALITIES
from benchmarks.learning.simulate import ROUNDS

matplotlib.use("Agg")

from matplotlib import pyplot as plt

# The first rounds are told apart from the rest.
FEW_ROUNDS = 5
PAGE = "strategy-learning.md"
_HEAD = """\
# What each strategy is worth

Simulated labeling on real data, by `make bench-learning`; what to make of it is in
[which strategy when](which-strategy.md). A linear head is trained anew after each round on frozen features. The first
batch is the strategy's own where it needs no model, else random, the same for all. Parameters are the defaults;
`fass`, `weighted_kmeans`, `u_herding` and `information_density` rank by the scorer that is recommended for the kind of
predictions.
"""
TITLES = {
    PredictionKind.CLASSES: "One class per sample",
    PredictionKind.LABELS: "Any labels per sample",
    PredictionKind.VALUES: "Numbers",
}
_SETTINGS = {
    PredictionKind.CLASSES: """\
A logistic head over all classes, on the columns of wdbc (2 classes) and the pixels of digits (10), scaled;
all-MiniLM-L6-v2 embeddings of 20 Newsgroups (20) and Reuters R52 (52, very unequal). `utility` is the margin.""",
    PredictionKind.LABELS: """\
A logistic head for each label by itself, on the columns of yeast (14 functions of genes, 4.2 of them each on average),
scaled, and on all-MiniLM-L6-v2 embeddings of 20 Newsgroups. Yeast was labeled with several labels. For the newsgroups
they are those words of a group's name that other names have too (comp.sys.mac.hardware: comp, sys, hardware), so there
are few different sets of them: real posts, but labels that go together more than is usual. A label is predicted above
1/2. `utility` is the maximum entropy; `label_cardinality` is told the mean number of labels so far. Of the strategies
without a model, those are entered that did best for classes, and k_center.""",
    PredictionKind.VALUES: f"""\
Ridge regression, with a committee of {MEMBERS} on bootstrap samples for the scatter, on the ten columns of diabetes
(progression of the disease after a year) and on measures and grades of diamonds (logarithm of the price), scaled.
`utility` is the standard deviation of the committee. R2 may be below 0, worse than the mean, while labels are few.""",
}
_SHOWN = {
    PredictionKind.CLASSES: ("random", "margin", "u_herding", "max_herding", "typiclust", "k_center"),
    PredictionKind.LABELS: (
        "random",
        "multilabel_max_entropy",
        "u_herding",
        "max_herding",
        "label_cardinality",
        "k_center",
    ),
    PredictionKind.VALUES: ("random", "member_std", "u_herding", "max_herding", "gsx", "kmeans"),
}
_COLORS = ("#555555", "#0b5fa5", "#e08214", "#1b7837", "#b2182b", "#762a83")


@dataclass(frozen=True)
class Runs:
    """Qualities of one kind of predictions by data set: strategies x seeds x rounds, the strategies in one order for
    all. batches: labels a round, by data set."""

    kind: PredictionKind
    labels: list[str]
    qualities: Mapping[str, NDArray[np.float64]]
    batches: Mapping[str, int]

    @property
    def seeds(self) -> int:
        return next(iter(self.qualities.values())).shape[1]

    def counts(self, name: str) -> NDArray[np.int64]:
        """How many labels there are after each round."""
        return self.batches[name] * np.arange(1, ROUNDS + 1)

    def heights(self, part: slice) -> dict[str, NDArray[np.float64]]:
        """Mean quality over some rounds, strategies x seeds, by data set."""
        return {name: mean_height(self.counts(name)[part], q[:, :, part]) for name, q in self.qualities.items()}


def write(runs: Runs, folder: Path) -> None:
    """Put the tables of a kind into the page, in the place of those that are there, and its picture beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / PAGE
    sections = _sections(page.read_text()) if page.exists() else {}
    sections[TITLES[runs.kind]] = section(runs)
    ordered = [sections[title] for title in TITLES.values() if title in sections]
    page.write_text("\n".join([_HEAD, *ordered]))
    plot(runs, folder / picture(runs.kind))


def _sections(text: str) -> dict[str, str]:
    """The sections of the page by their titles."""
    return {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]}


def picture(kind: PredictionKind) -> str:
    """The name of the picture of a kind."""
    return "strategy-learning.png" if kind is PredictionKind.CLASSES else f"strategy-learning-{kind}.png"


def section(runs: Runs) -> str:
    """The tables."""
    few, many = slice(0, FEW_ROUNDS), slice(FEW_ROUNDS - 1, None)
    sizes = ", ".join(f"{size} in {name}" for name, size in runs.batches.items() if size != 20)
    each = f"20 labels a round{f' ({sizes})' if sizes else ''}, {ROUNDS} rounds"
    quality = QUALITIES[runs.kind]
    lines = [
        f"## {TITLES[runs.kind]}",
        "",
        _SETTINGS[runs.kind],
        "",
        f"![Gain in {quality} over random sampling, by labels]({picture(runs.kind)})",
        "",
        f"Held-out {quality} in %, mean over the labels ({runs.seeds} seeds, {each}). After each mean, the difference "
        f"to `{BASELINE}` under the same seeds, with its 95% bootstrap interval; bold where that leaves out 0.",
    ]
    for title, part in ((f"The first {FEW_ROUNDS} rounds", few), (f"From round {FEW_ROUNDS} to {ROUNDS}", many)):
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
    matrix = penalty_matrix(list(runs.qualities.values()))
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
    """A panel per data set: the quality gained over the baseline, mean and standard error over the seeds."""
    figure, panels = plt.subplots(1, len(runs.qualities), figsize=(4 * len(runs.qualities), 4), layout="constrained")
    base = runs.labels.index(BASELINE)
    for axes, (name, values_SRQ) in zip(np.atleast_1d(panels), runs.qualities.items(), strict=True):
        labels_Q = runs.counts(name)
        for label, color in zip(_SHOWN[runs.kind], _COLORS, strict=True):
            if label not in runs.labels:
                continue
            gains_RQ = 100 * (values_SRQ[runs.labels.index(label)] - values_SRQ[base])
            mean_Q, error_Q = gains_RQ.mean(0), gains_RQ.std(0) / np.sqrt(len(gains_RQ))
            axes.plot(labels_Q, mean_Q, color=color, label=label, marker="o", markersize=3)
            axes.fill_between(labels_Q, mean_Q - error_Q, mean_Q + error_Q, color=color, alpha=0.15, linewidth=0)
        axes.set_title(name)
        axes.set_xlabel("labels")
        axes.grid(alpha=0.3)
    np.atleast_1d(panels)[0].set_ylabel(f"held-out {QUALITIES[runs.kind]} over {BASELINE}, points")
    np.atleast_1d(panels)[-1].legend(fontsize=8)
    figure.savefig(path, dpi=130)
    plt.close(figure)
