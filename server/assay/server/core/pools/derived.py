"""State that is computed from a pool, can always be computed again, and lives as long as the pool is open."""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

T = TypeVar("T")

Makers = Mapping[type, Callable[[], object]]


class Derived:
    """One object of each kind of derived state. The rooms above bring the kinds: a pool does not know them.

    Args:
        makers: makes the object of each kind.
    """

    def __init__(self, makers: Makers) -> None:
        self._kept = {kind: make() for kind, make in makers.items()}

    def get(self, kind: type[T]) -> T:
        """The object of a kind."""
        return cast(T, self._kept[kind])
