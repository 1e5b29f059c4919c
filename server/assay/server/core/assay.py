"""The domain put together: services over pools that are open."""

import assay.strategies
from assay.server.core.bells import Bells
from assay.server.core.labeling.annotations import AnnotationService
from assay.server.core.labeling.auditing import AuditService
from assay.server.core.labeling.confidence import confidences
from assay.server.core.labeling.judging import JudgingService
from assay.server.core.labeling.leases import expire_due
from assay.server.core.labeling.service import LabelingService
from assay.server.core.labeling.updating import PoolUpdates
from assay.server.core.limits import Limits
from assay.server.core.low_priority import LowPriorityExecutor
from assay.server.core.mining.frontiers import Frontiers
from assay.server.core.mining.plan.presets import Registry
from assay.server.core.mining.service import MiningService
from assay.server.core.models.activation import Activation
from assay.server.core.models.chosen import ChosenHeads
from assay.server.core.models.measuring import SourceMeasures
from assay.server.core.models.predictions import PredictionCache
from assay.server.core.models.service import ModelService
from assay.server.core.operations.service import OperationService
from assay.server.core.pools.directory import PoolDirectory
from assay.server.core.pools.feed import ChangeService
from assay.server.core.pools.ingest import Ingest
from assay.server.core.pools.merging import Merger
from assay.server.core.pools.opening import Opener
from assay.server.core.pools.sample_updates import SampleUpdates
from assay.server.core.pools.samples import SampleService
from assay.server.core.pools.search import Search
from assay.server.core.pools.service import PoolService
from assay.server.core.pools.source_service import SourceService
from assay.server.core.pools.upkeep import Upkeep
from assay.server.core.pools.verification import Verification
from assay.server.core.ports.bundle import Ports
from assay.server.core.retention import Retention

__all__ = ["Assay", "Limits", "Ports"]


class Assay:
    """All services over one data directory.

    Attributes:
        pools, updates, samples, sources, measures, models, changes, mining, labeling, annotations, judging,
            audits, operations: the services. Their methods block and compute: call them from worker threads.
        retention: forgets what is old.
        limits: bounds on what callers may ask.
    """

    def __init__(self, ports: Ports, limits: Limits, registry: Registry) -> None:
        directory, bells = PoolDirectory(), Bells()
        activation = Activation(ports.catalog, ports.segments, ports.backbones, ports.heads, ports.clock)
        opener = Opener(
            ports.catalog,
            ports.segments,
            ports.indexes,
            activation,
            {
                PredictionCache: lambda: PredictionCache(ports.heads, ports.scratch),
                Frontiers: lambda: Frontiers(Search(ports.exact)),
            },
            ports.clock,
            bells,
            limits.verify_bytes,
        )
        self._ports = ports
        self.limits = limits
        self._directory = directory
        self._opener = opener
        self.operations = OperationService(ports.catalog, ports.clock, bells)
        self.pools = PoolService(
            directory,
            ports.catalog,
            ports.segments,
            ports.indexes,
            opener,
            self.operations,
            ports.clock,
            limits,
        )
        self.updates = PoolUpdates(directory, ports.catalog, ports.clock, limits)
        self.samples = SampleService(
            directory,
            Ingest(ports.segments, ports.clock, limits),
            SampleUpdates(ports.segments, limits),
            ports.exact,
            limits,
        )
        self.sources = SourceService(directory, ports.segments, limits)
        self.measures = SourceMeasures(directory)
        self.models = ModelService(
            directory,
            ports.catalog,
            ports.segments,
            ports.indexes,
            ports.backbones,
            ports.heads,
            activation,
            self.operations,
            ports.clock,
            limits,
            confidences(ports.catalog),
        )
        self.changes = ChangeService(directory, ports.catalog, bells)
        heads = ChosenHeads(ports.catalog, activation)
        self.mining = MiningService(directory, ports.catalog, ports.clock, limits, registry, heads)
        self.labeling = LabelingService(directory, ports.catalog, ports.clock, limits, registry, heads)
        self.judging = JudgingService(directory, ports.catalog, ports.clock, self.operations)
        self.audits = AuditService(directory, ports.catalog, ports.clock, ports.heads, self.operations, limits)
        self.annotations = AnnotationService(directory, ports.catalog, ports.clock)
        self.retention = Retention(ports.catalog, directory, ports.clock, limits)
        low_priority = LowPriorityExecutor(2)
        self._upkeep = Upkeep(
            directory,
            ports.segments,
            ports.indexes,
            Merger(ports.segments, limits.segment_bytes, low_priority.run),
            low_priority,
            limits.quiet_seconds,
            lambda pool: expire_due(pool, ports.clock.steady()) > 0,
            self.settle,
            Verification(directory, ports.segments, low_priority.run, opener.unverified),
            self.retention.step,
            ports.clock,
        )

    @classmethod
    def open(
        cls, ports: Ports, limits: Limits, registry: Registry = assay.strategies, *, adopt: bool = False
    ) -> "Assay":
        """Opens all pools of the catalog.

        Args:
            ports: the adapters.
            limits: bounds on what callers may ask.
            registry: strategies by name.
            adopt: take catalog and data directory for a pair although they do not say so, as after a restore.

        Raises:
            AssayError: STORAGE_FAILED and the like, where the catalog cannot be read or is not the directory's own.
        """
        opened = cls(ports, limits, registry)
        pools = opened._opener.open_all(adopt=adopt)
        opened.operations.recover()
        for pool in pools:
            opened._directory.put(pool)
        opened._upkeep.expire()
        return opened

    def start_background(self) -> None:
        """Starts merging, indexing and the ending of leases."""
        self._upkeep.start()

    def tick(self) -> None:
        """Ends the leases whose time ran out."""
        for pool in self._directory.all():
            expire_due(pool, self._ports.clock.steady())

    def settle(self) -> None:
        """Does what unknown outcomes left to be done, once the catalog can be asked. Raises what it raises."""
        self.pools.reconcile()
        self.operations.store_ends()
        self._opener.leftovers.sweep()

    def close(self) -> None:
        """Stops background work and operations, and closes the catalog."""
        self.operations.stop()  # the upkeep's end may take a moment, in which they can stop, too
        self._upkeep.close()
        self.operations.close()
        self._ports.catalog.close()
