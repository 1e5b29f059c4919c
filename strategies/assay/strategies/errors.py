"""What a strategy can refuse, as one small tree.

StrategyError           anything a strategy, its arrays or its parameters can be refused for
├── NeedMissing         NEED_MISSING: an array that was asked for cannot be given
├── UnknownStrategy     UNKNOWN_STRATEGY: no strategy has this name
└── InvalidParams       INVALID_PARAMETER: a parameter is unknown, of the wrong type or out of range
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class StrategyError(ValueError):
    """A refusal with a machine-readable `reason` (UPPER_SNAKE) beside its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class NeedMissing(StrategyError):
    """An array was asked for that these candidates cannot give; `need` names it."""

    def __init__(self, need: str) -> None:
        super().__init__("NEED_MISSING", f"the candidates carry no {need!r} array, and none can be derived")
        self.need = need


class UnknownStrategy(StrategyError):
    """No strategy is registered under `name`; `near` lists the registered names most like it."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        self.name = name
        self.near = tuple(difflib.get_close_matches(name, known, n=3))
        advice = f"did you mean {', '.join(self.near)}?" if self.near else f"known: {', '.join(known)}"
        super().__init__("UNKNOWN_STRATEGY", f"no strategy is called {name!r}; {advice}")


class InvalidParams(StrategyError):
    """A parameter was refused; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__("INVALID_PARAMETER", f"parameter {field!r}: {message}")
        self.field = field
