"""One adapter for each port."""

from dataclasses import dataclass

from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.machine import Clock, Scratch
from assay.server.core.ports.models import BackboneLoader, Heads
from assay.server.core.ports.search import ExactSearch, IndexBuilder
from assay.server.core.ports.segments import SegmentStore


@dataclass(frozen=True, slots=True)
class Ports:
    """One adapter for each port."""

    catalog: Catalog
    segments: SegmentStore
    exact: ExactSearch
    indexes: IndexBuilder
    backbones: BackboneLoader
    heads: Heads
    scratch: Scratch
    clock: Clock
