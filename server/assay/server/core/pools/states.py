"""What state follows from what is known of a row: one function for whoever changes a pool and whoever opens it."""

import numpy as np
import numpy.typing as npt

from assay.server.core.records.arrays import MaskArray
from assay.server.core.records.pools import State

StateArray = npt.NDArray[np.uint8]


def states_after(
    *,
    excluded_N: MaskArray,
    wanted_N: npt.NDArray[np.uint8],
    answered_N: npt.NDArray[np.uint8],
    leases_N: npt.NDArray[np.uint8],
    resolved_N: MaskArray,
) -> StateArray:
    """State of each row that is served.

    Args:
        excluded_N: whether it is set aside.
        wanted_N: answers that are wanted.
        answered_N: workers with a standing annotation.
        leases_N: live leases that hold it.
        resolved_N: whether it has a label.
    """
    taken_N = answered_N.astype(np.uint16) + leases_N
    states_N = np.where(answered_N > 0, np.uint8(State.ANSWERED), np.uint8(State.UNLABELED))
    full_N = taken_N >= wanted_N
    states_N[full_N] = np.where(leases_N[full_N] > 0, np.uint8(State.LEASED), np.uint8(State.DISPUTED))
    states_N[resolved_N] = State.LABELED
    states_N[excluded_N] = State.EXCLUDED
    return states_N
