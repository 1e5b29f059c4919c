"""Which labels are probably wrong, which deserve a second opinion, and which samples are alone or say the same? Pure
functions over arrays."""

from assay.strategies.audit.annotators import annotator_disagreement, duplicate_disagreement
from assay.strategies.audit.confident import ConfidentLearning, confident_learning
from assay.strategies.audit.duplicates import DuplicatePairs, groups, near_duplicate_pairs, near_duplicates
from assay.strategies.audit.neighbours import knn_disagreement, uniqueness
from assay.strategies.audit.quality import LabelQuality, label_quality, mistakenness
from assay.strategies.audit.relabel import Relabeling, first_answers, relabeling

__all__ = [
    "ConfidentLearning",
    "DuplicatePairs",
    "LabelQuality",
    "Relabeling",
    "annotator_disagreement",
    "confident_learning",
    "duplicate_disagreement",
    "first_answers",
    "groups",
    "knn_disagreement",
    "label_quality",
    "mistakenness",
    "near_duplicate_pairs",
    "near_duplicates",
    "relabeling",
    "uniqueness",
]
