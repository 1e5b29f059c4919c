"""Uncertainty scorers: how unsure the model is of each sample, from its logits or its probabilities.

p1 and p2 are a sample's two largest class probabilities. Where logits are at hand they are used, in one fused
pass; otherwise the probabilities. With one class every score is 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from assay.strategies.base import NoParams
from assay.strategies.candidates import Candidates
from assay.strategies.kernels import fused
from assay.strategies.needs import Need


@dataclass(frozen=True)
class SoftmaxScorer:
    """What the scorers of this module share: `name` is one of the measures of the fused kernel."""

    name: ClassVar[str]
    summary: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset({Need.PROBS})
    params: ClassVar[type[NoParams]] = NoParams

    def score(self, block: Candidates, params: NoParams) -> NDArray[np.float32]:
        """float32 scores in the range that the summary says, higher = less certain.

        Raises NeedMissing; StrategyError NOT_FINITE for logits, PROBABILITIES_INVALID for probabilities.
        """
        return measured(block, self.name)


def measured(block: Candidates, measure: str) -> NDArray[np.float32]:
    """A measure of the fused kernel, from the logits where there are any, else from the probabilities."""
    if block.has(Need.LOGITS):
        return fused.from_logits(block.unchecked(Need.LOGITS), {measure})[measure]
    return fused.from_probs(block.unchecked(Need.PROBS), {measure})[measure]


@dataclass(frozen=True)
class LeastConfidence(SoftmaxScorer):
    """How far the model's own best guess is from certain: the probability, by its own account, that it errs.

    From 0 (certain) to 1 - 1/C (all classes alike). It looks at one class only, and does not see whether what is
    left is one rival or many. From logits it is summed from the other classes, so that very sure samples keep
    their order where 1 - p1 would round to 0.

    Formula: 1 - p1
    Cost: O(N C) time, one pass, one exp per logit; memory O(N) beside blocks that fit a core's cache. Exact;
        streams, shards and merges.
    Use when: only the top class matters, such as thresholds on confidence; a first baseline.
    Avoid when: the model is not calibrated, or a batch is large: picks by score alone may be near copies.
    Paper: Lewis and Gale, A Sequential Algorithm for Training Text Classifiers, SIGIR 1994.
    Reference: scikit-activeml `uncertainty_scores(method="least_confident")` and modAL `classifier_uncertainty`,
        the same values. Libraries that sort the top probability ascending give the same order.
    """

    name: ClassVar[str] = "least_confidence"
    summary: ClassVar[str] = "1 - p1: how far the most likely class is from certain, 0 to 1."


@dataclass(frozen=True)
class Margin(SoftmaxScorer):
    """How close the two most likely classes are: near a border between two classes, one label decides most.

    From 0 (certain) to 1 (a tie at the top). The default utility of this library, and on image benchmarks the
    plain score to beat.

    Formula: 1 - (p1 - p2)
    Cost: O(N C) time, one pass, one exp per logit (none are sorted); memory O(N) beside blocks that fit a core's
        cache. Exact; streams, shards and merges.
    Use when: nothing speaks for another strategy; many classes, and batches small against the pool.
    Avoid when: all likely confusions are among more than two classes, or labels are noisy just at the borders.
    Paper: Scheffer, Decomain and Wrobel, Active Hidden Markov Models for Information Extraction, IDA 2001; Roth and
        Small, Margin-Based Active Learning for Structured Output Spaces, ECML 2006.
    Reference: scikit-activeml `uncertainty_scores(method="margin_sampling")`, the same values. modAL's
        `classifier_margin` is p1 - p2, lower = more uncertain, and 0 with one class, its most uncertain value; here
        one class scores 0, the least.
    """

    name: ClassVar[str] = "margin"
    summary: ClassVar[str] = "1 - (p1 - p2): how close the two most likely classes are, 0 to 1."


@dataclass(frozen=True)
class Ratio(SoftmaxScorer):
    """How likely the runner-up is against the best guess, whatever all other classes have.

    From 0 (certain) to 1 (a tie at the top). From logits it is exp(x2 - x1), so the order is that of the gap
    between the two largest logits: unlike `margin`, it does not see how much probability is left for the rest.

    Formula: p2 / p1
    Cost: O(N C) time, one pass, one exp per logit; memory O(N) beside blocks that fit a core's cache. Exact;
        streams, shards and merges.
    Use when: many classes share a long tail of probability that should not count, or temperatures differ between
        models: a temperature changes the values but not the order.
    Avoid when: samples that the model knows nothing about (flat over all classes) should come before clean ties
        between two classes; take `entropy`.
    Paper: Settles, Active Learning Literature Survey, 2009 (section 3.1, as a form of margin).
    Reference: ALaaS sorts p1 / p2 ascending: the same order, but infinite at p2 = 0; here such a sample scores 0.
    """

    name: ClassVar[str] = "ratio"
    summary: ClassVar[str] = "p2 / p1: how likely the second class is against the first, 0 to 1."


@dataclass(frozen=True)
class Entropy(SoftmaxScorer):
    """How spread the probabilities are over all classes: the nats that the label is expected to tell.

    From 0 (certain) to ln C (all classes alike); 0 ln 0 counts as 0.

    Formula: -sum_c p_c ln p_c
    Cost: O(N C) time, one pass, one exp per logit and one logarithm per sample (from probabilities: one logarithm
        per value); memory O(N) beside blocks that fit a core's cache. Exact; streams, shards and merges.
    Use when: all classes matter, as where the model outputs are used as probabilities.
    Avoid when: there are very many classes: small probabilities of unlikely classes then outweigh a real tie, and
        `margin` is usually better.
    Paper: Shannon, A Mathematical Theory of Communication, Bell System Technical Journal 1948; Dagan and Engelson,
        Committee-Based Sampling for Training Probabilistic Classifiers, ICML 1995.
    Reference: scipy.stats.entropy and scikit-activeml `uncertainty_scores(method="entropy")`, the same values
        (natural logarithm). Others take log2 and clip small values, or divide by ln C; some give NaN at p = 0.
    """

    name: ClassVar[str] = "entropy"
    summary: ClassVar[str] = "-sum p ln p: how spread the probabilities are over all classes, 0 to ln C."


least_confidence = LeastConfidence()
margin = Margin()
ratio = Ratio()
entropy = Entropy()
