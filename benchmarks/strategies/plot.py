"""How many times slower than ours each peer is, on a logarithmic scale, with the aim of each work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.strategies.report import Line

_AIMED, _OTHER, _AIM = "#2b6cb0", "#a0aec0", "#c53030"
_Bar = tuple[str, float, bool, bool, float]


def draw(lines: Sequence[Line], path: Path) -> None:
    """Write the plot as PNG."""
    bars = [bar for line in lines for bar in _bars(line)]
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.27 * max(4, len(bars))), layout="constrained")
    for place, bar in enumerate(reversed(bars)):
        _draw_bar(axes, place, bar)
    _label(axes, [bar[0] for bar in reversed(bars)])
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _bars(line: Line) -> list[_Bar]:
    return [
        (
            f"{line.work.name} {_size(line)} · {peer.name}",
            ratio,
            peer.aimed,
            outcome.failure == "timeout",
            line.work.aim,
        )
        for peer, outcome in line.peers()
        if (ratio := line.ratio(outcome)) is not None
    ]


def _size(line: Line) -> str:
    width = line.size.dim or line.size.classes
    shape = f"{line.size.rows:,} x {width}" if width else f"{line.size.rows:,}"
    return f"{shape}, isotropic" if line.work.kind == "isotropic" else shape


def _draw_bar(axes: Axes, place: int, bar: _Bar) -> None:
    _, ratio, aimed, bound, aim = bar
    # From 1 on, so that what is slower than a peer points to the left.
    axes.barh(place, ratio - 1, left=1, color=_AIMED if aimed else _OTHER, hatch="//" if bound else None)
    axes.text(max(ratio, 1) * 1.06, place, f"{'≥ ' if bound else ''}{ratio:.3g}x", va="center", fontsize=7)
    if aimed:
        axes.plot([aim, aim], [place - 0.45, place + 0.45], color=_AIM, linewidth=2)


def _label(axes: Axes, names: list[str]) -> None:
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.12, y=0.01)
    axes.set_xlabel("time of the peer over the time of assay\n(red: the aim; hatched: at least so much; grey: no aim)")
    axes.spines[["top", "right"]].set_visible(False)
