"""The domain put together: services over pools that are open."""

import assay.strategies
from assay.server.core.activation import Activation
from assay.server.core.background import Background
from assay.server.core.directory import PoolDirectory
from assay.server.core.humble import HumbleThreads
from assay.server.core.ingest import Ingest
from assay.server.core.labeling import LabelingService
from assay.server.core.leases import expire_due
from assay.server.core.limits import Limits
from assay.server.core.merging import Merger
from assay.server.core.mining import MiningService
from assay.server.core.models import ModelService
from assay.server.core.opening import Opener
from assay.server.core.operations import OperationService
from assay.server.core.pools import PoolService
from assay.server.core.ports import Ports
from assay.server.core.presets import Registry
from assay.server.core.samples import SampleService
from assay.server.core.search import Search

__all__ = ["Assay", "Limits", "Ports"]


class Assay:
    """All services over one data directory.

    Attributes:
        pools, samples, models, mining, labeling, operations: the services. Their methods block and compute: call them
            from worker threads.
    """

    def __init__(self, ports: Ports, limits: Limits, registry: Registry) -> None:
        directory = PoolDirectory()
        activation = Activation(ports.catalog, ports.segments, ports.backbones, ports.heads, ports.clock)
        opener = Opener(
            ports.catalog,
            ports.segments,
            activation,
            ports.heads,
            ports.scratch,
            Search(ports.exact),
            ports.clock,
            limits.verify_bytes,
        )
        self._ports = ports
        self._limits = limits
        self._directory = directory
        self._opener = opener
        self.operations = OperationService(ports.catalog, ports.clock)
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
        self.samples = SampleService(directory, Ingest(ports.segments, ports.clock, limits), ports.exact, limits)
        self.models = ModelService(
            directory,
            ports.catalog,
            ports.segments,
            ports.backbones,
            ports.heads,
            activation,
            self.operations,
            ports.clock,
            limits,
        )
        self.mining = MiningService(directory, ports.catalog, ports.clock, limits, registry)
        self.labeling = LabelingService(directory, ports.catalog, ports.clock, limits, registry)
        humble = HumbleThreads(2)
        self._background = Background(
            directory,
            ports.segments,
            ports.indexes,
            Merger(ports.segments, limits.segment_bytes, humble.run),
            humble,
            limits.quiet_seconds,
            ports.clock,
            opener.unverified,
        )

    @classmethod
    def open(cls, ports: Ports, limits: Limits, registry: Registry = assay.strategies) -> "Assay":
        """Opens all pools of the catalog.

        Raises:
            AssayError: STORAGE_FAILED and the like, where the catalog cannot be read.
        """
        opened = cls(ports, limits, registry)
        opened.operations.recover()
        with ports.catalog.transaction() as tx:
            tx.forget_requests(ports.clock.now() - limits.request_memory_s)
        for pool in opened._opener.open_all():
            opened._directory.put(pool)
        opened.tick()
        return opened

    def start_background(self) -> None:
        """Starts merging, indexing and the ending of leases."""
        self._background.start()

    def tick(self) -> None:
        """Ends the leases whose time ran out."""
        for pool in self._directory.all():
            expire_due(pool, self._ports.clock.now())

    def close(self) -> None:
        """Stops background work and operations, and closes the catalog."""
        self._background.close()
        self.operations.close()
        self._ports.catalog.close()
