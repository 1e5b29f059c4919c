"""What a strategy's docstring says of it, part by part."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import dataclass

from assay.strategies.base import Strategy

SECTIONS = ("Formula", "Cost", "Use when", "Avoid when", "Paper", "Reference")
_HEAD = re.compile(rf"^({'|'.join(SECTIONS)}):[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Manual:
    """meaning: what the strategy does, in paragraphs. sections: the texts of SECTIONS that its docstring has."""

    meaning: str
    sections: dict[str, str]


def manual(strategy: Strategy) -> Manual:
    """The parts of the docstring of a strategy's class.

    A section begins at the margin with its name and a colon, and its further lines are indented.
    """
    text = inspect.getdoc(type(strategy)) or ""
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    sections = {head[1]: _body(text[head.end() : end]) for head, end in zip(heads, ends, strict=True)}
    return Manual(text[: heads[0].start() if heads else len(text)].strip(), sections)


def _body(text: str) -> str:
    first, _, rest = text.partition("\n")
    return f"{first}\n{textwrap.dedent(rest)}".strip("\n").rstrip()
