"""The pages' code blocks, and how they are run as a reader would run them."""

import io
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from doctest import ELLIPSIS, NORMALIZE_WHITESPACE, OutputChecker
from itertools import takewhile
from pathlib import Path

from assay.client.cli.main import main

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NUMBER = re.compile(r"[+-]?\d[\d.,:]*(e[+-]?\d+)?")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_MADE_UP = re.compile(r"-[0-9a-f]{8,}\b")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("" where there is none), text, and the line it begins on."""

    language: str
    text: str
    line: int


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(m[1], m[2], text.count("\n", 0, m.start()) + 2) for m in _BLOCK.finditer(text)]


def commands(block: Block) -> Iterator[tuple[str, str]]:
    """Each command of a console block with the output that the page shows for it."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output


def run_python(block: Block, page: Path, names: dict[str, object], instead: Mapping[str, str]) -> str:
    """What a block prints, with some text in it replaced; it defines its names in `names`."""
    text = block.text
    for old, new in instead.items():
        text = text.replace(old, new)
    out = io.StringIO()
    code = compile("\n" * (block.line - 1) + text, str(page), "exec")
    with redirect_stdout(out):
        exec(code, names)
    return out.getvalue()


def run_command(command: str) -> str:
    """What an `assay` command prints. AssertionError if it fails."""
    words = shlex.split(command)
    assert words[0] == "assay", command
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        status = main(words[1:])
    assert status == 0, f"{command}:\n{errors.getvalue()}"
    return out.getvalue()


def agree(shown: str, printed: str) -> bool:
    """Whether a page shows what is printed. Numbers, made-up ids and spaces may differ; "..." stands for anything."""
    return OutputChecker().check_output(_masked(shown), _masked(printed), ELLIPSIS | NORMALIZE_WHITESPACE)


def _masked(text: str) -> str:
    return _NUMBER.sub("#", _MADE_UP.sub("-#", text))


def table(page: Path, first: str) -> list[list[str]]:
    """The rows of the table whose first column has this head, cell by cell."""
    lines = iter(page.read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(f"| {first} |"):
            next(lines)
            return [_cells(row) for row in takewhile(lambda row: row.startswith("|"), lines)]
    raise AssertionError(f"{page} has no table that begins with {first}")


def _cells(row: str) -> list[str]:
    return [cell.strip() for cell in row.strip("|").split("|")]


def links(page: Path) -> list[str]:
    """Targets of the links to files and places of this repository."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return [target for target in _LINK.findall(prose) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Names under which the headings of a page can be linked to."""
    prose = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
