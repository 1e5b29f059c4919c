"""Committee scorers: how much the members of an ensemble, or passes with dropout, disagree about each sample.

p_kc is what member k of K says of class c; the members may be registered versions of one model. Natural logarithms.
With one member, or members that agree, every score is 0 (to rounding).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams
from assay.strategies.candidates import Candidates
from assay.strategies.kernels import committee
from assay.strategies.needs import Need


@dataclass(frozen=True)
class CommitteeScorer:
    """What the scorers of this module share: `name` is one of the measures of the committee kernel."""

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset({Need.MEMBER_PROBS})
    params: ClassVar[type[Any]] = NoParams

    def score(self, block: Candidates, params: Any) -> NDArray[np.float32]:
        """float32 scores in the range that the summary says, higher = more disagreement.

        Raises NeedMissing; StrategyError PROBABILITIES_INVALID, or INVALID_ARRAY without members or classes.
        """
        return committee.from_members(block.unchecked(Need.MEMBER_PROBS), {self.name})[self.name]


@dataclass(frozen=True)
class VariationRatio(CommitteeScorer):
    """The share of the committee that is outvoted: how many members do not vote for the most frequent class.

    From 0 (all vote alike) to 1 - 1/min(K, C). Each member votes for its likeliest class, the lowest of equal ones.
    With K members there are at most K different scores, so ties are many and go to the lower row.

    Formula: 1 - max_c votes_c / K
    Cost: O(K N C) time, one pass, no logarithm; memory O(block x C) beside the probabilities. Exact.
    Use when: members give classes rather than probabilities one can trust; K is large.
    Avoid when: K is small: there are only a few levels of score. `bald` uses the probabilities too.
    Paper: Freeman, Elementary Applied Statistics, 1965; Gal, Islam and Ghahramani, Deep Bayesian Active Learning with
        Image Data, ICML 2017.
    Reference: scikit-activeml `variation_ratios`, the same values. "VarRatio" of deepAL+ is 1 - max p of one pass:
        that is `least_confidence` here.
    """

    name: ClassVar[str] = "variation_ratio"
    summary: ClassVar[str] = "1 - the share of the committee's most frequent vote, 0 to 1."


@dataclass(frozen=True)
class VoteEntropy(CommitteeScorer):
    """How spread the committee's votes are over all classes.

    From 0 (all vote alike) to ln min(K, C). Unlike `variation_ratio` it tells a vote split between two classes from
    one split among many.

    Formula: -sum_c v_c ln v_c, where v_c = votes_c / K
    Cost: O(K N C) time, one pass, N C logarithms; memory O(block x C) beside the probabilities. Exact.
    Use when: members give classes rather than probabilities one can trust.
    Avoid when: K is small, or probabilities are good: `bald` and `kl_consensus` see disagreement below a vote.
    Paper: Engelson and Dagan, Minimizing Manual Annotation Cost in Supervised Training from Corpora, ACL 1996.
    Reference: scikit-activeml `vote_entropy` and modAL `vote_entropy`, the same values (natural logarithm). Members
        vote for the lowest of equally likely classes, as numpy's argmax does.
    """

    name: ClassVar[str] = "vote_entropy"
    summary: ClassVar[str] = "The entropy of the committee's votes, 0 to ln C."


@dataclass(frozen=True)
class MeanStd(CommitteeScorer):
    """How far the members' probabilities scatter around their mean, averaged over the classes.

    From 0 (all members agree) to 1/2 at most. It falls with the number of classes that no member considers.

    Formula: 1/C sum_c sqrt(1/K sum_k (p_kc - mean_k p_kc)^2)
    Cost: O(K N C) time, one pass, no logarithm; memory O(block x C) beside the probabilities. Exact.
    Use when: a cheap measure of disagreement is wanted that has the scale of a probability.
    Avoid when: scores of tasks with different numbers of classes are compared.
    Paper: Kampffmeyer, Salberg and Jenssen, Semantic Segmentation of Small Objects and Modeling of Uncertainty in Urban
        Remote Sensing Images, CVPR Workshops 2016; Kendall, Badrinarayanan and Cipolla, Bayesian SegNet, BMVC 2017.
    Reference: MeanSTD of deepAL+, the same formula (numpy.std over the passes). Here deviations from a running mean are
        summed.
    """

    name: ClassVar[str] = "mean_std"
    summary: ClassVar[str] = "The standard deviation of the members' probabilities, mean over classes, 0 to 1/2."


@dataclass(frozen=True)
class Bald(CommitteeScorer):
    """What a label would tell about which member is right: uncertainty that members disagree about.

    The mutual information between the label and the member. A sample that all members call a coin toss scores 0
    (more labels would not help), one that they call differently with confidence scores high. From 0 to
    min(ln K, ln C). Rounding below 0 becomes 0.

    Formula: H(mean_k p_k) - mean_k H(p_k), where H(p) = -sum_c p_c ln p_c
    Cost: O(K N C) time, one pass, one logarithm per value; memory O(block x C) beside the probabilities. Members
        that come one by one: `kernels.committee.from_stream`, O(N C) memory.
    Use when: labels are noisy or classes overlap, and an ensemble or dropout passes are at hand.
    Avoid when: a large batch is picked by score alone: the best samples are often alike; take `batch_bald`, or a
        diversity strategy over a shortlist.
    Paper: Houlsby, Huszar, Ghahramani and Lengyel, Bayesian Active Learning for Classification and Preference
        Learning, 2011; Gal, Islam and Ghahramani, Deep Bayesian Active Learning with Image Data, ICML 2017.
    Reference: baal `BALD` (natural logarithm), the same values. small-text takes log2: the same order.
    """

    name: ClassVar[str] = "bald"
    summary: ClassVar[str] = "Mutual information of label and committee member: H(mean p) - mean H(p), 0 to ln C."


@dataclass(frozen=True)
class KLConsensusParams:
    reduce: Literal["mean", "max"] = field(
        default="mean",
        metadata={"doc": "mean: the members' divergences averaged; max: that of the member farthest off."},
    )


@dataclass(frozen=True)
class KLConsensus(CommitteeScorer):
    """How far the members are from their consensus, the mean of their probabilities.

    With `reduce=mean` this is `bald` in other words, to the last bit: the mean divergence from the mean is the
    entropy of the mean less the mean entropy. With `reduce=max` one member that is far off is enough.
    From 0 (all agree) to ln K.

    Formula: mean_k or max_k of sum_c p_kc ln(p_kc / m_c), where m = mean_k p_k
    Cost: O(K N C) time and one logarithm per value; one pass for mean, two over each block for max; memory
        O(block x C) beside the probabilities. Exact.
    Use when: reduce=max where a single dissenter should be heard; otherwise as `bald`.
    Avoid when: a member may be plainly bad: with reduce=max it decides alone.
    Paper: McCallum and Nigam, Employing EM and Pool-Based Active Learning for Text Classification, ICML 1998.
    Reference: scikit-activeml `average_kl_divergence` for mean; it clips probabilities to eps = 1e-7 and normalises
        them again, here 0 ln 0 = 0. modAL `KL_max_disagreement` for max, the same values.
    """

    name: ClassVar[str] = "kl_consensus"
    summary: ClassVar[str] = "The members' divergence from their mean, on average or at most, 0 to ln K."
    params: ClassVar[type[KLConsensusParams]] = KLConsensusParams

    def score(self, block: Candidates, params: KLConsensusParams) -> NDArray[np.float32]:
        """As the other scorers of a committee."""
        members_KNC = block.unchecked(Need.MEMBER_PROBS)
        if params.reduce == "max":
            return committee.largest_divergence(members_KNC)
        return committee.from_members(members_KNC, {"bald"})["bald"]


variation_ratio = VariationRatio()
vote_entropy = VoteEntropy()
mean_std = MeanStd()
bald = Bald()
kl_consensus = KLConsensus()
