"""Is one strategy better than another? Learning curves as numbers, and tests that say how sure. Pure functions."""

from assay.strategies.evaluation.bootstrap import Interval, bootstrap_interval
from assay.strategies.evaluation.curves import aubc, label_efficiency, labels_to_reach, mean_height
from assay.strategies.evaluation.penalty import PenaltyMatrix, penalty_matrix
from assay.strategies.evaluation.student import critical_t, incomplete_beta, two_sided_p
from assay.strategies.evaluation.wilcoxon import Comparison, SignedRank, holm, wilcoxon, wilcoxon_holm

__all__ = [
    "Comparison",
    "Interval",
    "PenaltyMatrix",
    "SignedRank",
    "aubc",
    "bootstrap_interval",
    "critical_t",
    "holm",
    "incomplete_beta",
    "label_efficiency",
    "labels_to_reach",
    "mean_height",
    "penalty_matrix",
    "two_sided_p",
    "wilcoxon",
    "wilcoxon_holm",
]
