"""A pool as the catalog keeps it, and the states of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum

from assay.server.core.records.annotations import Policy
from assay.server.core.records.tasks import TaskRecord


class Metric(StrEnum):
    """How two embeddings are compared."""

    COSINE = "cosine"
    L2 = "l2"
    INNER_PRODUCT = "inner_product"


class State(IntEnum):
    """State of a row.

    ABSENT: reserved by an ingest that never committed, or merged away. UNLABELED: nobody has answered, and it may be
    picked. LEASED: in hands, as many as answers are wanted of it. LABELED: it has a label. EXCLUDED: set aside.
    ANSWERED: some of the answers that are wanted are there, and it may be picked for the others. DISPUTED: all are
    there, and they do not decide.
    """

    ABSENT = 0
    UNLABELED = 1
    LEASED = 2
    LABELED = 3
    EXCLUDED = 4
    DELETED = 5
    DAMAGED = 6
    ANSWERED = 7
    DISPUTED = 8


# May be picked.
OPEN_STATES = (State.UNLABELED, State.ANSWERED)
# Of samples that are served.
LIVE_STATES = (
    State.UNLABELED,
    State.ANSWERED,
    State.LEASED,
    State.LABELED,
    State.DISPUTED,
    State.EXCLUDED,
)


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
    task: TaskRecord
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
    next_event: int = 0  # number of the next annotation event
    annotations_per_sample: int = 1  # answers that are wanted of a sample
    policy: Policy = Policy.LATEST
    metadata: Mapping[str, str] = field(default_factory=dict)  # the user's own

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of all classes, by id."""
        return self.task.class_names
