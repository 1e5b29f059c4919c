"""Finding strategies: everything registered under the entry-point group `assay.strategies`, ours included.

An entry point names a strategy object, or a class without arguments that makes one; its name is the strategy's.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Literal

from assay.strategies.base import Strategy, kind
from assay.strategies.errors import StrategyError, UnknownStrategy

GROUP = "assay.strategies"

_loaded: dict[str, Strategy] = {}
# Reentrant: a strategy's module may ask for another strategy while it loads.
_lock = threading.RLock()


def names() -> tuple[str, ...]:
    """The names of all registered strategies, sorted; those that cannot be loaded are among them."""
    return tuple(sorted(_entry_points()))


def get(name: str) -> Strategy:
    """The strategy of a name, loaded on first use.

    Raises UnknownStrategy, or StrategyError STRATEGY_BROKEN where its package fails to load or breaks the contract.
    """
    points = _entry_points()
    if name not in points:
        raise UnknownStrategy(name, points)
    with _lock:
        if name not in _loaded:
            _loaded[name] = _load(points[name])
        return _loaded[name]


def kinds() -> dict[str, Literal["scorer", "selector"]]:
    """Each strategy that loads, by name, with its kind. Broken ones are left out; `broken` says why."""
    return {name: kind(get(name)) for name in names() if name not in broken()}


def broken() -> dict[str, str]:
    """The registered strategies that cannot be used, by name, with the reason."""
    return {name: reason for name in names() if (reason := _failure(name)) is not None}


def refresh() -> None:
    """Forget what was found, for a package that was installed while this process runs."""
    with _lock:
        _entry_points.cache_clear()
        _loaded.clear()


@cache
def _entry_points() -> dict[str, EntryPoint]:
    """Where two packages claim one name, ours keeps it: a third party cannot replace a strategy unseen."""
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        if point.name not in found or point.module.startswith("assay.strategies."):
            found[point.name] = point
    return found


def _load(point: EntryPoint) -> Strategy:
    try:
        loaded = point.load()
        strategy: Strategy = loaded() if isinstance(loaded, type) else loaded
        kind(strategy)
    except Exception as error:
        # A third party's import can fail in any way; it must not take the others with it.
        raise StrategyError("STRATEGY_BROKEN", f"strategy {point.name!r} ({point.value}): {error}") from error
    if strategy.name != point.name:
        message = f"strategy {point.name!r} ({point.value}) calls itself {strategy.name!r}"
        raise StrategyError("STRATEGY_BROKEN", message)
    return strategy


def _failure(name: str) -> str | None:
    try:
        get(name)
    except StrategyError as error:
        return str(error)
    return None
