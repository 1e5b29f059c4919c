"""Reading and sampling documents."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demo.errors import DemoError
from demo.newsgroups import Document, clip, read, shares, stratified

HEADER = "Category\tText\nd\tstring\nclass\t\n"


def write(folder: Path, body: str) -> Path:
    path = folder / "table.tab"
    path.write_text(HEADER + body, encoding="utf-8")
    return path


def test_read(tmp_path: Path) -> None:
    path = write(tmp_path, "sci.med\tre a doctor\u2028writes\nrec.autos\tone\ttwo\n")
    assert read(path, "train") == [
        Document("train-00000", "re a doctor\u2028writes", "sci.med"),
        Document("train-00001", "one\ttwo", "rec.autos"),
    ]


@pytest.mark.parametrize(
    "text", ["", "sci.med\ttext\n", HEADER + "no tab here\n"], ids=["empty", "no header", "no tab"]
)
def test_read_refuses_other_files(tmp_path: Path, text: str) -> None:
    path = tmp_path / "table.tab"
    path.write_text(text)
    with pytest.raises(DemoError, match=r"table\.tab"):
        read(path, "train")


def test_stratified_keeps_shares() -> None:
    documents = [Document(str(number), "", "a" if number < 60 else "b") for number in range(80)]
    chosen = stratified(documents, 20, np.random.default_rng(0))
    assert Counter(document.group for document in chosen) == {"a": 15, "b": 5}
    assert len({document.id for document in chosen}) == 20
    assert chosen == stratified(documents, 20, np.random.default_rng(0))
    assert chosen != stratified(documents, 20, np.random.default_rng(1))


def test_stratified_is_not_grouped() -> None:
    """Rows in the order of their class would leak it."""
    documents = [Document(str(number), "", "ab"[number // 50]) for number in range(100)]
    groups = "".join(document.group for document in stratified(documents, 100, np.random.default_rng(0)))
    assert groups not in ("a" * 50 + "b" * 50, "b" * 50 + "a" * 50)


def test_stratified_refuses_too_many() -> None:
    with pytest.raises(ValueError, match="3 of only 1"):
        stratified([Document("1", "", "a")], 3, np.random.default_rng(0))


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 50), min_size=1), st.floats(0, 1))
def test_shares_add_up_and_stay_near(counts: dict[str, int], part: float) -> None:
    size = int(part * sum(counts.values()))
    quotas = shares(counts, size)
    assert sum(quotas.values()) == size
    for name, count in counts.items():
        assert abs(quotas[name] - size * count / sum(counts.values())) < 1
        assert 0 <= quotas[name] <= count


@given(st.text(), st.integers(0, 20))
def test_clip(text: str, size: int) -> None:
    short = clip(text, size)
    assert text.startswith(short)
    assert len(short.encode()) <= size
    if short != text:
        assert len(text[: len(short) + 1].encode()) > size
