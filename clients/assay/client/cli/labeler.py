"""`assay label next`: label in the terminal, a key per class."""

import re
import string
import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Annotated

import typer

from assay.client import (
    Annotation,
    Classification,
    Client,
    Lease,
    LeaseExpired,
    LeaseForeign,
    MultiLabel,
    Pick,
    Plan,
    PoolExhausted,
    RequestError,
)
from assay.client.cli.arguments import PlanOption, PoolArgument, SeedOption, WhereOption, connect, read_where
from assay.client.cli.composing import Additions, DrawOption
from assay.client.cli.keys import ENTER, Keys, keys
from assay.client.cli.labeling import TtlOption, WorkerOption
from assay.client.cli.output import decoded, predicted
from assay.client.filters import Filter
from assay.client.plans import PlanLike

SKIP, UNDO, QUIT = "s", "u", "q"
_KEYS = [key for key in string.digits[1:] + "0" + string.ascii_lowercase if key not in (SKIP, UNDO, QUIT)]
# What would move the cursor or worse, were it sent to a terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def label_next(
    context: typer.Context,
    pool: PoolArgument,
    worker: WorkerOption,
    size: Annotated[int, typer.Option(min=1, max=1000, help="Samples that are leased at a time.")] = 10,
    plan: PlanOption = None,
    where: WhereOption = None,
    draw_from: DrawOption = "",
    ttl: TtlOption = 900,
    seed: SeedOption = 0,
) -> None:
    """Label sample after sample: a key per class, s to skip, u to undo, q to quit.

    Where there are many classes, their names are typed. Of several classes a sample, keys put them on and off, and
    Enter stores. What is not labeled in the end is given back. Without a terminal, each line of standard input is an
    answer.
    """
    with connect(context) as client:
        choices = Choices.of(client, pool)
        chosen = Additions(draw_from=draw_from).to(plan)
        asked = Asked(worker, size, chosen, read_where(where), ttl, seed)
        with keys(single=choices.single) as given:
            Session(client, pool, asked, choices, given).run()


@dataclass(frozen=True, slots=True)
class Asked:
    """How batches are asked for; see `Client.next_batch`."""

    worker: str
    size: int
    plan: PlanLike | Plan | None
    where: Filter | None
    ttl: float
    seed: int


@dataclass(frozen=True, slots=True)
class Choices:
    """The classes to choose from, each with its key.

    Attributes:
        by_key: names by key, in the order of the pool's classes; none where there are more classes than keys.
        names: all of them.
        several: whether a sample has several classes, or none.
    """

    by_key: dict[str, str]
    names: tuple[str, ...]
    several: bool

    @classmethod
    def of(cls, client: Client, pool: str) -> "Choices":
        """Those of a pool. Raises ValueError for a task whose values are no classes."""
        task = client.get_pool(pool).task
        if not isinstance(task, Classification | MultiLabel):
            raise ValueError(
                f"samples of {pool} get no classes, and this asks for classes: label them with `assay annotate --from`"
            )
        names = tuple(each.name for each in task.classes if not each.retired and each.merged_into is None)
        by_key = dict(zip(_KEYS, names, strict=False)) if len(names) <= len(_KEYS) else {}
        return cls(by_key, names, isinstance(task, MultiLabel))

    @property
    def single(self) -> bool:
        """Whether each class has a key."""
        return bool(self.by_key)

    def named(self, word: str) -> str | None:
        """The class of a key, a name, or the beginning of one name only; None if there is none."""
        if word in self.by_key:
            return self.by_key[word]
        if word in self.names:
            return word
        begin = [name for name in self.names if word and name.startswith(word)]
        return begin[0] if len(begin) == 1 else None

    @property
    def legend(self) -> str:
        """What may be pressed."""
        classes = [f"{key} {printable(name)}" for key, name in self.by_key.items()] or ["the name of a class"]
        stores = ["Enter stores"] if self.several else []
        return "   ".join([*classes, *stores, f"{SKIP} skip", f"{UNDO} undo", f"{QUIT} quit"])


@dataclass
class Session:
    """A person who labels.

    Attributes:
        done: the last event of each action, and its pick, so that it can be undone; the newest last.
        queue: picks to come, each with the lease that holds it, None for one that was undone.
    """

    client: Client
    pool: str
    asked: Asked
    choices: Choices
    keys: Keys
    done: list[tuple[int, Pick]] = field(default_factory=list)
    queue: deque[tuple[Pick, Lease | None]] = field(default_factory=deque)
    lease: Lease | None = None
    renew_at: float = 0.0

    def run(self) -> None:
        """Asks until nobody answers or nothing is left; what is left over is given back, whatever happens."""
        labeled = 0
        try:
            while self.queue or self._fill():
                before = len(self.done)
                if not self._ask():
                    break
                labeled += len(self.done) - before
        finally:
            self._give_back()
            say(f"{labeled:,} done; what was left is given back")

    def _fill(self) -> bool:
        """Takes the next batch; False where there is none."""
        asked = self.asked
        try:
            batch = self.client.next_batch(
                self.pool,
                asked.worker,
                asked.size,
                plan=asked.plan,
                where=asked.where,
                ttl=asked.ttl,
                seed=asked.seed,
                predictions=min(3, len(self.choices.names)),
            )
        except PoolExhausted:
            say("nothing is left to label")
            return False
        self._hold(batch.lease)
        self.queue.extend((pick, batch.lease) for pick in batch.picks)
        return True

    def _hold(self, lease: Lease) -> None:
        self.lease = lease
        self.renew_at = time.monotonic() + self.asked.ttl / 2

    def _ask(self) -> bool:
        """Asks for the first sample of the queue; False if the person leaves."""
        pick, lease = self.queue[0]
        self._show(pick)
        start = time.monotonic()
        value = self._answer()
        if value is None:
            return False
        try:
            if value == UNDO:
                self._undo()
                return True
            self._renew()
            lease = lease and self.lease
            if value == SKIP:
                result = self.client.skip_samples(self.pool, [pick.id], self.asked.worker, lease=lease)
                event = result.last_event
            else:
                assert not isinstance(value, str)
                said = Annotation(pick.id, value[0], duration=time.monotonic() - start)
                event = self.client.annotate(self.pool, [said], self.asked.worker, lease=lease).last_event
        except (LeaseExpired, LeaseForeign) as error:
            say(f"{error.message}\nThe next batch is taken; what was asked last comes again if nobody else has it.")
            self.queue.clear()
            self.lease = None
            return True
        except RequestError as error:
            # Such as a sample that was set aside, deleted or taken by somebody else meanwhile.
            say(f"not stored, {error.reason}: {error.message}")
            if value != UNDO:
                self.queue.popleft()
            return True
        self.queue.popleft()
        self.done.append((event, pick))
        return True

    def _undo(self) -> None:
        if not self.done:
            say("nothing to undo")
            return
        event, pick = self.done.pop()
        self.client.undo_last_action(self.pool, self.asked.worker, event=event)
        self.queue.appendleft((pick, None))

    def _renew(self) -> None:
        if self.lease is not None and time.monotonic() > self.renew_at:
            self._hold(self.client.renew_lease(self.lease, self.asked.ttl))

    def _give_back(self) -> None:
        held = [pick.id for pick, lease in self.queue if lease is not None]
        if self.lease is None or not held:
            return
        # Once the lease has run out nobody waits for it.
        with suppress(LeaseExpired, LeaseForeign):
            self.client.release_lease(self.lease, held, offer_again=True)

    def _answer(self) -> str | tuple[object] | None:
        """SKIP or UNDO, or the value in a tuple; None to leave."""
        chosen: list[str] = []
        while True:
            word = self.keys.read()
            if word is None or word == QUIT:
                return None
            if word in (SKIP, UNDO):
                return word
            if self.choices.several and self.keys.single:
                if word in ENTER:
                    return (tuple(chosen),)
                if (name := self.choices.named(word)) is not None:
                    chosen = [each for each in chosen if each != name] if name in chosen else [*chosen, name]
                    say(f"  {', '.join(map(printable, chosen)) or 'none'}")
                    continue
            elif self.choices.several:
                names = [self.choices.named(part) for part in filter(None, re.split(r"[,\s]+", word))]
                if None not in names:
                    return (tuple(names),)
            elif (name := self.choices.named(word)) is not None:
                return (name,)
            say(f"  {printable(word)!r} is none of: {self.choices.legend}")

    def _show(self, pick: Pick) -> None:
        text = decoded(pick.sample)
        guesses = ", ".join(predicted(pick))
        say("")
        say(f"[{len(self.done) + 1}] {printable(pick.id)}" + (f"   ({printable(guesses)})" if guesses else ""))
        if text:
            say(printable(text))
        elif pick.sample.payload:
            say(f"({len(pick.sample.payload):,} bytes of {printable(pick.sample.media_type or 'data')})")
        if pick.sample.uri:
            say(printable(pick.sample.uri))
        say(self.choices.legend)


def printable(text: str) -> str:
    """Text without what a terminal would take for a command."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def say(text: str) -> None:
    """Tells the person something."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
