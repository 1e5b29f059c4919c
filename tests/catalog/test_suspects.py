"""What the last audit of a pool found."""

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from assay.server.adapters.sql import SqlCatalog
from assay.server.core.records.pools import PoolRecord
from assay.server.core.records.suspects import SuspectRecord
from tests.catalog.records import direct, suspects_of


def plain(record: SuspectRecord | None) -> Sequence[object]:
    assert record is not None
    rating = record.rating
    columns = (record.kinds_M, record.rows_M, record.scores_M, record.suggested_M, rating.rows_R, rating.worth_R)
    types = [column.dtype.str for column in columns]
    weights = (rating.model_weight, rating.annotator_weight, rating.temperature)
    return weights, record.create_time, record.epoch, record.next_event, types, [column.tolist() for column in columns]


@pytest.mark.parametrize("rows", [[], [7], [2**50, 3, 3, 4]])
def test_suspects_come_back_as_they_were_in_place_of_those_before(
    catalog: SqlCatalog, pool: PoolRecord, rows: list[int]
) -> None:
    with catalog.reading() as tx:
        assert tx.suspects(pool.uid) is None
    for given in (suspects_of([1, 2]), suspects_of(rows)):
        with catalog.transaction() as tx:
            tx.put_suspects(pool.uid, given)
        with catalog.reading() as tx:
            assert plain(tx.suspects(pool.uid)) == plain(given)
            assert tx.suspects(pool.uid + 1) is None


def test_what_cannot_be_read_is_as_if_it_was_never_found(catalog: SqlCatalog, pool: PoolRecord, url: str) -> None:
    for damaged in ("substr(columns, 1, 5)", "substr(columns, 1, length(columns) - 1)"):
        with catalog.transaction() as tx:
            tx.put_suspects(pool.uid, suspects_of([1, 2]))
        with direct(url) as connection:
            connection.execute(text(f"UPDATE suspects SET columns = {damaged}"))
        with catalog.reading() as tx:
            assert tx.suspects(pool.uid) is None
