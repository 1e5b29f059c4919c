"""Every strategy of ours says all that its page needs, its page is up to date, and the example on it runs."""

from __future__ import annotations

import pytest

from assay.strategies import Need, get, score, select
from assay.strategies.manual import SECTIONS, manual
from assay.strategies.registry import kinds
from assay.strategies.testing import example_arrays
from tools.strategy_pages import FOLDER, VARIABLES, example, pages, room

OURS = [name for name in kinds() if room(get(name))]


@pytest.mark.parametrize("name", OURS)
def test_docstring_has_every_section(name: str) -> None:
    parts = manual(get(name))
    assert parts.meaning
    assert [section for section in SECTIONS if not parts.sections.get(section)] == []


def test_pages_are_up_to_date() -> None:
    present = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.md")}
    assert present == pages(), "run `make strategy-pages`"


@pytest.mark.parametrize("name", OURS)
def test_example_runs(name: str) -> None:
    arrays = example_arrays()
    given = {VARIABLES[need]: array for need, array in arrays.items()}
    utility_N = arrays[Need.PROBS].max(axis=1)
    result = eval(example(get(name)), {"score": score, "select": select, "utility_N": utility_N, **given})
    assert len(result) == len(utility_N)
