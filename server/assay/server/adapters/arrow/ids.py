"""From ids to positions: a sorted array of 64-bit hashes, searched in one go and checked against the ids themselves."""

from collections.abc import Callable, Iterator, Sequence
from typing import overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from assay.server.adapters.arrow.ipc import numbers

HashArray = npt.NDArray[np.uint64]
PositionArray = npt.NDArray[np.int64]
HashIds = Callable[[Sequence[str]], HashArray]

HASHES = "id_hashes"
ORDER = "id_order"


def hash_ids(ids: Sequence[str]) -> HashArray:
    """xxh3-64 of the UTF-8 of each id."""
    return np.fromiter(map(xxhash.xxh3_64_intdigest, map(str.encode, ids)), np.uint64, len(ids))


class HashedIds(Sequence[str]):
    """Ids with their hashes in ascending order, so that many files are searched for the cost of hashing once."""

    def __init__(self, ids: Sequence[str], hashes_N: HashArray) -> None:
        self._ids = ids
        self.order = np.argsort(hashes_N)
        self.hashes = hashes_N[self.order]

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...
    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        return self._ids[index]


def lookup_columns(hashes_N: HashArray) -> dict[str, pa.Array]:
    """The columns that a lookup needs, for ids with these hashes."""
    order = np.argsort(hashes_N)
    return {HASHES: pa.array(hashes_N[order]), ORDER: pa.array(order.astype(np.uint32))}


class IdLookup:
    """Finds ids in the mapped columns of one file."""

    def __init__(self, batch: pa.RecordBatch, hash_ids: HashIds) -> None:
        self._ids = batch.column("id")
        self._hashes: HashArray = numbers(batch.column(HASHES))
        self._order: npt.NDArray[np.uint32] = numbers(batch.column(ORDER))
        self._hash_ids = hash_ids

    def hashes_by_position(self) -> HashArray:
        """The hash of each id, in the order of the file."""
        hashes = np.empty_like(self._hashes)
        hashes[self._order] = self._hashes
        return hashes

    def check(self) -> None:
        """Raises ValueError if the order is no permutation or the hashes do not ascend."""
        count = len(self._order)
        within = int(self._order.max()) < count
        if not within or np.any(np.bincount(self._order) != 1) or np.any(self._hashes[1:] < self._hashes[:-1]):
            raise ValueError("the order of ids is garbled")

    def occurrences(self, ids: Sequence[str]) -> tuple[PositionArray, PositionArray]:
        """(position in ids, position in the file) of every occurrence, ascending."""
        hashed = ids if isinstance(ids, HashedIds) else HashedIds(ids, self._hash_ids(ids))
        queries, positions = self._candidates(hashed)
        if not len(queries):
            return queries, positions
        wanted = pa.array([ids[query] for query in queries.tolist()], self._ids.type)
        same = numbers_of_mask(pc.equal(self._ids.take(pa.array(positions)), wanted))
        queries, positions = queries[same], positions[same]
        ascending = np.lexsort((positions, queries))
        return queries[ascending], positions[ascending]

    def _candidates(self, hashed: HashedIds) -> tuple[PositionArray, PositionArray]:
        """(position in ids, position in the file) of every pair of equal hashes."""
        first = np.searchsorted(self._hashes, hashed.hashes)
        hit = np.flatnonzero(self._hashes[np.minimum(first, len(self._hashes) - 1)] == hashed.hashes)
        first = first[hit]
        counts = np.searchsorted(self._hashes, hashed.hashes[hit], side="right") - first
        begins = np.cumsum(counts) - counts
        slots = np.arange(counts.sum()) + np.repeat(first - begins, counts)
        return np.repeat(hashed.order[hit], counts), self._order[slots].astype(np.int64)


def numbers_of_mask(column: pa.Array) -> npt.NDArray[np.bool_]:
    """A boolean column as a mask; null is False."""
    mask: npt.NDArray[np.bool_] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return mask
