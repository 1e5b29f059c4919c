"""The strategy contract: what a strategy sees, what it declares and what it returns.

A **scorer** is a pure, row-independent function from a block of candidates to one score per candidate, so it
streams, shards and merges. A **selector** looks at all candidates together and picks some of them in order.
Both declare as data which arrays they need; the caller computes those and nothing else.

A strategy may have `optional: frozenset[Need]` too: arrays that it uses where the caller has them and does without
otherwise. A selector may have `greedy: bool`: True if the picks of a smaller size begin those of a larger one.
A scorer may have `finish(scores_N, candidates, params)`: what of a score hangs on the other candidates. It is called
once, after all of them are scored, leaves its input alone and gives float32 scores of the same shape; it may read what
the scorer needs, and is as deterministic as `score`.

Everywhere: a higher score is more informative, ties go to the lower index, and NaN is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from assay.strategies.candidates import Candidates
from assay.strategies.errors import StrategyError
from assay.strategies.interrupt import checkpoint
from assay.strategies.needs import Need

Diagnostics = Mapping[str, float | int | str]
Finish = Callable[[NDArray[np.float32], Candidates, Any], NDArray[np.float32]]


@dataclass(frozen=True)
class NoParams:
    """The parameters of a strategy that has none."""


@dataclass(frozen=True)
class Selection:
    """What a selector picked.

    indices: int64, into the candidates, in pick order, without repeats.
    scores: float32, one per pick, finite, higher = more informative; the strategy says what it measures.
    diagnostics: a few named numbers or words about the run.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]
    diagnostics: Diagnostics = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if self.indices.ndim != 1 or self.indices.shape != self.scores.shape:
            raise StrategyError(
                "INVALID_SELECTION", f"{self.indices.shape} indices do not go with {self.scores.shape} scores"
            )

    def __len__(self) -> int:
        return len(self.indices)

    @classmethod
    def empty(cls) -> Selection:
        return cls(np.empty(0, np.int64), np.empty(0, np.float32))


@runtime_checkable
class Scorer(Protocol):
    """Scores candidates one by one: `score(a + b) == score(a) + score(b)` for any split into blocks.

    What cannot be said of a sample by itself belongs into an optional `finish`, as the module says.
    """

    @property
    def name(self) -> str:
        """The registered name, lower_snake."""

    @property
    def summary(self) -> str:
        """One sentence for a person who chooses a strategy."""

    @property
    def needs(self) -> frozenset[Need]:
        """The arrays that `score` may read, besides `optional` ones and no others."""

    @property
    def params(self) -> type[Any]:
        """The frozen dataclass of its parameters; every field has a default and a documented range."""

    def score(self, block: Candidates, params: Any) -> NDArray[np.float32]:
        """float32 `scores_N`, higher = more informative. Raises StrategyError for arrays that it cannot score."""


@runtime_checkable
class Selector(Protocol):
    """Picks candidates together. It never changes its inputs; its only randomness is `rng`."""

    @property
    def name(self) -> str:
        """The registered name, lower_snake."""

    @property
    def summary(self) -> str:
        """One sentence for a person who chooses a strategy."""

    @property
    def needs(self) -> frozenset[Need]:
        """The arrays that `select` may read, besides `optional` ones and no others."""

    @property
    def params(self) -> type[Any]:
        """The frozen dataclass of its parameters; every field has a default and a documented range."""

    @property
    def deterministic(self) -> bool:
        """True if the picks do not depend on `rng`."""

    @property
    def needs_utility(self) -> bool:
        """True if `select` cannot work without `utility`."""

    def select(
        self,
        candidates: Candidates,
        size: int,
        rng: np.random.Generator,
        utility: NDArray[np.float32] | None,
        params: Any,
    ) -> Selection:
        """`min(size, candidates.size)` different candidates, in pick order.

        size: how many to pick, at least 0.
        utility: float32 `scores_N` from the plan's scorers, or None where the plan has none.
        Raises StrategyError for arrays that it cannot work with.
        """


Strategy = Scorer | Selector


def kind(strategy: Strategy) -> Literal["scorer", "selector"]:
    """Which of the two protocols a strategy follows. Raises StrategyError NOT_A_STRATEGY for neither or both."""
    is_scorer, is_selector = isinstance(strategy, Scorer), isinstance(strategy, Selector)
    if is_scorer == is_selector:
        raise StrategyError("NOT_A_STRATEGY", f"{strategy!r} is neither a scorer nor a selector, or claims to be both")
    return "scorer" if is_scorer else "selector"


def optional_needs(strategy: Strategy) -> frozenset[Need]:
    """The arrays that a strategy uses if there are any, besides those it needs."""
    return frozenset(getattr(strategy, "optional", frozenset()))


def finished(scorer: Scorer, scores_N: NDArray[np.float32], candidates: Candidates, params: Any) -> NDArray[np.float32]:
    """The scores of all candidates of a selection, from what `score` gave for each of them, in blocks or at once."""
    finish: Finish | None = getattr(scorer, "finish", None)
    return scores_N if finish is None else finish(scores_N, candidates, params)


def checked_size(size: int, candidates: Candidates) -> int:
    """How many picks `size` really means here. Raises StrategyError INVALID_SIZE below 0, Interrupted."""
    checkpoint()
    if size < 0:
        raise StrategyError("INVALID_SIZE", f"cannot pick {size} samples")
    return min(size, candidates.size)


def checked_utility(utility: NDArray[np.float32] | None, candidates: Candidates) -> NDArray[np.float32]:
    """The utility of a selector that cannot do without one. Raises StrategyError UTILITY_MISSING or INVALID_ARRAY."""
    if utility is None:
        raise StrategyError("UTILITY_MISSING", "this selector ranks by a utility: name a scorer in the plan")
    if utility.shape != (candidates.size,):
        raise StrategyError("INVALID_ARRAY", f"utility has shape {utility.shape}, not ({candidates.size},)")
    return utility
