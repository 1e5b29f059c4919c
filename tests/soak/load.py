"""Steady work on a server: many people label two pools, new samples replace what was labeled, heads are trained."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from assay.client import AssayError, AsyncClient, Classification, PoolExhausted

POOLS = ("left", "right")
CLASSES = ("a", "b", "c")
WORKERS = 64
SAMPLES, DIMENSION, PAYLOAD_BYTES = 4_000, 64, 20_000
BATCH, LABELED = 10, 8
INGEST_ROWS, INGEST_PAUSE_SECONDS, TRAIN_PAUSE_SECONDS = 100, 2.0, 20.0


@dataclass
class Seen:
    """What callers saw: when each call of a kind ended and how long it took, when rows were added, and what failed."""

    calls: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    rows: list[tuple[float, int]] = field(default_factory=list)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        """Calls that were answered."""
        return sum(map(len, self.calls.values()))

    def milliseconds(self, kind: str, start: float, end: float, share: float) -> float:
        """The time within which a share of the calls ended, of those that ended between two moments."""
        taken = [took for at, took in self.calls.get(kind, []) if start <= at < end]
        return float(np.quantile(taken, share) * 1e3) if taken else float("nan")


class Load:
    """The work, until a moment of the monotonic clock."""

    def __init__(self, target: str, end: float) -> None:
        self._target = target
        self._end = end
        self.seen = Seen()

    async def fill(self) -> None:
        """Makes the pools."""
        rng = np.random.default_rng(0)
        async with AsyncClient(self._target, timeout=300) as client:
            for pool in POOLS:
                await client.create_pool(pool, task=Classification(CLASSES))
                for start in range(0, SAMPLES, 1_000):
                    await self._add(client, pool, list(range(start, start + 1_000)), rng)
                first = {f"s{index}": CLASSES[index % len(CLASSES)] for index in range(60)}
                await client.annotate(pool, first, "ann")
                await (await client.train_head(pool, l2=0.1)).result(timeout=120)

    async def run(self) -> None:
        """Works until the end."""
        people = [self._label(number) for number in range(WORKERS)]
        await asyncio.gather(*people, *map(self._ingest, POOLS), *map(self._train, POOLS))

    async def _label(self, number: int) -> None:
        """One person: takes a batch, labels most of it, gives the rest back."""
        pool, worker = POOLS[number % len(POOLS)], f"worker {number}"
        async with AsyncClient(self._target, timeout=60) as client:
            while time.monotonic() < self._end:
                try:
                    batch = await self._timed("NextBatch", client.next_batch(pool, worker, BATCH))
                except PoolExhausted:
                    await asyncio.sleep(0.5)
                    continue
                if batch is None:
                    continue
                labels = {sample_id: CLASSES[number % len(CLASSES)] for sample_id in batch.ids[:LABELED]}
                await self._timed("Annotate", client.annotate(pool, labels, worker, lease=batch.lease))
                if len(batch.ids) > LABELED:
                    await self._timed("ReleaseLease", client.release_lease(batch.lease))

    async def _ingest(self, pool: str) -> None:
        """New content for what was labeled: the pool neither grows nor runs dry."""
        rng = np.random.default_rng(1)
        async with AsyncClient(self._target, timeout=60) as client:
            while time.monotonic() < self._end:
                labels = [label.sample_id async for label in client.list_labels(pool)]
                for start in range(0, len(labels) - 200, INGEST_ROWS):
                    numbers = [int(sample_id[1:]) for sample_id in labels[start : start + INGEST_ROWS]]
                    await self._timed("AddSamples", self._add(client, pool, numbers, rng))
                    self.seen.rows.append((time.monotonic(), len(numbers)))
                await asyncio.sleep(INGEST_PAUSE_SECONDS)

    async def _train(self, pool: str) -> None:
        async with AsyncClient(self._target, timeout=60) as client:
            while time.monotonic() < self._end:
                await asyncio.sleep(TRAIN_PAUSE_SECONDS)
                operation = await self._timed("TrainHead", client.train_head(pool, l2=0.1))
                if operation is not None:
                    await self._timed("training", operation.result(timeout=120))

    @staticmethod
    async def _add(client: AsyncClient, pool: str, numbers: list[int], rng: np.random.Generator) -> None:
        ids = [f"s{number}" for number in numbers]
        vectors_ND = rng.normal(size=(len(ids), DIMENSION)).astype(np.float32)
        payloads = [rng.bytes(PAYLOAD_BYTES) for _ in ids]
        await client.add_samples(pool, ids, embeddings=vectors_ND, payloads=payloads, on_conflict="replace")

    async def _timed(self, kind: str, call):  # type: ignore[no-untyped-def]
        """The result of a call, None where it failed; a pool that is exhausted is the caller's to know."""
        begin = time.monotonic()
        try:
            result = await call
        except PoolExhausted:
            raise
        except AssayError as error:
            self.seen.failed[f"{kind} {error.reason or type(error).__name__}"] += 1
            return None
        now = time.monotonic()
        self.seen.calls.setdefault(kind, []).append((now, now - begin))
        return result
