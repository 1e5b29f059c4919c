"""Quotas over a snapshot: which row is of which group, whether the bounds can be met, and what became of them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from assay.server.core.errors import AssayError, Reason
from assay.server.core.mining.messages import QuotaView
from assay.server.core.mining.plan.terms import Quotas
from assay.server.core.mining.supply import QUOTAS, Supply
from assay.server.core.records.arrays import MaskArray, RowArray
from assay.server.core.records.filters import Compare
from assay.strategies.composition.quotas import Quota, Shortfall, allocate, group_counts, shortfalls

Counts = npt.NDArray[np.int64]
# An error's details travel in the trailing metadata, which has little room.
MAX_NAMED = 8
MAX_NAME = 60


@dataclass(frozen=True, slots=True)
class Grouping:
    """Rows by group.

    Attributes:
        terms: the plan's quotas; group g is that of quota g.
        groups_N: group of each row; the last one takes all rows that no quota is for.
        bounds: the quotas as numbers.
    """

    terms: Quotas
    groups_N: RowArray
    bounds: tuple[Quota, ...]

    @property
    def rest(self) -> int:
        """The group that no quota is for."""
        return len(self.bounds)

    def counts(self, rows: RowArray) -> Counts:
        """How many of the rows are of each group. Shape [groups + 1]; the last entry is 0."""
        return group_counts(self.groups_N[rows], [Quota(self.rest)])

    def require(self, available_G: Counts, bounds: Sequence[Quota], size: int, note: str = "") -> None:
        """Raises AssayError(QUOTA_INFEASIBLE), which names each group that cannot be met."""
        short = shortfalls(available_G, bounds, size)
        if short:
            raise self._infeasible(short, note)

    def _infeasible(self, short: Sequence[Shortfall], note: str) -> AssayError:
        named = [self._words(each) for each in short[:MAX_NAMED]]
        more = f"; and {len(short) - MAX_NAMED} more" if len(short) > MAX_NAMED else ""
        facts = [
            {"group": self._name(each), "bound": each.bound, "wanted": each.wanted, "available": each.available}
            for each in short[:MAX_NAMED]
        ]
        return AssayError(
            Reason.QUOTA_INFEASIBLE,
            f"The quotas cannot be met{note}: {'; '.join(named)}{more}. Loosen them or the filter, add samples, or ask "
            "for another number.",
            by=self.terms.attribute or "predicted class",
            shortfalls=json.dumps(facts, ensure_ascii=False),
            shortfall_count=len(short),
        )

    def _name(self, shortfall: Shortfall) -> str:
        return "" if shortfall.group is None else str(self.terms.quotas[shortfall.group].value)[:MAX_NAME]

    def _words(self, shortfall: Shortfall) -> str:
        wanted, available = shortfall.wanted, shortfall.available
        match shortfall.bound:
            case "minimum":
                by = self.terms.attribute or "class"
                return f"{by} {self._name(shortfall)!r} needs {wanted} picks and has {available} candidates"
            case "minimums":
                return f"the minima add up to {wanted} and the batch has room for {available}"
            case "maximums":
                return f"the maxima leave {available} candidates for a batch of {wanted}"

    def report(self, available_G: Counts, picked: RowArray) -> tuple[QuotaView, ...]:
        """What became of each quota."""
        picked_G = self.counts(picked)
        return tuple(
            QuotaView(term, int(available_G[group]), int(picked_G[group]))
            for group, term in enumerate(self.terms.quotas)
        )


def group(terms: Quotas, supply: Supply, mask_N: MaskArray) -> Grouping:
    """Rows by group. Raises AssayError(NEED_MISSING) for groups by predicted class where a candidate lacks one."""
    groups_N = _by_attribute(terms, supply) if terms.attribute else _by_class(terms, supply, mask_N)
    bounds = tuple(Quota(number, term.minimum, term.maximum, term.target) for number, term in enumerate(terms.quotas))
    return Grouping(terms, groups_N, bounds)


def _by_attribute(terms: Quotas, supply: Supply) -> RowArray:
    groups_N = np.full(supply.snapshot.row_count, len(terms.quotas), np.int64)
    for number, term in enumerate(terms.quotas):
        groups_N[supply.snapshot.matches(Compare(terms.attribute, "==", term.value))] = number
    return groups_N


def _by_class(terms: Quotas, supply: Supply, mask_N: MaskArray) -> RowArray:
    names = supply.snapshot.pool.class_names
    group_C = np.full(len(names), len(terms.quotas), np.int64)
    places = {name: place for place, name in enumerate(names)}
    for number, term in enumerate(terms.quotas):
        group_C[places[str(term.value)]] = number
    groups_N: RowArray = group_C[supply.require_predictions(QUOTAS, mask_N).classes(supply.snapshot)]
    return groups_N


def reduced(bounds: Sequence[Quota], taken_G: Counts, size: int, left: int) -> tuple[Quota, ...]:
    """The bounds for the last `left` picks of a batch of `size`, once some of each group are taken."""
    wishes = [max(0.0, (q.target or 0.0) * size - taken_G[q.group]) / max(left, 1) for q in bounds]
    whole = max(1.0, sum(wishes))
    return tuple(
        Quota(
            q.group,
            max(0, q.minimum - int(taken_G[q.group])),
            None if q.maximum is None else max(0, q.maximum - int(taken_G[q.group])),
            None if q.target is None else wish / whole,
        )
        for q, wish in zip(bounds, wishes, strict=True)
    )


def shares(available_G: Counts, bounds: Sequence[Quota], picks: int, keep: int) -> Counts:
    """How many candidates of each group a shortlist of `keep` holds, so that `picks` can still be made within the
    bounds."""
    wanted_G = allocate(available_G, bounds, picks)
    least = [Quota(group, int(count)) for group, count in enumerate(wanted_G[:-1])]
    return allocate(available_G, least, min(keep, int(available_G.sum())))
