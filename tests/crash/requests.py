"""Requests that change a pool. Each knows its effect, and how to find it in a server that crashed meanwhile."""

import uuid
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar

from assay.client import Client
from tests.crash.content import Content, attribute_columns, embeddings_ND
from tests.crash.faults import require
from tests.crash.ledger import GivenLabel, Ledger
from tests.crash.seen import Seen

POOL = "mine"
RAW = "raw"
# The server lives, and says so: it does not know whether a request was stored, or cannot reach its database.
UNSURE = ("OUTCOME_UNKNOWN", "STORAGE_UNAVAILABLE")


def now() -> datetime:
    """The time: the server runs on the same machine."""
    return datetime.now(UTC)


@dataclass(kw_only=True)
class Request(ABC):
    """A change to ask for. Sent again with the same request_id it takes effect once.

    Its *fact* is what the ledger needs to know beyond the request itself: read from the answer, or found in the server
    when there was none.
    """

    phase: ClassVar[str]
    # Whether a refusal may come when a first part is stored for good.
    may_be_half_done: ClassVar[bool] = False
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    # Whether it was on its way while the disk was full.
    had_no_room: bool = False

    def begin(self, ledger: Ledger) -> None:
        """Notes what is no longer sure once the request is on its way."""
        return

    @abstractmethod
    def send(self, client: Client) -> Any:
        """Sends it and waits for the answer."""

    def fact(self, reply: Any) -> Any:
        """The fact in an answer; the answer must say that all was done."""
        return reply

    @abstractmethod
    def found(self, ledger: Ledger, seen: Seen) -> Any | None:
        """The fact as the server shows it; None where nothing of the request shows. Raises BrokenPromise for half."""

    @abstractmethod
    def apply(self, ledger: Ledger, fact: Any) -> None:
        """Notes the effect; a second time changes nothing."""

    def undo(self, ledger: Ledger) -> None:
        """Takes back what begin noted: the request was refused."""
        return

    def may_fail(self, ledger: Ledger, error: Exception) -> bool:
        """Whether this refusal is right."""
        return False


# --- samples -------------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Add(Request):
    """New samples in one stream of several batches. Fact: number of batches stored."""

    phase = "ingest"
    may_be_half_done = True
    contents: list[Content]
    batch_size: int
    labeled: int = 0

    def send(self, client: Client) -> Any:
        return _add(client, self.contents, self.labels, "error", self.batch_size, self.request_id)

    @property
    def labels(self) -> list[str | None]:
        """Labels that come along: those of the first samples."""
        return [c.class_name if i < self.labeled else None for i, c in enumerate(self.contents)]

    def fact(self, reply: Any) -> int:
        done = (reply.added, reply.skipped, reply.replaced)
        require(done == (len(self.contents), 0, 0), f"adding {len(self.contents)} samples gave {done}")
        return len(self.batches)

    def found(self, ledger: Ledger, seen: Seen) -> int | None:
        there = [all_or_none([c.id in seen.samples for c in batch], self) for batch in self.batches]
        require(sorted(there, reverse=True) == there, f"a later batch of {self} is there, an earlier one is not")
        return sum(there) or None

    def apply(self, ledger: Ledger, fact: int) -> None:
        stored = sum(len(batch) for batch in self.batches[:fact])
        for content, label in zip(self.contents[:stored], self.labels[:stored], strict=True):
            ledger.samples[content.id] = content.version
            if label is not None:
                ledger.labels.setdefault(content.id, GivenLabel(label, "import", None))

    @property
    def batches(self) -> list[list[Content]]:
        """The batches as they are sent."""
        starts = range(0, len(self.contents), self.batch_size)
        return [self.contents[start : start + self.batch_size] for start in starts]


@dataclass(kw_only=True)
class Replace(Request):
    """Samples in a new version, in one batch; their labels go."""

    phase = "churn"
    contents: list[Content]

    def send(self, client: Client) -> Any:
        return _add(client, self.contents, None, "replace", len(self.contents), self.request_id)

    def fact(self, reply: Any) -> bool:
        done = (reply.added, reply.skipped, reply.replaced)
        require(done == (0, 0, len(self.contents)), f"replacing {len(self.contents)} samples gave {done}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return all_or_none([seen.version(c.id) == c.version for c in self.contents], self) or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        for content in self.contents:
            ledger.samples[content.id] = content.version
            ledger.labels.pop(content.id, None)


@dataclass(kw_only=True)
class Delete(Request):
    """Samples that go, with their labels."""

    phase = "churn"
    ids: list[str]

    def send(self, client: Client) -> Any:
        return client.delete_samples(POOL, self.ids, request_id=self.request_id)

    def fact(self, reply: Any) -> bool:
        require(reply.deleted == len(self.ids), f"deleting {len(self.ids)} samples deleted {reply.deleted}")
        return True

    def found(self, ledger: Ledger, seen: Seen) -> bool | None:
        return all_or_none([sample not in seen.samples for sample in self.ids], self) or None

    def apply(self, ledger: Ledger, fact: bool) -> None:
        for sample in self.ids:
            ledger.samples.pop(sample, None)
            ledger.labels.pop(sample, None)


def _add(
    client: Client, contents: list[Content], labels: Any, on_conflict: Any, batch_size: int, request_id: str
) -> Any:
    return client.add_samples(
        POOL,
        [content.id for content in contents],
        embeddings=embeddings_ND(contents),
        payloads=[content.payload for content in contents],
        attributes=attribute_columns(contents),
        labels=labels,
        on_conflict=on_conflict,
        batch_size=batch_size,
        request_id=request_id,
    )


def all_or_none(there: list[bool], request: Request) -> bool:
    """Whether all is there. Raises BrokenPromise for a part."""
    require(all(there) or not any(there), f"half of {request}: {sum(there)} of {len(there)}")
    return all(there)
