"""The change feed as the catalog keeps it: one record for what one transaction changed of a pool, however many samples
that touched."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple

from assay.server.core.records.arrays import RowArray

# Samples that a part lists; more are only counted, and lists of samples and annotations tell which.
MOST_LISTED = 100


class Position(NamedTuple):
    """Place in the changes of a pool: they are ordered by it. `number` is given once in a catalog, and grows."""

    epoch: int
    number: int


class SamplesAction(StrEnum):
    """What happened to samples."""

    ADDED = "added"
    DELETED = "deleted"
    EXCLUDED = "excluded"
    INCLUDED = "included"
    DAMAGED = "damaged"
    UPDATED = "updated"


class LeaseAction(StrEnum):
    """What happened to a lease. REDUCED: samples left it, and it holds others still. DONE: the last ones left it."""

    GRANTED = "granted"
    RENEWED = "renewed"
    REDUCED = "reduced"
    DONE = "done"
    EXPIRED = "expired"


class ModelAction(StrEnum):
    """What happened to a model version."""

    ADDED = "added"
    DELETED = "deleted"
    ACTIVATED = "activated"
    DEACTIVATED = "deactivated"


class OperationAction(StrEnum):
    """What happened to an operation."""

    STARTED = "started"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class SamplesChanged:
    """Samples came, went, were set aside or got other attributes. `rows` are the first of them, `ids` those whose rows
    are no longer there to be asked."""

    action: str
    count: int
    rows: tuple[int, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class AnnotationsChanged:
    """Events were appended to the log: `count` from `first_event` on. `counts`: how many of each kind of event that
    there is, by its number. `rows`: the first of the samples."""

    worker: str
    lease_id: str
    first_event: int
    count: int
    counts: Mapping[str, int]
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """A lease began or ended, or samples left it. `rows`: the first of the samples that it is about."""

    action: str
    lease_id: str
    worker: str
    count: int
    rows: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelChanged:
    """A model version came, went, or became another one's successor."""

    action: str
    model_id: str
    kind: str


@dataclass(frozen=True, slots=True)
class OperationChanged:
    """An operation began or ended; `error_reason` is empty where it ended well."""

    action: str
    operation_id: str
    kind: str
    error_reason: str = ""


@dataclass(frozen=True, slots=True)
class PoolChanged:
    """Fields of the pool's record have other values now."""

    fields: tuple[str, ...]


Part = SamplesChanged | AnnotationsChanged | LeaseChanged | ModelChanged | OperationChanged | PoolChanged

_KINDS: Mapping[str, type[Part]] = {
    "samples": SamplesChanged,
    "annotations": AnnotationsChanged,
    "lease": LeaseChanged,
    "model": ModelChanged,
    "operation": OperationChanged,
    "pool": PoolChanged,
}
_WORDS = {kind: word for word, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """What one transaction changed of a pool.

    Attributes:
        position: its place; the epoch is the one that it led to, or of an operation the one that it met.
        create_time: seconds since the Unix epoch.
        parts: what it changed.
    """

    position: Position
    create_time: float
    parts: tuple[Part, ...]


def listed(rows: RowArray) -> tuple[int, ...]:
    """The rows of a part that are listed."""
    return tuple(rows[:MOST_LISTED].tolist())


def to_plain(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """Parts as JSON has them."""
    return [
        {"what": _WORDS[type(part)], **{field.name: getattr(part, field.name) for field in fields(part)}}
        for part in parts
    ]


def from_plain(plain: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """Parts from JSON."""
    return tuple(_part(one) for one in plain)


def _part(plain: Mapping[str, Any]) -> Part:
    kind: Callable[..., Part] = _KINDS[plain["what"]]
    return kind(**{name: tuple(v) if isinstance(v, list) else v for name, v in plain.items() if name != "what"})
