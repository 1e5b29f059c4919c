"""Write docs/strategies from the docstrings and parameters of our own strategies, or check that it is up to date."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from assay.strategies import Need, Selector, Strategy, get, kind
from assay.strategies.base import optional_needs
from assay.strategies.manual import SECTIONS, manual
from assay.strategies.params import schema
from assay.strategies.registry import kinds
from assay.strategies.serving import PredictionKind, kinds_served

_WIDTH = 120
FOLDER = Path(__file__).resolve().parent.parent / "docs" / "strategies"
ROOMS = {
    "uncertainty": ("Uncertainty", "How unsure the model is of each sample."),
    "diversity": ("Diversity", "Picks that cover the space; most need no model."),
    "hybrid": ("Hybrid", "Uncertainty and diversity together."),
    "targeted": ("Targeted", "Samples like given examples, such as those of a rare class."),
    "top": ("Ranking", "The selector behind every scorer."),
}
_MEANING = {
    PredictionKind.CLASSES: "one class of several",
    PredictionKind.LABELS: "any labels of several",
    PredictionKind.VALUES: "numbers",
    PredictionKind.PARTS: "boxes, spans",
    PredictionKind.NOTHING: "free-form answers, or no model",
}
# How a caller names each array in the example of a page.
VARIABLES = {
    Need.LOGITS: "logits_NC",
    Need.PROBS: "probs_NC",
    Need.EMBEDDINGS: "embeddings_ND",
    Need.MEMBER_PROBS: "member_probs_KNC",
    Need.LABELED_EMBEDDINGS: "labeled_LD",
    Need.LABELED_CLASSES: "labeled_classes_L",
    Need.KNN_GRAPH: "knn_graph_NK",
    Need.CLUSTERS: "clusters_N",
    Need.LABEL_PROBS: "label_probs_NC",
    Need.MEMBER_VALUES: "member_values_KNT",
    Need.PART_PROBS: "part_probs_MC",
    Need.PART_OFFSETS: "part_offsets_O",
    Need.LABELED_PROBS: "labeled_probs_LC",
    Need.QUERY_EMBEDDINGS: "queries_QD",
    Need.HEAD_WEIGHTS: "weights_CD",
    Need.HEAD_BIAS: "bias_C",
    Need.WORTH: "worth_N",
}


def main() -> int:
    """Run the action that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", choices=("generate", "check"))
    action = parser.parse_args().action
    wanted = pages()
    if action == "check":
        stale = sorted(name for name in wanted.keys() | _present().keys() if wanted.get(name) != _present().get(name))
        if stale:
            print(f"docs/strategies is out of date ({', '.join(stale)}): run `make strategy-pages`.", file=sys.stderr)
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in _present().keys() - wanted.keys():
        (FOLDER / name).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


def pages() -> dict[str, str]:
    """Every page by file name."""
    strategies = [get(name) for name in kinds() if room(get(name)) in ROOMS]
    return {"README.md": _contents(strategies), **{f"{s.name}.md": _page(s) for s in strategies}}


def room(strategy: Strategy) -> str:
    """The part of the library that a strategy lives in; "" for a third party's."""
    parts = type(strategy).__module__.split(".")
    return parts[2] if parts[:2] == ["assay", "strategies"] else ""


def example(strategy: Strategy) -> str:
    """The call of a strategy on plain arrays, as its page shows it."""
    arrays = [f"{need.value}={VARIABLES[need]}" for need in Need if need in strategy.needs]
    if kind(strategy) == "scorer":
        return _call("score", [f'"{strategy.name}"', *arrays])
    utility = ["utility=utility_N"] if isinstance(strategy, Selector) and strategy.needs_utility else []
    # Random needs no array at all, but must know how many candidates there are.
    sized = arrays + utility or ["embeddings=embeddings_ND"]
    return _call("select", [f'"{strategy.name}"', "size=100", *sized])


def _call(function: str, arguments: list[str]) -> str:
    """A call as the formatter would lay it out."""
    line = f"{function}({', '.join(arguments)})"
    return line if len(line) <= _WIDTH else "\n".join([f"{function}(", *(f"    {a}," for a in arguments), ")"])


def _present() -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}


def _contents(strategies: list[Strategy]) -> str:
    lines = [
        "# Strategies",
        "",
        "One page each, made from the code by `make strategy-pages`. Which to take: [which strategy when]"
        "(../which-strategy.md).",
    ]
    lines += _served(strategies)
    for name, (title, meaning) in ROOMS.items():
        inside = [strategy for strategy in strategies if room(strategy) == name]
        lines += ["", f"## {title}", "", meaning, "", "| strategy | | needs |", "|---|---|---|"]
        lines += [f"| [{s.name}]({s.name}.md) | {_cell(s.summary)} | {_needs(s.needs)} |" for s in inside]
    return "\n".join(lines) + "\n"


def _served(strategies: list[Strategy]) -> list[str]:
    """A table of what serves each kind of predictions; what serves all of them is named once."""
    everywhere = [s for s in strategies if len(kinds_served(s)) == len(PredictionKind)]
    lines = [
        "",
        "## What serves which predictions",
        "",
        "A strategy serves all predictions that give what it needs. Whatever a model says of a sample, and without a "
        f"model: {_links(everywhere)}. The others:",
        "",
        "| predictions | strategies |",
        "|---|---|",
    ]
    for kind_ in PredictionKind:
        others = [s for s in strategies if kind_ in kinds_served(s) and s not in everywhere]
        lines.append(f"| {kind_} ({_MEANING[kind_]}) | {_links(others) or 'none'} |")
    return lines


def _links(strategies: list[Strategy]) -> str:
    return ", ".join(f"[{s.name}]({s.name}.md)" for s in strategies)


def _page(strategy: Strategy) -> str:
    parts = manual(strategy)
    lines = [f"# {strategy.name}", "", strategy.summary, "", parts.meaning, "", *_facts(strategy)]
    lines += ["", "```python", f"from assay.strategies import {kind_call(strategy)}", "", example(strategy), "```"]
    for section in SECTIONS:
        text = parts.sections.get(section, "")
        lines += ["", f"## {section}", "", f"```text\n{text}\n```" if section == "Formula" else text]
        if section == "Formula":
            lines += ["", "## Parameters", "", *_parameters(strategy)]
    return "\n".join(lines) + "\n"


def kind_call(strategy: Strategy) -> str:
    """The function that runs a strategy of this kind."""
    return "score" if kind(strategy) == "scorer" else "select"


def _facts(strategy: Strategy) -> list[str]:
    rows = [("kind", kind(strategy)), ("needs", _needs(strategy.needs))]
    rows.append(("serves predictions of", ", ".join(kinds_served(strategy)) or "no kind"))
    if optional_needs(strategy):
        rows.append(("uses where given", _needs(optional_needs(strategy))))
    if isinstance(strategy, Selector):
        rows.append(("ranks by a utility", "yes" if strategy.needs_utility else "no"))
        rows.append(("depends on the seed", "no" if strategy.deterministic else "yes"))
        rows.append(("fewer picks begin more picks", "yes" if getattr(strategy, "greedy", False) else "no"))
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]


def _needs(needs: frozenset[Need]) -> str:
    return ", ".join(f"`{need.value}`" for need in Need if need in needs) or "nothing"


def _parameters(strategy: Strategy) -> list[str]:
    properties = schema(strategy.params)["properties"]
    if not properties:
        return ["None."]
    rows = [
        f"| `{name}` | `{rule['default']!r}` | {_accepted(rule)} | {_cell(rule['description'])} |"
        for name, rule in properties.items()
    ]
    return ["| name | default | accepts | |", "|---|---|---|---|", *rows]


def _accepted(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(f"`{choice}`" for choice in rule["enum"])
    bounds = rule.get("items", rule)
    limits = [f"{word} {bounds[key]}" for key, word in (("minimum", "from"), ("maximum", "to")) if key in bounds]
    return " ".join([rule["type"], *limits])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
