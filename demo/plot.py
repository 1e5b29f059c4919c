"""The learning curves as a picture."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

from demo.curves import Curves

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.ticker import PercentFormatter

# Told apart without colour vision too: by lightness, and by the marker.
_STYLES = (("#0b5fa5", "o"), ("#e08214", "s"), ("#1b7837", "^"), ("#762a83", "D"))


def plot_curves(curves: Mapping[str, Curves], title: str, path: Path) -> None:
    """Write a PNG: a line of means and a band of one standard deviation for each strategy."""
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for (name, curve), (color, marker) in zip(curves.items(), _STYLES, strict=False):
        mean_L, sd_L = curve.mean_L, curve.sd_L
        axes.plot(curve.labels_L, mean_L, color=color, marker=marker, label=name)
        axes.fill_between(curve.labels_L, mean_L - sd_L, mean_L + sd_L, color=color, alpha=0.18, linewidth=0)
    axes.set_title(title)
    axes.set_xlabel("labels")
    axes.set_ylabel("held-out accuracy (mean ± 1 sd over seeds)")
    axes.set_xticks(next(iter(curves.values())).labels_L)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(alpha=0.3)
    axes.legend(title="strategy", loc="lower right")
    figure.savefig(path, dpi=140)
    plt.close(figure)
