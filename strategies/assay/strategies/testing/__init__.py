"""The conformance kit: what every strategy must do, ours and yours.

    from assay.strategies.testing import check_strategy
    check_strategy(my_strategy)                      # raises AssertionError that starts with the check's name

or, one test per check:

    @pytest.mark.parametrize(("name", "check"), checks_for(my_strategy))
    def test_conforms(name, check):
        check()
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay.strategies.base import Strategy, kind, optional_needs
from assay.strategies.needs import Need
from assay.strategies.testing.common import COMMON_CHECKS
from assay.strategies.testing.examples import example_arrays
from assay.strategies.testing.scorers import SCORER_CHECKS
from assay.strategies.testing.selectors import SELECTOR_CHECKS
from assay.strategies.testing.stand_ins import supplied_logits, supplied_optional

__all__ = ["Check", "Report", "check_strategy", "checks_for", "example_arrays"]

Check = Callable[[], None]


@dataclass(frozen=True)
class Report:
    """The names of the checks that a strategy passed."""

    strategy: str
    passed: tuple[str, ...]


def check_strategy(strategy: Strategy) -> Report:
    """Run every check. Raises AssertionError naming the first that fails."""
    passed = []
    for name, check in checks_for(strategy):
        check()
        passed.append(name)
    return Report(strategy.name, tuple(passed))


def checks_for(strategy: Strategy) -> list[tuple[str, Check]]:
    """The checks that apply to this strategy, as (name, callable) pairs.

    A strategy that declares probabilities goes through all of them twice: given probabilities, and given logits. One
    that has optional arrays goes through them again with all of those.
    """
    checks = _checks(strategy, "")
    if Need.PROBS in strategy.needs and Need.LOGITS not in strategy.needs:
        checks += _checks(supplied_logits(strategy), "_from_logits")
    if optional_needs(strategy):
        checks += _checks(supplied_optional(strategy), "_with_optional", without={"missing_need_is_named"})
    return checks


def _checks(strategy: Strategy, suffix: str, without: Collection[str] = ()) -> list[tuple[str, Check]]:
    specific = SCORER_CHECKS if kind(strategy) == "scorer" else SELECTOR_CHECKS
    checks: dict[str, Callable[[Any], None]] = {**COMMON_CHECKS, **specific}
    return [
        (name + suffix, partial(_named, name + suffix, check, strategy))
        for name, check in checks.items()
        if name not in without
    ]


def _named(name: str, check: Callable[[Any], None], strategy: Strategy) -> None:
    try:
        check(strategy)
    except Exception as error:
        raise AssertionError(f"{name}: {strategy.name}: {str(error) or type(error).__name__}") from error
