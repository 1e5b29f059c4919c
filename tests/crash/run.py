"""One data directory, one server after another: work, kill, restart, verify, and again."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic

from assay.client import Batch, Classification, Client, RetryPolicy
from assay.client.testing import ServerFailed, ServerProcess
from tests.crash import checks, disk, opinions
from tests.crash.content import CLASSES, DIMENSION, STOCK
from tests.crash.database import Database
from tests.crash.faults import require
from tests.crash.lease_requests import Next
from tests.crash.ledger import Held, Ledger
from tests.crash.model_requests import Train, backbone
from tests.crash.raw import BACKBONES, ActivateBackbone, other_backbone, raw_backbone, raw_vectors_are_right
from tests.crash.requests import POOL, RAW, Add, Request, now
from tests.crash.seen import Seen, look
from tests.crash.sleeper import Sleeper
from tests.crash.verify import verify
from tests.crash.wall_clock import WallClock
from tests.crash.workers import IN_STOCK, ask, crew, fresh

# What a kill waits for, in turn: "any" strikes whatever goes on, "commit" the moment at which the catalog is written,
# when a change may be durable and its answer not yet sent; the others strike a little after such work was in flight.
TARGETS = (
    *("any", "ingest", "commit", "merging", "labeling", "training", "commit", "head swap", "churn", "upload"),
    *("backbone swap", "embedding", "opinions"),
)
# What else befalls the server before it is killed, in turn; those that cannot be had here are left out.
FAULTS = ("", "lost commit", "sleeper", "clock", "", "full disk", "database", "lost commit", "clock", "sleeper")
DAY = timedelta(days=1)
STRUCK_AT_ONCE = ("commit", "merging")
WORK_SECONDS = (0.2, 1.8)
TARGET_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.0005
# How long a start may take from the lock on the data directory until it serves; mostly it is quicker.
RECOVERY_SECONDS = 0.12
START_SECONDS = 240.0
FIRST_STOCK = 400
FIRST_LABELS = 60
SAMPLED = 200


@dataclass
class Tally:
    """What the kills met and what was verified."""

    kills: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    start_kills: int = 0
    in_flight: Counter[str] = field(default_factory=Counter)
    on_disk: Counter[str] = field(default_factory=Counter)
    landed: Counter[str] = field(default_factory=Counter)
    repeated: int = 0
    expired: int = 0
    contents: int = 0
    restarts: list[float] = field(default_factory=list)

    def lines(self, ledger: Ledger) -> list[str]:
        """The result in words."""
        outcomes = [f"{what} {self.landed[what]}" for what in ("landed", "not landed", "landed in part")]
        return [
            f"kills: {self.kills} while serving, {self.start_kills} while starting",
            f"besides: {_counts(self.faults)}",
            f"kills with requests in flight, by phase: {_counts(self.in_flight)}",
            f"kills that left half-done files, by work (swept): {_counts(self.on_disk)}",
            f"requests in flight at a kill: {sum(self.landed.values())} ({', '.join(outcomes)})",
            f"acknowledged requests: {_counts(Counter(type(request).__name__ for request, _ in ledger.answered))}",
            f"acknowledged and there: {len(ledger.samples)} samples, {len(ledger.labels)} labels, "
            f"{len(ledger.leases)} leases in all, {len(ledger.models)} models, {len(ledger.excluded)} set aside, "
            f"{len(ledger.raw_samples)} raw samples, "
            f"{len(ledger.opinions.said)} opinions that stand after {len(ledger.opinions.log)} events",
            f"contents compared: {self.contents}; answers repeated: {self.repeated}; "
            f"samples leased again after expiry: {self.expired}",
            f"restart: median {median(self.restarts):.1f} s, longest {max(self.restarts):.1f} s",
        ]


class FaultyServer(ServerProcess):
    """A server in surroundings that go wrong."""

    def __init__(self, directory: Path, environment: Mapping[str, str], **settings: object) -> None:
        super().__init__(directory, **settings)
        self._more = environment

    def start(self, *arguments: str, seconds: float = START_SECONDS) -> None:
        """As any server, with patience: a busy machine is no broken promise."""
        super().start(*arguments, seconds=seconds)

    def _environment(self) -> dict[str, str]:
        return super()._environment() | dict(self._more)


class CrashRun:
    """Kills and restarts of servers over one data directory.

    Args:
        directory: where the server's data and log are kept.
        seed: of all that is random on this side.
        database: holds the catalog; None for SQLite in the data directory.
        clock: the server's wall clock; None where it cannot be set.
        small: whether the data directory is on a disk that may be filled.
    """

    def __init__(
        self, directory: Path, seed: int, database: Database | None, clock: WallClock | None, small: bool
    ) -> None:
        settings = {"log_level": "warning", "quiet_seconds": 0, **({"catalog_url": database.url} if database else {})}
        self.server = FaultyServer(directory, clock.environment if clock else {}, **settings)
        self.ledger = Ledger()
        self.tally = Tally()
        self._rng = Random(seed)
        self._pause = threading.Event()
        self._database = database
        self._clock = clock
        self._catalog = disk.PostgresCatalog(database) if database else disk.SqliteCatalog(self.server.data_dir)
        self._ballast = self.server.data_dir / "ballast"
        unavailable = {
            "lost commit": database is None,
            "database": database is None,
            "clock": clock is None,
            "full disk": not small,
        }
        self.faults = [fault for fault in FAULTS if not unavailable.get(fault, False)]

    def client(self) -> Client:
        """A client that never tries again by itself: each answer, or its absence, is noted."""
        return self.server.client(retry=RetryPolicy(attempts=1))

    def begin(self) -> None:
        """Starts the first server, with a pool that has a head, and one that has a backbone."""
        self.server.start()
        with self.client() as client:
            client.create_pool(POOL, task=Classification(CLASSES), metric="l2", dimension=DIMENSION)
            client.create_pool(RAW, task=Classification(CLASSES), metric="l2")
            for name in BACKBONES:
                client.upload_backbone(RAW, raw_backbone(name), model_id=name)
            contents = fresh(self.ledger, STOCK, FIRST_STOCK)
            first: tuple[Request, ...] = (
                Add(contents=contents, batch_size=FIRST_STOCK, labeled=FIRST_LABELS),
                Train(display_name="first", activate=True, l2=0.01),
                ActivateBackbone(model=other_backbone(None)),
            )
            for request in first:
                ask(client, self.ledger, "first", request)
            opinions.begin(client, self.ledger)

    def kill(self, target: str, fault: str = "") -> None:
        """Lets all workers work, through a fault and until the target is in flight, and kills the server."""
        dying = threading.Event()
        with self.client() as client, ExitStack() as afterwards:
            sleeper = self._put_to_sleep(client, afterwards) if fault == "sleeper" else None
            workers = crew(client, self.ledger, self._rng, dying)
            for worker in workers:
                worker.start()
            self._befall(fault, sleeper, afterwards)
            self._wait_for(target)
            dying.set()
            self.server.kill()
            for worker in workers:
                worker.join()
        self.tally.faults[fault or "nothing else"] += 1
        for worker in workers:
            if worker.failure is not None:
                raise worker.failure
        self._count_kill()

    def _befall(self, fault: str, sleeper: "tuple[Sleeper, Held] | None", afterwards: ExitStack) -> None:
        """Brings a fault about while all workers work."""
        if fault == "lost commit":
            assert self._database is not None
            for _ in range(self._rng.randint(1, 3)):
                before, end = self._database.proxy.cuts, monotonic() + TARGET_SECONDS
                self._database.proxy.lose_next_answer()
                while self._database.proxy.cuts == before and monotonic() < end:
                    self._pause.wait(LOOK_AGAIN_SECONDS)
                self.tally.faults["answers to commits lost"] += self._database.proxy.cuts - before
                self._pause.wait(self._rng.uniform(0.0, 1.0))
        elif fault == "database":
            assert self._database is not None
            self._pause.wait(self._rng.uniform(0.1, 0.5))
            self._database.kill()
            self._pause.wait(self._rng.uniform(0.0, 0.5))
            self._database.start_again()
            self._pause.wait(self._rng.uniform(0.5, 2.0))
        elif fault == "full disk":
            self.ledger.disk_full = True
            afterwards.callback(self._make_room)
            self._pause.wait(self._rng.uniform(0.0, 0.5))
            disk.fill(self._ballast)
            self._pause.wait(self._rng.uniform(0.5, 2.0))
        elif sleeper is not None:
            process, held = sleeper
            while now() <= held.expires:
                self._pause.wait(0.1)
            said = process.wake()
            require(said == "LEASE_EXPIRED", f"labels of a client that was stopped past its lease: {said}")

    def _make_room(self) -> None:
        for request in self.ledger.pending.values():
            request.had_no_room = True
        self._ballast.unlink(missing_ok=True)
        self.ledger.disk_full = False

    def _put_to_sleep(self, client: Client, afterwards: ExitStack) -> tuple[Sleeper, Held]:
        """A client process that holds a short lease, and is stopped."""
        request = Next(worker="sleeper", size=3, ttl=1.0, where=IN_STOCK, plan="random", again=True)
        batch = ask(client, self.ledger, "sleeper", request)
        assert isinstance(batch, Batch), "nobody else is asking"
        process = Sleeper(self.server.target, POOL, batch.lease, CLASSES[0])
        afterwards.callback(process.kill)
        return process, self.ledger.leases[batch.lease.name]

    def _wait_for(self, target: str) -> None:
        """A random time, then until the target is in flight, then a moment in which it gets somewhere."""
        self._pause.wait(self._rng.uniform(*WORK_SECONDS))
        end = monotonic() + TARGET_SECONDS
        under_way = self._sign_of(target)
        while not under_way() and monotonic() < end:
            self._pause.wait(LOOK_AGAIN_SECONDS)
        if target not in STRUCK_AT_ONCE:
            self._pause.wait(self._rng.uniform(0.0, 0.03))

    def _sign_of(self, target: str) -> Callable[[], bool]:
        """Tells when the target is under way."""
        data_dir = self.server.data_dir
        if target == "any":
            return lambda: True
        if target == "merging":
            return lambda: disk.merging(data_dir)
        if target == "commit":
            before = disk.last_commit(data_dir)
            return lambda: disk.last_commit(data_dir) != before
        return lambda: target in self.ledger.phases()

    def _count_kill(self) -> None:
        self.tally.kills += 1
        self.tally.in_flight.update(self.ledger.phases())
        self.tally.on_disk.update(disk.leftovers(self.server.data_dir, self._catalog).keys())

    def kill_while_starting(self) -> None:
        """Starts the server and kills it a moment after it took the data directory: mostly while it recovers."""
        outcome: Future[None] = Future()
        before = disk.owner(self.server.data_dir)
        starting = threading.Thread(target=self._start, args=(outcome,))
        starting.start()
        while disk.owner(self.server.data_dir) in (before, 0) and not outcome.done():
            self._pause.wait(LOOK_AGAIN_SECONDS)
        self._pause.wait(RECOVERY_SECONDS * self._rng.random() ** 2)
        if outcome.done():
            outcome.result()  # it serves already, or failed by itself
        os.kill(disk.owner(self.server.data_dir), signal.SIGKILL)
        starting.join()
        served = outcome.exception() is None
        self.server.kill()
        self.tally.kills += served
        self.tally.start_kills += not served

    def _start(self, outcome: "Future[None]") -> None:
        try:
            self.server.start()
        except ServerFailed as error:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)

    def restart(self, fault: str = "") -> None:
        """Starts the server and holds it to all that was acknowledged, before and after requests are sent again."""
        if fault == "clock":
            self._set_clock()
        begin = monotonic()
        self.server.start()
        self.tally.restarts.append(monotonic() - begin)
        with self.client() as client:
            seen = self._look(client)
            facts = checks.settle(self.ledger, seen)
            verify(self.ledger, seen)
            self.ledger.opinions.note(seen.opinions)
            self._check(client, seen)
            self._send_again(client, facts)
            if fault == "clock":
                self._set_clock()
            seen = self._look(client)
            verify(self.ledger, seen)
            self.ledger.opinions.note(seen.opinions)
        disk.require_tidy(self.server.data_dir, self._catalog)
        disk.require_whole_backbones(self.server.data_dir, backbone())

    def _look(self, client: Client) -> Seen:
        return look(client, POOL, RAW, self.ledger.offset, self.ledger.opinions.last_event)

    def _set_clock(self) -> None:
        """A jump of one or two days, either way."""
        assert self._clock is not None
        self._clock.set(self._rng.choice([days * DAY for days in (-1, 0, 1) if days * DAY != self._clock.offset]))
        self.ledger.offset = self._clock.offset

    def _check(self, client: Client, seen: Seen) -> None:
        ledger, rng = self.ledger, self._rng
        self.compare_contents(client, rng.sample(sorted(ledger.samples), min(SAMPLED, len(ledger.samples))))
        chosen = rng.sample(sorted(ledger.raw_samples), min(SAMPLED, len(ledger.raw_samples)))
        raw_vectors_are_right(client, ledger, chosen)
        checks.active_head_works(client, ledger)
        checks.operations_have_ended(client, ledger, rng)
        checks.foreign_token_is_refused(client, ledger, seen)
        checks.expired_lease_is_refused(client, ledger, seen)
        self.tally.expired += checks.expired_samples_are_handed_out(client, ledger, seen, rng)
        checks.leased_samples_are_not_handed_out(client, ledger, seen, rng)

    def _send_again(self, client: Client, facts: dict[str, object]) -> None:
        for worker, request in self.ledger.pending.items():
            self.tally.landed[_outcome(request, facts.get(worker))] += 1
        checks.unanswered_requests_take_effect_once(client, self.ledger, facts)
        require(not self.ledger.pending, "a request is still unanswered")
        self.tally.repeated += checks.answers_are_repeated(client, self.ledger, self._rng)

    def compare_contents(self, client: Client, chosen: list[str]) -> None:
        """Compares payloads and embeddings of samples with what was sent."""
        checks.contents_are_right(client, self.ledger, chosen)
        self.tally.contents += len(chosen)

    def end(self) -> None:
        """Compares all contents, and stops the last server in order."""
        with self.client() as client:
            self.compare_contents(client, list(self.ledger.samples))
            opinions.whole_log_is_there(client, self.ledger)
        status = self.server.stop()
        require(status == 0, f"the last server ended with status {status}")

    def progress(self, target: str, fault: str) -> str:
        """One line on the last kill."""
        ledger, through = self.ledger, f" through {fault}" if fault else ""
        return (
            f"kill {self.tally.kills + self.tally.start_kills}, aimed at {target}{through}: "
            f"{len(ledger.samples)} samples, {len(ledger.labels)} labels, {len(ledger.leases)} leases, "
            f"{len(ledger.models)} models; up again in {self.tally.restarts[-1]:.1f} s"
        )


def _outcome(request: Request, fact: object) -> str:
    if fact is None:
        return "not landed"
    partly = isinstance(request, Add) and fact != len(request.batches)
    return "landed in part" if partly else "landed"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items())) or "none"
