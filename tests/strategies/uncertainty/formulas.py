"""Plain transcriptions of the uncertainty formulas, in float64, to compare with."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr, xlogy

Floats = NDArray[np.float64]


def uncertainty(probs_NC: NDArray[Any]) -> dict[str, Floats]:
    """The measures of the fused kernel, by sorting and plain loops over the classes."""
    probs = probs_NC.astype(np.float64)
    second, first = np.sort(np.pad(probs, ((0, 0), (1, 0))), axis=1)[:, -2:].T
    return {
        "least_confidence": 1 - first,
        "margin": 1 - (first - second) if probs.shape[1] > 1 else np.zeros(len(probs)),
        "ratio": second / first,
        "entropy": -xlogy(probs, probs).sum(axis=1),
        "gradient_length": gradient_length(probs),
    }


def gradient_length(probs_NC: Floats) -> Floats:
    lengths_N = np.zeros(len(probs_NC))
    for label, one_hot_C in enumerate(np.eye(probs_NC.shape[1])):
        lengths_N += probs_NC[:, label] * np.linalg.norm(probs_NC - one_hot_C, axis=1)
    return lengths_N


def committee(members_KNC: NDArray[Any]) -> dict[str, Floats]:
    """The measures of the committee kernel, and the divergences from the mean."""
    members = members_KNC.astype(np.float64)
    mean_NC = members.mean(axis=0)
    shares_NC = np.stack([np.bincount(votes, minlength=members.shape[2]) for votes in members.argmax(2).T])
    shares_NC = shares_NC / len(members)
    entropies_KN = -xlogy(members, members).sum(axis=2)
    divergences_KN = rel_entr(members, mean_NC).sum(axis=2)
    return {
        "variation_ratio": 1 - shares_NC.max(axis=1),
        "vote_entropy": -xlogy(shares_NC, shares_NC).sum(axis=1),
        "mean_std": members.std(axis=0).mean(axis=1),
        "bald": -xlogy(mean_NC, mean_NC).sum(axis=1) - entropies_KN.mean(axis=0),
        "expected_entropy": entropies_KN.mean(axis=0),
        "kl_mean": divergences_KN.mean(axis=0),
        "kl_max": divergences_KN.max(axis=0),
    }


def batch_bald(members_KNC: NDArray[Any], size: int) -> tuple[list[int], list[float]]:
    """The plain greedy with the exact joint distribution: picks, and the information of the batch after each.

    After batchbald_redux: the joint entropy over all label combinations, less the entropies given the member.
    """
    members = members_KNC.astype(np.float64)
    conditional_N = committee(members)["expected_entropy"]
    picks: list[int] = []
    information: list[float] = []
    joint_MK = np.ones((1, len(members)))
    for _ in range(size):
        best, place = -np.inf, -1
        for i in set(range(members.shape[1])) - set(picks):
            joint_MC = joint_MK @ members[:, i] / len(members)
            value = -xlogy(joint_MC, joint_MC).sum() - conditional_N[[*picks, i]].sum()
            if value > best:
                best, place = value, i
        picks.append(place)
        information.append(best)
        joint_MK = np.einsum("mk,kc->mck", joint_MK, members[:, place]).reshape(-1, len(members))
    return picks, information


def binary_entropy(probs: NDArray[Any]) -> Floats:
    p = probs.astype(np.float64)
    return -xlogy(p, p) - xlogy(1 - p, 1 - p)
