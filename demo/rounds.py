"""The active-learning loop, as any caller of assay writes it: next batch, labels, head, and again."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from assay.client import Batch, Client, Model
from demo.corpus import HeldOut
from demo.errors import DemoError

WORKER = "oracle"
# Enough to show between which two classes the model hesitates.
_PREDICTIONS = 2
_TRAIN_WITHIN = 300.0


@dataclass(frozen=True, slots=True)
class Schedule:
    """How many labels a run takes: `start` at random, then `rounds` batches of `size`."""

    start: int
    size: int
    rounds: int

    @property
    def labels(self) -> list[int]:
        """Label counts at which a head is trained and judged."""
        return [self.start + self.size * done for done in range(self.rounds + 1)]


@dataclass(frozen=True, slots=True)
class Stopwatch:
    """Seconds that calls took, waiting included, by what they did."""

    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Time the block."""
        begin = time.perf_counter()
        yield
        self.seconds[what].append(time.perf_counter() - begin)


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """What came of one run: accuracy at each label count, the ids of the first labels, the last batch."""

    strategy: str
    seed: int
    accuracy: list[float]
    first_ids: list[str]
    last: Batch
    head: Model


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """What the runs share: the server, the true classes by sample id, the held-out documents."""

    client: Client
    truth: Mapping[str, str]
    held_out: HeldOut
    schedule: Schedule
    watch: Stopwatch

    def run(self, pool: str, strategy: str, seed: int, on_round: Callable[[], None]) -> Run:
        """Label a pool that has no labels yet, round by round.

        The random start depends on the seed alone: pools with the same rows start with the same labels.
        """
        batch = self._label(pool, "random", self.schedule.start, seed)
        first_ids = batch.ids
        head = self._train(pool)
        accuracy = [self._judge(pool)]
        on_round()
        for number in range(1, self.schedule.rounds + 1):
            batch = self._label(pool, strategy, self.schedule.size, seed * 1000 + number)
            head = self._train(pool)
            accuracy.append(self._judge(pool))
            on_round()
        return Run(strategy, seed, accuracy, first_ids, batch, head)

    def _label(self, pool: str, strategy: str, size: int, seed: int) -> Batch:
        with self.watch.measure("next batch"):
            batch = self.client.next_batch(pool, WORKER, size, plan=strategy, seed=seed, predictions=_PREDICTIONS)
        if len(batch.ids) != size:
            raise DemoError(f"pool {pool} gave {len(batch.ids)} samples instead of {size}")
        labels = {sample_id: self.truth[sample_id] for sample_id in batch.ids}
        with self.watch.measure("submit labels"):
            self.client.annotate(pool, labels, WORKER, lease=batch.lease)
        return batch

    def _train(self, pool: str) -> Model:
        with self.watch.measure("train head"):
            return self.client.train_head(pool, activate=True).result(timeout=_TRAIN_WITHIN)

    def _judge(self, pool: str) -> float:
        with self.watch.measure("predict held-out"):
            result = self.client.predict(pool, embeddings=self.held_out.embeddings_ND)
        if result.probs_NC is None:
            raise DemoError(f"pool {pool} predicts nothing although a head was trained")
        predicted = np.asarray(result.class_names)[result.probs_NC.argmax(axis=1)]
        return float(np.mean(predicted == np.asarray(self.held_out.groups)))
