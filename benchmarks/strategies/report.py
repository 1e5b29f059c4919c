"""The results as Markdown: ours beside the peers, then how near the machine's limits and how it grows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.strategies.data import Size
from benchmarks.strategies.runs import Outcome, describe, result_path
from benchmarks.strategies.works import OURS, WORKS, Cost, Peer, Work

MIB = 1 << 20
_REPEATS = 5

_HOW = """\
Every measurement has a process of its own, which maps the same arrays, makes one small run first and then times the
call; converting the data into what a library wants is not timed. Ours runs before and after the peers. Times are
medians of 5 runs, where no other number is given; nothing is run again once it has taken 60 s in all (a peer without
an aim: 15 s). A peer is stopped after 60 s or twice the aim, whichever is later, and never waited for beyond 300 s a
run; that gives a lower bound of the ratio. Memory is the peak of resident memory above the loaded data. The quality is
computed from the results by one measure for all, to show that the same work was done; sampling strategies differ by
chance.
"""

_LIMITS = """\
The least cost is that of the stated algorithm; its time is what the machine would need at the rates above for the
dearest of matrix products in float32, reading memory, and exponentials. A share above 100% means that work is left
out (bounds that spare distances) or is done at the higher bfloat16 rate. The growth is the time on twice the rows over
the time on once, beside what the least cost predicts.
"""


@dataclass(frozen=True)
class Line:
    """The results of one work."""

    work: Work
    size: Size
    limits: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]
    growth: Outcome | None

    @property
    def ours(self) -> Outcome:
        """Our own."""
        return self.outcomes[OURS]

    def peers(self) -> list[tuple[Peer, Outcome]]:
        """Those that took part, in the table's order."""
        return [
            (peer, self.outcomes[peer.name])
            for peer in self.work.peers
            if peer.name in self.outcomes and self.outcomes[peer.name].failure != "left out"
        ]

    def ratio(self, peer: Outcome) -> float | None:
        """How many times slower than ours, at least; None where nothing was timed."""
        if self.ours.failure:
            return None
        if peer.failure == "timeout":
            return peer.waited_s / self.ours.median
        return None if peer.failure else peer.median / self.ours.median

    def least_seconds(self, size: Size) -> float:
        """The time of the least cost on the machine that measured this."""
        return self.work.cost(size).seconds(
            *(self.limits[name] for name in ("f32_flops", "read_bytes", "exponentials"))
        )


def load(results: Path) -> list[Line]:
    """What is kept, in the order of the table of works."""
    return [_line(work, path) for work in WORKS if (path := result_path(results, work)).exists()]


def _line(work: Work, path: Path) -> Line:
    kept = json.loads(path.read_text())
    return Line(
        work=work,
        size=Size(**kept["size"]),
        limits=kept["limits"],
        outcomes={name: Outcome(**fields) for name, fields in kept["outcomes"].items()},
        growth=Outcome(**kept["growth"]) if kept["growth"] else None,
    )


def markdown(lines: Sequence[Line], scale: int = 1) -> str:
    """The whole page."""
    parts = ["# Strategy benchmarks", "Written by `make bench-strategies`.", _HOW.strip()]
    if scale != 1:
        parts.append(f"**Sizes divided by {scale}: these figures only show that the benchmark runs.**")
    parts.append("\n".join(dict.fromkeys(f"- {machine(line.limits)}" for line in lines)))
    parts.append("![How many times slower than assay each peer is](strategy-benchmarks.png)")
    parts.append(_table(_PEER_COLUMNS, [row for line in lines for row in _peer_rows(line)]))
    parts += [
        "## Limits of the machine, and growth",
        _LIMITS.strip(),
        _table(_LIMIT_COLUMNS, [_limit_row(line) for line in lines]),
    ]
    parts += ["## Versions", _versions(lines)]
    return "\n\n".join(parts) + "\n"


def machine(limits: Mapping[str, Any]) -> str:
    """The machine and its rates in one line."""
    return (
        f"{limits['processor']}, {limits['cores']} cores, {limits['memory_bytes'] / 2**30:.0f} GiB, Linux "
        f"{limits['kernel']}, torch {limits['torch']}: matrix products {limits['f32_flops'] / 1e9:,.0f} GFLOP/s in "
        f"float32 and {limits['bf16_flops'] / 1e9:,.0f} in bfloat16, memory read at {limits['read_bytes'] / 1e9:.1f} "
        f"GB/s, {limits['exponentials'] / 1e9:.2f} G exponentials/s"
    )


_PEER_COLUMNS = (
    "work",
    "assay",
    "peer",
    "its time",
    "ratio",
    "aim",
    "reached",
    "peak MiB, assay / peer",
    "quality, assay / peer",
)
_LIMIT_COLUMNS = ("work", "least cost", "its time", "assay", "share of the limit", "growth at 2x", "predicted")


def _peer_rows(line: Line) -> list[tuple[str, ...]]:
    title = f"{line.work.name}{_kind(line.work)}<br>{line.size}"
    ours = _seconds(line.ours)
    rows = [
        (title if first else "", ours if first else "", *_peer_cells(line, *row))
        for first, row in _marked(line.peers())
    ]
    return rows or [(title, ours, "none", "", "", "", "", *_alone(line))]


def _alone(line: Line) -> tuple[str, str]:
    if line.ours.failure:
        return "", ""
    return f"{line.ours.peak_bytes / MIB:,.0f}", f"{line.work.quality.name}: {line.ours.quality:.4g}"


def _marked(rows: list[tuple[Peer, Outcome]]) -> list[tuple[bool, tuple[Peer, Outcome]]]:
    return [(place == 0, row) for place, row in enumerate(rows)]


def _peer_cells(line: Line, peer: Peer, outcome: Outcome) -> tuple[str, ...]:
    ratio = line.ratio(outcome)
    at_least = "≥ " if outcome.failure == "timeout" else ""
    return (
        peer.name,
        _seconds(outcome),
        "" if ratio is None else f"{at_least}{ratio:,.1f}x",
        f"{line.work.aim:g}x" if peer.aimed else "",
        _reached(ratio, outcome, line.work.aim) if peer.aimed else "",
        _pair(line.ours, outcome, lambda one: f"{one.peak_bytes / MIB:,.0f}"),
        f"{line.work.quality.name}: {_pair(line.ours, outcome, lambda one: f'{one.quality:.4g}')}",
    )


def _reached(ratio: float | None, outcome: Outcome, aim: float) -> str:
    if ratio is None:
        return ""
    if ratio >= aim:
        return "yes"
    return "open" if outcome.failure == "timeout" else "no"


def _seconds(outcome: Outcome) -> str:
    if outcome.failure:
        return describe(outcome)
    runs = len(outcome.seconds)
    few = "" if runs >= _REPEATS else f" ({runs} run{'s' * (runs > 1)})"
    return f"{outcome.median:.3g} s{few}"


def _pair(ours: Outcome, peer: Outcome, show: Callable[[Outcome], str]) -> str:
    return " / ".join("–" if one.failure else show(one) for one in (ours, peer))


def _limit_row(line: Line) -> tuple[str, ...]:
    title = f"{line.work.name}{_kind(line.work)}, {line.size}"
    least = line.least_seconds(line.size)
    cells = (
        title,
        _cost(line.work.cost(line.size), line.work.cost.__doc__ or ""),
        f"{least:.3g} s",
        _seconds(line.ours),
    )
    if line.ours.failure:
        return (*cells, "", "", "")
    share = f"{least / line.ours.median:.1%}"
    if line.growth is None or line.growth.failure:
        return (*cells, share, line.growth.failure if line.growth else "", "")
    predicted = line.least_seconds(line.size.doubled()) / least
    return (*cells, share, f"{line.growth.median / line.ours.median:.2f}x", f"{predicted:.2f}x")


def _cost(cost: Cost, meaning: str) -> str:
    parts = [(cost.flops / 1e9, "GFLOP"), (cost.bytes / 1e9, "GB"), (cost.exponentials / 1e9, "G exponentials")]
    amounts = ", ".join(f"{amount:.3g} {unit}" for amount, unit in parts if amount)
    return f"{' '.join(meaning.split())} {amounts}"


def _kind(work: Work) -> str:
    return "" if work.kind == "clustered" else f", {'unit vectors' if work.kind == 'unit' else work.kind}"


def _versions(lines: Sequence[Line]) -> str:
    return ", ".join(sorted({version for line in lines for one in line.outcomes.values() for version in one.versions}))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)
