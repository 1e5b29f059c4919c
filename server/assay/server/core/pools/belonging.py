"""Catalog and data directory belong together, and each knows the other."""

import logging
import secrets

from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.catalog import Catalog
from assay.server.core.ports.segments import Owner, SegmentStore

log = logging.getLogger(__name__)


def join(catalog: Catalog, segments: SegmentStore, *, adopt: bool) -> None:
    """Makes sure that the data directory is the catalog's own; a new catalog takes an empty directory. Everything that
    the catalog does not name is swept afterwards, so a wrong pair would lose the files of the one or the other.

    Args:
        catalog: the catalog, with its own lock held.
        segments: the store, its directory locked by this process.
        adopt: tie the two together although they do not say that they belong to each other, as after a restore.

    Raises:
        AssayError: STORAGE_FAILED where they are not a pair; nothing was changed.
    """
    owner = segments.owner()
    with catalog.reading() as tx:
        directory = tx.directory()
        new = not directory and not tx.pools()
        named = tx.all_segment_files()
    if owner is not None and directory and owner == Owner(catalog.identity, directory):
        return
    if adopt:
        _check_files(segments, named)
    else:
        _check_pair(catalog.identity, directory, owner, new=new, holds_files=bool(segments.files()))
    # A start may have ended between the two steps: the directory then names the catalog, which knows of none yet.
    known = owner is not None and owner.catalog == catalog.identity and not directory
    joined = Owner(catalog.identity, (owner.directory if owner and known else "") or secrets.token_hex(16))
    segments.join(joined)
    with catalog.transaction() as tx:
        tx.join_directory(joined.directory)


def _check_pair(identity: str, directory: str, owner: Owner | None, *, new: bool, holds_files: bool) -> None:
    if owner is None and directory:
        raise _refusal(
            f"The catalog {identity} belongs to the data directory {directory}, and this one bears no name",
            "Check data_dir",
        )
    if owner is None and not (new and not holds_files):
        what = "holds files of a catalog" if holds_files else "is empty, and the catalog has pools"
        raise _refusal(
            f"The data directory {what}, but does not say whose it is", "Check data_dir and the catalog's URL"
        )
    if owner is not None and owner.catalog != identity:
        raise _refusal(
            f"The data directory belongs to another catalog ({owner.catalog}, this is {identity})",
            "Check the catalog's URL, restore the catalog, or use another data directory",
        )
    if owner is not None and directory and owner.directory != directory:
        raise _refusal(
            f"The catalog {identity} belongs to another data directory ({directory}, this is {owner.directory})",
            "Check data_dir",
        )


def _refusal(problem: str, way_out: str) -> AssayError:
    return AssayError(
        Reason.STORAGE_FAILED,
        f"{problem}. {way_out}; if the two were restored from one backup, start once with --adopt. Nothing was "
        "changed.",
    )


def _check_files(segments: SegmentStore, named: set[str]) -> None:
    """Raises AssayError(STORAGE_FAILED) where the directory cannot be that of the catalog, judged by its files."""
    held = segments.files()
    missing = named - held
    if (named and len(missing) == len(named)) or (held and not named):
        raise AssayError(
            Reason.STORAGE_FAILED,
            f"The data directory has none of the {len(named)} files that the catalog names, and holds {len(held)} "
            "others: the two are not of one backup. Put the right files in place, or give the right catalog. Nothing "
            "was changed.",
            named=len(named),
            held=len(held),
        )
    if missing:
        log.warning("adopted a data directory that lacks %d of the catalog's %d files", len(missing), len(named))
