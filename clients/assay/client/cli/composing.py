"""Options that add to a plan, and how their text is read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeAlias, cast, get_args

import typer

from assay.client import Plan, Quota, Quotas
from assay.client.cli.arguments import read_plan
from assay.client.filters import parse_value
from assay.client.plans import DrawFrom, PlanLike

ExploreOption: TypeAlias = Annotated[float | None, typer.Option(help="Share of the picks drawn at random, 0 to 1.")]
ApartOption: TypeAlias = Annotated[
    float | None, typer.Option(help="Picks are farther than this from each other and from what is labeled or leased.")
]
LikeOption: TypeAlias = Annotated[
    list[str] | None, typer.Option(help="Id of a sample that a targeted strategy looks for more of.")
]
SourceOption: TypeAlias = Annotated[
    str, typer.Option(help="Source of predictions to go by: your own, or head, backbone or pushed.")
]
DrawOption: TypeAlias = Annotated[
    str, typer.Option(help="From which samples: unlabeled, suspects, disputed or all of these.")
]
QuotaOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(help="Bounds for a group: cat=5 (exactly), cat=2..8, cat=2.., cat=..8, or cat=30% (wished share)."),
]
ByOption: TypeAlias = Annotated[
    str, typer.Option(help="Attribute whose value is the group of --quota; the predicted class if not given.")
]

_BOUNDS = re.compile(r"(?P<exact>\d+)|(?P<low>\d*)\.\.(?P<high>\d*)|(?P<share>\d+(\.\d+)?)%")


@dataclass(frozen=True, slots=True)
class Additions:
    """What the options say; None and nothing leave the plan as it is."""

    explore: float | None = None
    apart: float | None = None
    like: Sequence[str] | None = None
    quota: Sequence[str] | None = None
    by: str = ""
    source: str = ""
    draw_from: str = ""

    def to(self, text: str | None) -> PlanLike | None:
        """The plan of a `--plan` option with these parts replaced; where there is none, they are beside the
        default of the pool's task.

        Raises:
            ValueError: JSON that is no plan, or bounds that cannot be read.
            OSError: the plan's file cannot be read.
        """
        plan = read_plan(text)
        if self == Additions():
            return plan
        whole = Plan.preset(plan) if isinstance(plan, str) else plan or Plan()
        added = replace(
            whole,
            exploration=whole.exploration if self.explore is None else self.explore,
            near_duplicate_radius=whole.near_duplicate_radius if self.apart is None else self.apart,
            query=tuple(self.like or ()) or whole.query,
            quotas=self._quotas() or whole.quotas,
            prediction_source=self.source or whole.prediction_source,
            draw_from=_drawn(self.draw_from) or whole.draw_from,
        )
        return None if added == Plan() else added

    def _quotas(self) -> Quotas | None:
        if self.by and not self.quota:
            raise ValueError("--by names the groups of --quota: give some")
        return Quotas([_quota(text, bool(self.by)) for text in self.quota], self.by) if self.quota else None


def _drawn(word: str) -> DrawFrom | None:
    """From where to draw. Raises ValueError for another word."""
    if not word:
        return None
    if word not in get_args(DrawFrom):
        raise ValueError(f"{word!r} are no samples to draw from: choose from {', '.join(get_args(DrawFrom))}")
    return cast(DrawFrom, word)


def _quota(text: str, typed: bool) -> Quota:
    name, equals, bounds = text.rpartition("=")
    match = _BOUNDS.fullmatch(bounds)
    if not (name and equals and match) or bounds == "..":
        raise ValueError(f"{text!r} is no quota: write GROUP=5, GROUP=2..8, GROUP=2.., GROUP=..8 or GROUP=30%")
    value = parse_value(name) if typed else name
    if match["share"]:
        return Quota(value, target=float(match["share"]) / 100)
    if match["exact"]:
        return Quota(value, int(match["exact"]), int(match["exact"]))
    return Quota(value, int(match["low"] or 0), int(match["high"]) if match["high"] else None)
