"""Builds the object graph: the one place that knows which adapter serves which port."""

from assay.server.adapters.arrow import ArrowSegmentStore
from assay.server.adapters.clock import SystemClock
from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.adapters.scratch import ScratchSpace
from assay.server.adapters.sql import open_catalog
from assay.server.adapters.torch_head import TorchHeads
from assay.server.adapters.vector_index import BlockedExactSearch, FaissIndexBuilder
from assay.server.app.config import Config
from assay.server.core.assay import Assay, Limits, Ports
from assay.server.core.ports.machine import Alarm


def limits(config: Config) -> Limits:
    """Bounds of the domain."""
    return Limits(
        max_batch_rows=config.max_batch_rows,
        max_model_bytes=config.max_model_bytes,
        max_reply_bytes=config.max_message_bytes,
        verify_bytes=config.verify_bytes,
        quiet_seconds=config.quiet_seconds,
        keep_requests_s=config.keep_requests_seconds,
        keep_requests=config.keep_requests,
        keep_leases_s=config.keep_leases_seconds,
        keep_operations_s=config.keep_operations_seconds,
        keep_changes_s=config.keep_changes_seconds,
        keep_changes=config.keep_changes,
        keep_heads=config.keep_heads,
        keep_activations=config.keep_activations,
    )


def ports(config: Config, alarm: Alarm) -> Ports:
    """The adapters. Raises AssayError where the catalog or the data directory cannot be opened."""
    return Ports(
        segments=ArrowSegmentStore(config.data_dir, alarm=alarm),
        catalog=open_catalog(config.catalog, alarm),
        exact=BlockedExactSearch(),
        indexes=FaissIndexBuilder(config.data_dir / "derived"),
        backbones=OnnxBackboneLoader(
            config.inference_threads,
            run_seconds=config.run_seconds,
            trial_seconds=config.trial_seconds,
            memory_bytes=config.model_memory_bytes,
        ),
        heads=TorchHeads(),
        scratch=ScratchSpace(config.data_dir / "scratch", config.scratch_memory_bytes),
        clock=SystemClock(config.data_dir / "clock.json"),
    )


def open_core(config: Config, alarm: Alarm, *, adopt: bool = False) -> Assay:
    """The core, with all its pools open. The data directory must be locked by this process.

    Args:
        config: the settings.
        alarm: told when the disk loses what was written: the process must end then.
        adopt: see Assay.open.

    Raises:
        AssayError: STORAGE_FAILED, DATA_DIRECTORY_LOCKED or INVALID_ARGUMENT where the catalog cannot be opened.
    """
    used = ports(config, alarm)
    try:
        core = Assay.open(used, limits(config), adopt=adopt)
    except BaseException:
        used.catalog.close()
        raise
    core.start_background()
    return core
