"""One data directory, one server after another: work, kill, restart, verify, and again."""

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from time import monotonic

from assay.client import Client, RetryPolicy
from assay.client.testing import ServerFailed, ServerProcess
from tests.crash import checks, disk
from tests.crash.content import CLASSES, DIMENSION, STOCK
from tests.crash.faults import require
from tests.crash.ledger import Ledger
from tests.crash.model_requests import Train, backbone
from tests.crash.requests import POOL, Add, Request
from tests.crash.seen import Seen, look
from tests.crash.verify import verify
from tests.crash.workers import ask, crew, fresh

# What a kill waits for, in turn: "any" strikes whatever goes on, "commit" the moment at which the catalog is written,
# when a change may be durable and its answer not yet sent; the others strike a little after such work was in flight.
TARGETS = ("any", "ingest", "commit", "merging", "labeling", "training", "commit", "head swap", "churn", "upload")
STRUCK_AT_ONCE = ("commit", "merging")
WORK_SECONDS = (0.2, 1.8)
TARGET_SECONDS = 10.0
LOOK_AGAIN_SECONDS = 0.0005
# How long a start may take from the lock on the data directory until it serves; mostly it is quicker.
RECOVERY_SECONDS = 0.12
FIRST_STOCK = 400
FIRST_LABELS = 60
SAMPLED = 200


@dataclass
class Tally:
    """What the kills met and what was verified."""

    kills: int = 0
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
            f"kills with requests in flight, by phase: {_counts(self.in_flight)}",
            f"kills that left half-done files, by work (swept): {_counts(self.on_disk)}",
            f"requests in flight at a kill: {sum(self.landed.values())} ({', '.join(outcomes)})",
            f"acknowledged requests: {_counts(Counter(type(request).__name__ for request, _ in ledger.answered))}",
            f"acknowledged and there: {len(ledger.samples)} samples, {len(ledger.labels)} labels, "
            f"{len(ledger.leases)} leases in all, {len(ledger.models)} models, {len(ledger.excluded)} set aside",
            f"contents compared: {self.contents}; answers repeated: {self.repeated}; "
            f"samples leased again after expiry: {self.expired}",
            f"restart: median {median(self.restarts):.1f} s, longest {max(self.restarts):.1f} s",
        ]


class CrashRun:
    """Kills and restarts of servers over one data directory.

    Args:
        directory: where the server's data and log are kept.
        seed: of all that is random on this side.
    """

    def __init__(self, directory: Path, seed: int) -> None:
        self.server = ServerProcess(directory, log_level="warning", quiet_seconds=0)
        self.ledger = Ledger()
        self.tally = Tally()
        self._rng = Random(seed)
        self._pause = threading.Event()

    def client(self) -> Client:
        """A client that never tries again by itself: each answer, or its absence, is noted."""
        return self.server.client(retry=RetryPolicy(attempts=1))

    def begin(self) -> None:
        """Starts the first server, with a pool that has a head."""
        self.server.start()
        with self.client() as client:
            client.create_pool(POOL, class_names=CLASSES, metric="l2", dimension=DIMENSION)
            contents = fresh(self.ledger, STOCK, FIRST_STOCK)
            first: tuple[Request, ...] = (
                Add(contents=contents, batch_size=FIRST_STOCK, labeled=FIRST_LABELS),
                Train(display_name="first", activate=True, l2=0.01),
            )
            for request in first:
                ask(client, self.ledger, "first", request)

    def kill(self, target: str) -> None:
        """Lets all workers work until the target is in flight, and kills the server."""
        dying = threading.Event()
        with self.client() as client:
            workers = crew(client, self.ledger, self._rng, dying)
            for worker in workers:
                worker.start()
            self._wait_for(target)
            dying.set()
            self.server.kill()
            for worker in workers:
                worker.join()
        for worker in workers:
            if worker.failure is not None:
                raise worker.failure
        self._count_kill()

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
        self.tally.on_disk.update(disk.leftovers(self.server.data_dir).keys())

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

    def restart(self) -> None:
        """Starts the server and holds it to all that was acknowledged, before and after requests are sent again."""
        begin = monotonic()
        self.server.start()
        self.tally.restarts.append(monotonic() - begin)
        with self.client() as client:
            seen = look(client, POOL)
            facts = checks.settle(self.ledger, seen)
            verify(self.ledger, seen)
            self._check(client, seen)
            self._send_again(client, facts)
            verify(self.ledger, look(client, POOL))
        disk.require_tidy(self.server.data_dir)
        disk.require_whole_backbones(self.server.data_dir, backbone())

    def _check(self, client: Client, seen: Seen) -> None:
        ledger, rng = self.ledger, self._rng
        self.compare_contents(client, rng.sample(sorted(ledger.samples), min(SAMPLED, len(ledger.samples))))
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
        status = self.server.stop()
        require(status == 0, f"the last server ended with status {status}")

    def progress(self, target: str) -> str:
        """One line on the last kill."""
        return (
            f"kill {self.tally.kills + self.tally.start_kills}, aimed at {target}: {len(self.ledger.samples)} samples, "
            f"{len(self.ledger.labels)} labels, {len(self.ledger.leases)} leases, {len(self.ledger.models)} models; "
            f"up again in {self.tally.restarts[-1]:.1f} s"
        )


def _outcome(request: Request, fact: object) -> str:
    if fact is None:
        return "not landed"
    partly = isinstance(request, Add) and fact != len(request.batches)
    return "landed in part" if partly else "landed"


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counter.items())) or "none"
