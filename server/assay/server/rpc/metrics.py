"""What the server counts, for Prometheus."""

from collections.abc import Callable, Iterable, Iterator
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from assay.server.core.errors import AssayError
from assay.server.core.pools.messages import PoolView
from assay.server.core.records.pools import LIVE_STATES, State
from assay.server.rpc.execution import Executors
from assay.server.rpc.gate import Gate
from assay.v1 import types_pb2

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
PAGE = 1000


class Metrics:
    """Counters and histograms of calls, and gauges read when they are asked for."""

    def __init__(self, gate: Gate, executors: Executors) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("assay_requests", "Finished RPCs.", ("method", "code"), registry=self.registry)
        self.latency = Histogram(
            "assay_request_seconds", "Time per RPC.", ("method",), buckets=SECONDS, registry=self.registry
        )
        self.stages = Histogram(
            "assay_stage_seconds", "Time per stage.", ("method", "stage"), buckets=SECONDS, registry=self.registry
        )
        # Finding a child by its labels costs more than counting; there are as many as methods, codes and stages.
        self._calls_of = cache(self.calls.labels)
        self._latency_of = cache(self.latency.labels)
        self._stage_of = cache(self.stages.labels)
        self.registry.register(_QueueCollector(executors))
        self.registry.register(_PoolCollector(gate))

    def count_dropped_logs(self, dropped: Callable[[], int]) -> None:
        """Has the number of lost log lines told, which somebody else counts."""
        self.registry.register(_DroppedLogs(dropped))

    def observe(self, method: str, code: str, seconds: float) -> None:
        """Counts a finished call."""
        self._calls_of(method, code).inc()
        self._latency_of(method).observe(seconds)

    def observe_stages(self, method: str, timings: Iterable[types_pb2.StageTiming]) -> None:
        """Counts the stages that a reply tells of."""
        for timing in timings:
            seconds = timing.duration.seconds + timing.duration.nanos / 1e9
            self._stage_of(method, timing.stage).observe(seconds)


class _DroppedLogs(Collector):
    def __init__(self, dropped: Callable[[], int]) -> None:
        self._dropped = dropped

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("assay_log_lines_dropped", "Log lines lost.", value=self._dropped())


class _QueueCollector(Collector):
    def __init__(self, executors: Executors) -> None:
        self._executors = executors

    def collect(self) -> Iterator[Metric]:
        waiting = GaugeMetricFamily("assay_queue_depth", "Work that waits for a thread.", labels=("executor",))
        running = GaugeMetricFamily("assay_running_work", "Work that a thread does.", labels=("executor",))
        for executor in self._executors.all():
            waiting.add_metric((executor.name,), executor.waiting)
            running.add_metric((executor.name,), executor.running)
        yield from (waiting, running)


class _PoolCollector(Collector):
    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def collect(self) -> Iterator[Metric]:
        samples = GaugeMetricFamily("assay_pool_samples", "Samples by state.", labels=("pool", "state"))
        epochs = GaugeMetricFamily("assay_pool_epoch", "Epoch of the pool.", labels=("pool",))
        models = GaugeMetricFamily(
            "assay_pool_model_info", "Always 1; the active model.", labels=("pool", "backbone", "head", "space")
        )
        for view in self._views():
            record = view.record
            for state in (*LIVE_STATES, State.DAMAGED):
                samples.add_metric((record.pool_id, state.name.lower()), view.counts.get(state, 0))
            epochs.add_metric((record.pool_id,), record.epoch)
            models.add_metric((record.pool_id, record.backbone, record.head, record.space), 1)
        yield from (samples, epochs, models)

    def _views(self) -> list[PoolView]:
        """All pools; none while the core is not open, or when it cannot say."""
        if not self._gate.is_open:
            return []
        views: list[PoolView] = []
        try:
            while page := self._gate.core.pools.list(views[-1].record.pool_id if views else "", PAGE):
                views += page
        except AssayError:
            return []
        return views
