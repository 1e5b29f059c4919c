"""What a server shows of a pool, all of it, read through its public calls."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from assay.client import Client, Label, Lease, Model, Pool, Sample
from tests.crash.content import VERSION
from tests.crash.faults import require
from tests.crash.opinions import SeenOpinions, look_at_opinions

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Seen:
    """A pool as it was between two times; only leases that expired meanwhile may have changed it.

    Attributes:
        began: before the leases were listed, which ends those that are due.
        ended: when all was read.
    """

    began: datetime
    leases: dict[str, Lease]
    samples: dict[str, Sample]
    labels: dict[str, Label]
    models: dict[str, Model]
    pool: Pool
    raw_samples: set[str]
    raw_pool: Pool
    opinions: SeenOpinions
    ended: datetime

    def version(self, sample: str) -> object:
        """The version of a sample; None where it is not there."""
        return self.samples[sample].attributes[VERSION] if sample in self.samples else None


def look(client: Client, pool: str, raw: str, offset: timedelta = timedelta(0), after_event: int = -1) -> Seen:
    """Reads all of a pool, of that of raw samples, and of that of opinions, whose log is read after an event; the ends
    of leases are told in real time, the server's clock being set by an offset. Raises BrokenPromise for what is listed
    twice."""
    began = datetime.now(UTC)
    return Seen(
        began=began,
        leases=_by((_real(lease, offset) for lease in client.list_leases(pool)), lambda lease: lease.name),
        samples=_by(client.list_samples(pool), lambda sample: sample.id),
        labels=_by(client.list_labels(pool), lambda label: label.sample_id),
        models=_by(client.list_models(pool), lambda model: model.name),
        pool=client.get_pool(pool),
        raw_samples=set(_by(client.list_samples(raw), lambda sample: sample.id)),
        raw_pool=client.get_pool(raw),
        opinions=look_at_opinions(client, after_event, offset),
        ended=datetime.now(UTC),
    )


def _real(lease: Lease, offset: timedelta) -> Lease:
    assert lease.expire_time is not None
    return replace(lease, expire_time=lease.expire_time - offset)


def _by(items: Iterable[T], key: Callable[[T], str]) -> dict[str, T]:
    found: dict[str, T] = {}
    for item in items:
        require(key(item) not in found, f"{key(item)} is listed twice")
        found[key(item)] = item
    return found
