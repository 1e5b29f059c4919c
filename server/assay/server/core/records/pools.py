"""A pool as the catalog keeps it, and the states of its rows."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Metric(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


class State(IntEnum):
    """State of a row. ABSENT rows were reserved by an ingest that never committed, or merged away."""

    ABSENT = 0
    UNLABELED = 1
    LEASED = 2
    LABELED = 3
    EXCLUDED = 4
    DELETED = 5
    DAMAGED = 6


LIVE_STATES = (State.UNLABELED, State.LEASED, State.LABELED, State.EXCLUDED)


def space_id(number: int) -> str:
    """Id of an embedding space of a pool. Spaces are counted, never named: no model's id is one."""
    return f"space-{number}"


# Where embeddings lie that are pushed while the pool has no backbone. Backbones get the spaces after it.
PUSHED_SPACE = space_id(1)


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool as the catalog keeps it."""

    uid: int
    pool_id: str
    metric: Metric
    class_names: tuple[str, ...]
    keep_inputs: bool
    create_time: float  # seconds since the Unix epoch, as all times of the catalog
    epoch: int = 0
    dimension: int = 0
    space: str = ""  # id of the active embedding space; "" until there is one
    backbone: str = ""  # id of the active backbone
    head: str = ""  # id of the active head
    search_index: str = ""  # version of the approximate index in service; "" where there is none
    next_fencing_token: int = 1
    next_row: int = 0
    next_space: int = 2  # number of the space that the next backbone gets
