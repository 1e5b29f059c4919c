"""Client threads that keep a server busy with everything at once, and note what it acknowledges."""

import threading
from abc import ABC, abstractmethod
from itertools import count
from random import Random
from time import monotonic
from typing import Any

from assay.client import Client, attr, errors
from tests.crash.content import CHURN, CLASSES, PART, STOCK, Content, sample_id
from tests.crash.lease_requests import Correct, Next, Release, Renew, Submit
from tests.crash.ledger import Held, Ledger
from tests.crash.model_requests import CUT_OFF, Activate, DeleteModel, LongRequest, Train, Upload
from tests.crash.opinion_requests import next_edit, next_opinion
from tests.crash.raw import ActivateBackbone, AddRaw, other_backbone
from tests.crash.requests import UNSURE, Add, Delete, Replace, Request, now

IN_STOCK = attr(PART) == STOCK
SHORT_TTLS, LONG_TTLS = (1.0, 2.0, 4.0), (30.0, 120.0, 900.0)
PLANS = (None, "random", "margin", "entropy")
HELD_AT_ONCE = 6
PATIENCE_SECONDS = 60.0
LOOK_AGAIN_SECONDS = 0.1
HEADS_KEPT = 8
BACKBONES_KEPT = 3
CHURN_KEPT = 200


class Worker(threading.Thread, ABC):
    """A thread of one client. It stops where the server dies; its request in flight stays pending in the ledger."""

    def __init__(self, name: str, client: Client, ledger: Ledger, rng: Random, dying: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self.client = client
        self.ledger = ledger
        self.rng = rng
        self.failure: BaseException | None = None
        self._dying = dying

    def run(self) -> None:
        """Works until the server is killed."""
        try:
            while not self._dying.is_set():
                self.step()
        except errors.AssayError as error:
            if not self._dying.is_set():
                self.failure = error
        except BaseException as error:
            self.failure = error

    @abstractmethod
    def step(self) -> None:
        """One request or a few."""

    def ask(self, request: Request) -> Any | None:
        """Sends a request and notes how it ended; None where it was refused."""
        return ask(self.client, self.ledger, self.name, request, self._dying)


def ask(
    client: Client, ledger: Ledger, worker: str, request: Request, dying: threading.Event | None = None
) -> Any | None:
    """Sends a request and notes how it ended; None where it was refused. Without an answer it stays pending.

    A server that says that it does not know how the request ended, or that its database is away, is asked again under
    the same request id until it does, or until it is killed.
    """
    ledger.begin(worker, request)
    try:
        reply = ledger.real(_answer(client, request, dying))
    except (errors.RequestError, errors.ServerError) as error:
        ledger.refuse(worker, request, error)
        return None
    except errors.Unavailable as error:
        if not _ended(request, error):
            raise
        ledger.refuse(worker, request, error)
        return None
    ledger.acknowledge(worker, request, reply)
    return reply


def _ended(request: Request, error: errors.AssayError) -> bool:
    """Whether it is an operation that has ended so: asked again, it would say the same."""
    return isinstance(request, LongRequest) and request.started and error.reason in CUT_OFF


def _answer(client: Client, request: Request, dying: threading.Event | None) -> Any:
    end = monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return request.send(client)
        except (errors.Unavailable, errors.Aborted) as error:
            if _ended(request, error):
                raise
            unsure = error.reason in UNSURE or (isinstance(error, errors.Aborted) and not isinstance(request, Next))
            if not unsure or dying is None or monotonic() > end or dying.wait(LOOK_AGAIN_SECONDS):
                raise


class Ingester(Worker):
    """Adds to the stock: streams of one to four small batches, some with labels."""

    def step(self) -> None:
        size = self.rng.randint(1, 40)
        contents = fresh(self.ledger, STOCK, size)
        batch_size = self.rng.choice((size, -(-size // 4)))
        labeled = self.rng.choice((0, 0, 0, min(size, 2)))
        self.ask(Add(contents=contents, batch_size=batch_size, labeled=labeled))


class Churner(Worker):
    """Adds, replaces and deletes samples that nobody labels."""

    def step(self) -> None:
        mine = self.ledger.samples_of(CHURN)
        if len(mine) < CHURN_KEPT // 4:
            self.ask(Add(contents=fresh(self.ledger, CHURN, 30), batch_size=30, labeled=self.rng.randint(0, 5)))
            return
        chosen = self.rng.sample(mine, self.rng.randint(1, 20))
        if len(mine) > CHURN_KEPT or self.rng.random() < 0.3:
            self.ask(Delete(ids=chosen))
        elif self.rng.random() < 0.5:
            self.ask(Replace(contents=[Content(s, self.ledger.samples[s] + 1) for s in chosen]))
        else:
            self.ask(Add(contents=fresh(self.ledger, CHURN, 20), batch_size=20, labeled=self.rng.randint(0, 5)))


class Labeler(Worker):
    """Takes batches, labels them whole or in parts, asks for more time, gives back, corrects, or lets them expire."""

    def step(self) -> None:
        mine = [held for held in self.ledger.live(now()) if held.lease.worker == self.name]
        if not mine or (len(mine) < HELD_AT_ONCE and self.rng.random() < 0.4):
            self._take()
        else:
            self.rng.choice((self._submit, self._submit, self._renew, self._release, self._correct))(
                self.rng.choice(mine)
            )

    def _take(self) -> None:
        self.ask(
            Next(
                worker=self.name,
                size=self.rng.randint(1, 8),
                ttl=self.rng.choice(self.rng.choice((SHORT_TTLS, LONG_TTLS))),
                where=IN_STOCK,
                plan=self.rng.choice(PLANS),
                seed=self.rng.randrange(1 << 30),
            )
        )

    def _submit(self, held: Held) -> None:
        ids = self._some_of(held)
        self.ask(Submit(lease=held.lease, labels={sample: Content(sample, 1).class_name for sample in ids}))

    def _renew(self, held: Held) -> None:
        left = (held.expires - now()).total_seconds()
        self.ask(Renew(lease=held.lease, ttl=left + self.rng.choice(LONG_TTLS)))

    def _release(self, held: Held) -> None:
        self.ask(Release(lease=held.lease, ids=self._some_of(held), exclude=self.rng.random() < 0.2))

    def _correct(self, _: Held) -> None:
        mine = self.ledger.labeled_by(self.name)
        if not mine:
            return
        chosen = self.rng.sample(mine, min(len(mine), self.rng.randint(1, 4)))
        self.ask(Correct(worker=self.name, labels={s: self._other(self.ledger.labels[s].class_name) for s in chosen}))

    def _other(self, class_name: str) -> str:
        return self.rng.choice([other for other in CLASSES if other != class_name])

    def _some_of(self, held: Held) -> list[str]:
        ids = sorted(held.ids)
        return ids if self.rng.random() < 0.5 else self.rng.sample(ids, self.rng.randint(1, len(ids)))


class Uploader(Worker):
    """Uploads backbones and deletes them."""

    def step(self) -> None:
        stored = self.ledger.idle_models("backbone")
        if len(stored) > BACKBONES_KEPT:
            self.ask(DeleteModel(model=self.rng.choice(stored)))
        else:
            self.ask(Upload(model_id=f"backbone-{self.ledger.fresh_number()}"))


class Trainer(Worker):
    """Trains heads, swaps the active one, and deletes old ones."""

    _names = count()

    def step(self) -> None:
        idle = self.ledger.idle_models("head")
        if len(idle) > HEADS_KEPT:
            self.ask(DeleteModel(model=self.rng.choice(idle)))
        elif idle and self.rng.random() < 0.6:
            self.ask(Activate(model=self.rng.choice(idle)))
        else:
            self.ask(
                Train(
                    display_name=f"{self.name} {next(self._names)}",
                    activate=self.rng.random() < 0.5,
                    l2=self.rng.choice((None, 0.01)),
                )
            )


class Embedder(Worker):
    """Adds raw samples, and swaps the backbone that embeds them."""

    def step(self) -> None:
        if self.rng.random() < 0.8:
            count = self.rng.randint(1, 30)
            self.ask(AddRaw(ids=[f"raw-{self.ledger.fresh_number():07d}" for _ in range(count)]))
        else:
            self.ask(ActivateBackbone(model=other_backbone(self.ledger.raw_backbone)))


class Annotator(Worker):
    """Says what it thinks of samples that want two opinions, corrects it, takes it back, and skips."""

    def step(self) -> None:
        with self.ledger.lock:
            request = next_opinion(self.ledger.opinions, self.name, self.rng)
        self.ask(request)


class Editor(Worker):
    """Adds, renames and merges the classes that annotators choose from."""

    def step(self) -> None:
        self._dying.wait(self.rng.uniform(0.0, 0.3))
        if not self._dying.is_set():
            self.ask(next_edit(self.ledger.opinions.task, self.rng, self.ledger.fresh_number()))


def fresh(ledger: Ledger, part: str, size: int) -> list[Content]:
    """Samples that were never sent."""
    return [Content(sample_id(part, ledger.fresh_number()), 1) for _ in range(size)]


def crew(client: Client, ledger: Ledger, rng: Random, dying: threading.Event) -> list[Worker]:
    """All that work on a pool at once."""
    kinds = [Ingester] * 2 + [Churner] + [Labeler] * 4 + [Trainer, Uploader, Embedder] + [Annotator] * 3 + [Editor]
    return [
        kind(f"{kind.__name__.lower()} {number}", client, ledger, Random(rng.random()), dying)
        for number, kind in enumerate(kinds)
    ]
