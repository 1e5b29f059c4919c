"""The registry: found through entry points, one broken package harms no other."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assay.strategies import StrategyError, UnknownStrategy, get, kind, names, registry

THIRD_PARTY = """
from assay.strategies.diversity.random import Random
class Theirs(Random):
    name = "theirs"
class Replacement(Random):
    name = "margin"
not_a_strategy = object()
"""
ENTRY_POINTS = """
[assay.strategies]
theirs = third_party_strategies:Theirs
broken = third_party_missing:Anything
no_strategy = third_party_strategies:not_a_strategy
misnamed = third_party_strategies:Theirs
margin = third_party_strategies:Replacement
"""


@pytest.fixture
def third_party(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An installed package with strategies good and bad."""
    info = tmp_path / "third_party-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: third-party\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    (tmp_path / "third_party_strategies.py").write_text(THIRD_PARTY)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    yield
    monkeypatch.undo()
    registry.refresh()


def test_ours_are_registered() -> None:
    assert {"random", "least_confidence", "margin", "entropy", "k_center", "top"} <= set(names())
    assert registry.kinds()["margin"] == "scorer"
    assert registry.kinds()["k_center"] == "selector"


def test_get_is_cached_and_kind_tells_them_apart() -> None:
    assert get("margin") is get("margin")
    assert kind(get("margin")) == "scorer"
    assert kind(get("top")) == "selector"


def test_unknown_name_lists_near_ones() -> None:
    with pytest.raises(UnknownStrategy, match="margin") as caught:
        get("margn")
    assert caught.value.reason == "UNKNOWN_STRATEGY"
    assert caught.value.near == ("margin",)


@pytest.mark.usefixtures("third_party")
def test_third_party_is_a_peer() -> None:
    assert get("theirs").name == "theirs"
    assert registry.kinds()["theirs"] == "selector"


@pytest.mark.usefixtures("third_party")
@pytest.mark.parametrize("name", ["broken", "no_strategy", "misnamed"])
def test_broken_entry_point_is_reported_by_name_and_harms_no_other(name: str) -> None:
    with pytest.raises(StrategyError, match=name) as caught:
        get(name)
    assert caught.value.reason == "STRATEGY_BROKEN"
    assert name in names()
    assert name in registry.broken()
    assert name not in registry.kinds()
    assert kind(get("entropy")) == "scorer"


@pytest.mark.usefixtures("third_party")
def test_third_party_cannot_replace_ours() -> None:
    assert kind(get("margin")) == "scorer"


def test_import_leaves_torch_alone() -> None:
    code = "import sys, assay.strategies as s; s.names(); sys.exit('torch' in sys.modules or 'faiss' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
