"""20 Newsgroups: posts of twenty discussion groups, as tab-separated text (lower case, no punctuation)."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.errors import DemoError

_HEADER = ["Category\tText", "d\tstring", "class\t"]


@dataclass(frozen=True, slots=True)
class Document:
    """One post: an id that does not tell the group, its text, and the group it was posted to (the label)."""

    id: str
    text: str
    group: str


def read(path: Path, prefix: str) -> list[Document]:
    """The documents of a file, with ids "{prefix}-{line number}".

    Raises:
        DemoError: the file is not laid out as expected.
    """
    # Only "\n" ends a line here: the texts hold other characters that str.splitlines would cut at.
    lines = path.read_text(encoding="utf-8").split("\n")
    if lines[: len(_HEADER)] != _HEADER:
        raise DemoError(f"{path} does not begin with the three header lines of a 20 Newsgroups table")
    body = enumerate(lines[len(_HEADER) :])
    return [_document(path, f"{prefix}-{number:05d}", line) for number, line in body if line]


def stratified(documents: Sequence[Document], size: int, rng: np.random.Generator) -> list[Document]:
    """A random subset in random order that keeps each group's share, to within one document.

    Raises:
        ValueError: fewer documents than asked for.
    """
    if size > len(documents):
        raise ValueError(f"{size} of only {len(documents)} documents")
    members: dict[str, list[int]] = defaultdict(list)
    for index, document in enumerate(documents):
        members[document.group].append(index)
    quotas = shares({group: len(indices) for group, indices in members.items()}, size)
    chosen = np.concatenate([rng.permutation(indices)[: quotas[group]] for group, indices in members.items()])
    return [documents[index] for index in rng.permutation(chosen)]


def shares(counts: dict[str, int], size: int) -> dict[str, int]:
    """`size` split in proportion to the counts, by largest remainder (ties: first named first)."""
    total = sum(counts.values())
    quotas = {name: size * count // total for name, count in counts.items()}
    remainders = sorted(counts, key=lambda name: -(size * counts[name] % total))
    for name in remainders[: size - sum(quotas.values())]:
        quotas[name] += 1
    return quotas


def clip(text: str, size: int) -> str:
    """The longest beginning of a text that takes at most `size` bytes in UTF-8."""
    return text.encode()[:size].decode(errors="ignore")


def _document(path: Path, document_id: str, line: str) -> Document:
    group, tab, text = line.partition("\t")
    if not tab:
        raise DemoError(f"{path}: {document_id} has no tab between group and text")
    return Document(document_id, text, group)
