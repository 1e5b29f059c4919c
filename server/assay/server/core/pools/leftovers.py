"""Files that may belong to nobody: deleted only once the catalog is known not to name them."""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from assay.server.core.errors import OutcomeUnknown
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.segments import SegmentStore

log = logging.getLogger(__name__)


class Leftovers:
    """Files of changes whose outcome is unknown. What is not swept while the server runs is swept when it starts."""

    def __init__(self, catalog: Catalog, segments: SegmentStore) -> None:
        self._catalog = catalog
        self._segments = segments
        self._lock = threading.Lock()
        self._files: set[str] = set()

    @contextmanager
    def of_change(self, new: Sequence[str] = (), old: Sequence[str] = ()) -> Iterator[None]:
        """A change that takes new files into service, old ones out of it, or both. Those that are in nobody's service
        afterwards are deleted: the old ones after its commit, the new ones if it failed. If its outcome is unknown,
        all are left to the sweep."""
        try:
            yield
        except OutcomeUnknown:
            with self._lock:
                self._files.update(new, old)
            raise
        except BaseException:
            self._segments.discard(new)
            raise
        # Readers of older snapshots keep their mappings; only the names go.
        self._segments.discard(old)

    def sweep(self) -> None:
        """Deletes the files that the catalog does not name. Raises what the catalog raises."""
        with self._lock:
            doubtful = set(self._files)
        if not doubtful:
            return
        # A writing transaction: it begins only when the outcomes before it have been decided.
        with self._catalog.transaction() as tx:
            unnamed = doubtful - tx.all_segment_files()
        self._segments.discard(unnamed)
        log.info("swept %d of %d files of changes whose outcome was unknown", len(unnamed), len(doubtful))
        with self._lock:
            self._files -= doubtful
