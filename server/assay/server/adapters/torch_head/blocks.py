"""Work on all rows as blocks of rows, with a look at whether to stop before each.

A block takes some milliseconds on one thread, and its rows stay in the cache from one pass over them to the next.
"""

from collections.abc import Iterator

import torch

from assay.strategies import checkpoint

_ENTRIES = 1 << 20  # of the rows of a block
_MULTIPLICATIONS = 1 << 28  # of a block
_FEWEST_ROWS = 64  # of a block with products; fewer would read the other factor too often


def blocks(count: int, width: int, work: int = 0) -> Iterator[slice]:
    """Slices of count rows, one after the other.

    Args:
        count: rows in all.
        width: entries of a row.
        work: multiplications that a row takes part in, 0 if it is only read.

    Raises:
        Interrupted: if the computation is to stop.
    """
    step = max(1, _ENTRIES // max(1, width))
    if work:
        step = max(_FEWEST_ROWS, min(step, _MULTIPLICATIONS // work))
    for start in range(0, count, step):
        checkpoint()
        yield slice(start, min(count, start + step))


def product(left_NM: torch.Tensor, right_MC: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    """The product of two matrices, in blocks of rows of the left one; written into `out` if there is one."""
    out_NC = left_NM.new_empty(len(left_NM), right_MC.shape[1]) if out is None else out
    for rows in blocks(len(left_NM), max(left_NM.shape[1], right_MC.shape[1]), right_MC.numel()):
        out_NC[rows] = left_NM[rows] @ right_MC
    return out_NC
