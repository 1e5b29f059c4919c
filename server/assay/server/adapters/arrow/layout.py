"""Where files live below the data directory: pools/UID/{samples,overlays,vectors/SPACE,predictions,models}/NAME."""

import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from assay.server.adapters.arrow.errors import damaged

POOLS = "pools"
# Files that the catalog does not name, where it may be the one that is wrong.
SWEPT = "swept"

_POOL = re.compile(rf"{POOLS}/(\d+)/")
_FIRST_ROW = re.compile(r"/(?:samples|vectors)-(\d+)-[^/]*$")


def samples_path(pool_uid: int, first_row: int) -> str:
    """A new name for a samples file."""
    return f"{POOLS}/{pool_uid}/samples/samples-{first_row:012d}-{_suffix()}.arrow"


def vectors_path(pool_uid: int, space: str, first_row: int) -> str:
    """A new name for a vectors file."""
    return f"{POOLS}/{pool_uid}/vectors/{_safe(space)}/vectors-{first_row:012d}-{_suffix()}.arrow"


def overlay_path(pool_uid: int, first_row: int) -> str:
    """A new name for an overlay."""
    return f"{POOLS}/{pool_uid}/overlays/overlay-{first_row:012d}-{_suffix()}.arrow"


def predictions_path(pool_uid: int, first_row: int) -> str:
    """A new name for a predictions file."""
    return f"{POOLS}/{pool_uid}/predictions/predictions-{first_row:012d}-{_suffix()}.arrow"


def model_path(pool_uid: int, model_id: str) -> str:
    """A new name for a model file."""
    return f"{POOLS}/{pool_uid}/models/{_safe(model_id)}-{_suffix()}.model"


def locate(data_dir: Path, file: str) -> Path:
    """Path of a file of the store. Raises AssayError(SEGMENT_DAMAGED) for a name that leads elsewhere."""
    parts = file.split("/")
    if parts[0] != POOLS or len(parts) < 3 or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise damaged(file, "its name lies outside the store")
    return data_dir.joinpath(*parts)


def swept_path(data_dir: Path, file: str) -> Path:
    """Where a file is put aside: names are never given twice."""
    return data_dir / SWEPT / file


def pool_of(file: str) -> int | None:
    """Uid of the pool that a file is of; None for one that is not ours."""
    found = _POOL.match(file)
    return int(found[1]) if found else None


def first_row_of(file: str) -> int | None:
    """First row of a samples or vectors file by its name, also of one that is not complete; None for other files."""
    found = _FIRST_ROW.search(file)
    return int(found[1]) if found else None


def stored_files(data_dir: Path) -> Iterator[tuple[str, Path]]:
    """Every file of the store: its name below the data directory, and its path."""
    for folder, _, names in os.walk(data_dir / POOLS, onerror=_unless_missing):
        for name in names:
            path = Path(folder, name)
            yield path.relative_to(data_dir).as_posix(), path


def stored_folders(data_dir: Path) -> Iterator[Path]:
    """Every folder of the store, those inside first, links left out."""
    for folder, _, _ in os.walk(data_dir / POOLS, topdown=False, onerror=_unless_missing):
        yield Path(folder)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _suffix() -> str:
    return secrets.token_hex(6)


def _safe(name: str) -> str:
    if not name or name.startswith(".") or any(mark in name for mark in "/\\\0"):
        raise ValueError(f"{name!r} cannot be part of a path")
    return name
