"""Checks of plans: in themselves, and against the pool that they are to run over."""

import math

from assay.server.core import checks
from assay.server.core.errors import AssayError, Reason
from assay.server.core.limits import MAX_ANNOTATIONS
from assay.server.core.mining.plan.terms import Plan, Quotas, QuotaTerm, ScoreTerm, Shortlist, Stochastic
from assay.server.core.models.predictions import of_head
from assay.server.core.pools.snapshot import Snapshot
from assay.server.core.pools.source_checks import OWN
from assay.server.core.pools.source_service import not_found
from assay.server.core.records.filters import Compare
from assay.server.core.records.tasks import TaskKind
from assay.server.core.tasks.classes import Classes

MAX_SCORES = 8
MAX_QUOTAS = 1000
# Each is a pass over the attribute.
MAX_ATTRIBUTE_QUOTAS = 100
MAX_NEIGHBORS = 1000
MAX_QUERY = 1000
MAX_BETA = 1000.0
MAX_COUNT = 2**53
KINDS = ("power", "softmax", "softrank")
# Targets are decimal fractions of a whole: their sum may miss 1 by rounding.
SHARE_SLACK = 1e-9


def invalid(message: str) -> AssayError:
    """The error for a plan that makes no sense."""
    return AssayError(Reason.INVALID_PLAN, message)


def sound(plan: Plan) -> None:
    """A plan that makes sense in itself. Raises AssayError(INVALID_PLAN), and as checks.ids for its query."""
    if not plan.scores and plan.select is None:
        raise invalid("The plan is empty: name a preset, scores or a selector.")
    if not (math.isfinite(plan.exploration) and 0 <= plan.exploration <= 1):
        raise invalid("exploration is a share: give a number from 0 to 1.")
    if not (math.isfinite(plan.near_duplicate_radius) and plan.near_duplicate_radius >= 0):
        raise invalid("near_duplicate_radius is a distance: give a finite number of 0 or more.")
    _overlap(plan)
    _scores(plan.scores)
    if plan.stochastic is not None:
        _stochastic(plan.stochastic, bool(plan.scores))
    if plan.shortlist is not None:
        _shortlist(plan.shortlist, bool(plan.scores))
    if plan.quotas is not None:
        _quotas(plan.quotas)
    if plan.query:
        checks.ids(plan.query, MAX_QUERY)


def _overlap(plan: Plan) -> None:
    share, wanted = plan.overlap_share, plan.overlap_annotations
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise invalid("overlap_share is a share: give a number from 0 to 1.")
    if share and not 2 <= wanted <= MAX_ANNOTATIONS:
        raise invalid(f"overlap_annotations is 2 to {MAX_ANNOTATIONS}, not {wanted}: one is wanted of every sample.")
    if wanted and not share:
        raise invalid("overlap_annotations is of the share of the picks that overlap_share names; give that, too.")


def _scores(terms: tuple[ScoreTerm, ...]) -> None:
    if len(terms) > MAX_SCORES:
        raise invalid(f"A plan has at most {MAX_SCORES} scores, not {len(terms)}.")
    if any(not (math.isfinite(term.strength) and term.strength > 0) for term in terms):
        raise invalid("strength is an exponent or a weight: give a finite number above 0, or leave out the term.")


def _stochastic(stochastic: Stochastic, scored: bool) -> None:
    if not scored:
        raise invalid("stochastic draws by the utility; name at least one scorer under scores.")
    if stochastic.kind not in KINDS:
        raise invalid(f"stochastic is one of {', '.join(KINDS)}, not {stochastic.kind!r}.")
    if not 0 < stochastic.beta <= MAX_BETA:
        raise invalid(f"The beta of stochastic is above 0, and {MAX_BETA:g} at most.")


def _shortlist(shortlist: Shortlist, scored: bool) -> None:
    given = (shortlist.size, shortlist.per_pick, shortlist.neighbors)
    if min(given) < 0 or sum(number > 0 for number in given) != 1:
        raise invalid("A shortlist has one of a size, a number per pick and a number of neighbors, of 1 or more.")
    if shortlist.neighbors > MAX_NEIGHBORS:
        raise invalid(f"A shortlist takes at most {MAX_NEIGHBORS} neighbors of a sample, not {shortlist.neighbors}.")
    if shortlist.by_utility and not scored:
        raise invalid("A shortlist keeps the candidates of highest utility; name at least one scorer under scores.")


def _quotas(quotas: Quotas) -> None:
    most = MAX_ATTRIBUTE_QUOTAS if quotas.attribute else MAX_QUOTAS
    if not 1 <= len(quotas.quotas) <= most:
        raise invalid(f"A plan has 1 to {most} quotas of this kind, not {len(quotas.quotas)}.")
    for quota in quotas.quotas:
        _quota(quota)
    # 1, 1.0 and True are one value to the attribute, and to Python.
    if len({quota.value for quota in quotas.quotas}) < len(quotas.quotas):
        raise invalid("Two quotas are for the same group; give it one.")
    if sum(quota.target or 0 for quota in quotas.quotas) > 1 + SHARE_SLACK:
        raise invalid("The targets of the quotas add up to more than 1, which is the whole batch.")


def _quota(quota: QuotaTerm) -> None:
    name = repr(quota.value)[:100]
    most = MAX_COUNT if quota.maximum is None else quota.maximum
    if not 0 <= quota.minimum <= most <= MAX_COUNT:
        raise invalid(f"The quota of {name} needs 0 <= minimum <= maximum, not {quota.minimum} and {quota.maximum}.")
    if quota.target is not None and not 0 <= quota.target <= 1:
        raise invalid(f"The target of {name} is a share: give a number from 0 to 1.")


def fits(plan: Plan, snapshot: Snapshot) -> None:
    """A plan whose names the pool has.

    Raises AssayError(UNKNOWN_ATTRIBUTE | ATTRIBUTE_TYPE_MISMATCH | INVALID_FILTER | UNKNOWN_CLASS | CLASS_RETIRED |
    INVALID_PLAN | SAMPLE_NOT_FOUND | SOURCE_NOT_FOUND)."""
    checks.filter_fits(plan.filter, snapshot.attributes)
    known = plan.prediction_source in (*snapshot.sources, *OWN) or of_head(plan.prediction_source)
    if not known:
        raise not_found(plan.prediction_source, snapshot)
    if plan.query:
        snapshot.require(plan.query)
    if plan.quotas is None:
        return
    if not plan.quotas.attribute and snapshot.pool.task.kind is not TaskKind.CLASSIFICATION:
        raise invalid(
            f"Quotas by predicted class are for samples of one class each, and the pool's task is "
            f"{snapshot.pool.task.kind}. Name an attribute."
        )
    classes = Classes(snapshot.pool.task)
    for quota in plan.quotas.quotas:
        if plan.quotas.attribute:
            checks.filter_fits(Compare(plan.quotas.attribute, "==", quota.value), snapshot.attributes)
        elif not isinstance(quota.value, str):
            raise invalid(f"Quotas without an attribute are for classes: {quota.value!r} is no class name.")
        elif quota.value not in classes.taken:
            refused = classes.refusal(quota.value)
            raise AssayError(refused.reason, f"A quota cannot be met: {refused.problem}", **refused.facts)
