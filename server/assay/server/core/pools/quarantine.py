"""Takes files out of service that turned out damaged."""

import numpy as np

from assay.server.core.pools.messages import DamagedFile
from assay.server.core.pools.overlaying import pending_rows
from assay.server.core.pools.pool import Pool
from assay.server.core.ports.segments import Overlay, SampleSegment, VectorSegment
from assay.server.core.records.pools import State


def quarantine(pool: Pool, file: str, reason: str) -> None:
    """Takes a file that turned out damaged out of service; the rest of the pool is served on."""
    pool.mend()
    with pool.change() as change:
        before = change.before
        for name, source in before.sources.items():
            for each in source.files:
                if each.file.file == file and each.opened is not None:
                    # The samples are whole: only what was predicted of them is lost.
                    change.replace(
                        sources={**before.sources, name: source.without(file)},
                        damaged=(*before.damaged, DamagedFile(file, each.file.count, reason, each.file.first_row)),
                    )
                    return
        served: list[SampleSegment | VectorSegment | Overlay] = [*before.samples, *before.vectors, *before.overlays]
        segment = next((segment for segment in served if segment.file.file == file), None)
        if segment is None:
            return
        rows = segment.rows_N
        if file in {overlay.file.file for overlay in before.overlays}:
            rows = pending_rows(segment.file, before.samples)
        change.replace(
            samples=tuple(s for s in before.samples if s.file.file != file),
            vectors=tuple(v for v in before.vectors if v.file.file != file),
            overlays=tuple(o for o in before.overlays if o.file.file != file),
            damaged=(*before.damaged, DamagedFile(file, segment.file.count, reason, segment.file.first_row)),
        )
        gone = before.states.at(rows)
        change.mark(rows[~np.isin(gone, (State.DELETED, State.ABSENT))], State.DAMAGED)
