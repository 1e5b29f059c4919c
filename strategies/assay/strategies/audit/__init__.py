"""Which labels are probably wrong, and which samples are alone or say the same? Pure functions over arrays."""

from assay.strategies.audit.confident import ConfidentLearning, confident_learning
from assay.strategies.audit.duplicates import DuplicatePairs, groups, near_duplicate_pairs, near_duplicates
from assay.strategies.audit.neighbours import knn_disagreement, uniqueness
from assay.strategies.audit.quality import LabelQuality, label_quality, mistakenness

__all__ = [
    "ConfidentLearning",
    "DuplicatePairs",
    "LabelQuality",
    "confident_learning",
    "groups",
    "knn_disagreement",
    "label_quality",
    "mistakenness",
    "near_duplicate_pairs",
    "near_duplicates",
    "uniqueness",
]
