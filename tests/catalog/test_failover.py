"""PostgreSQL fails over while a COMMIT is under way: the standby that takes its place knows what became of it, and
nobody is told that a change was stored which went down with the old server."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import Connection, Engine, make_url, text

from assay.server.adapters.sql import open_catalog
from assay.server.adapters.sql.outcomes import PostgresOutcomes
from assay.server.adapters.sql.postgres import open_postgres
from tests.postgres import PostgresServer, Standby

LOST = ConnectionError("the server is gone")
CHANGE = text(
    "INSERT INTO requests (pool_uid, method, request_id, fingerprint, response, create_time) "
    "VALUES (1, 'm', 'r', 'f', '', 1.0)"
)


@pytest.fixture
def standby(postgres: PostgresServer) -> Iterator[Standby]:
    with postgres.standby() as standby:
        yield standby


def writer(url: str) -> Engine:
    writer, reader = open_postgres(make_url(url))
    reader.dispose()
    return writer


def told_after_failover(url: str, standby: Standby, commit: Callable[[Connection], None]) -> bool | None:
    """What is said of a transaction whose server is lost in COMMIT, once the standby took over."""
    open_catalog(url).close()
    outcomes, database = PostgresOutcomes(), make_url(url).database
    with ExitStack() as opened:
        old = writer(url)
        opened.callback(old.dispose)
        connection = opened.enter_context(old.connect())
        connection.begin()
        connection.execute(CHANGE)
        name = outcomes.name(connection)
        commit(connection)
        standby.catch_up()
        standby.promote()
        others_work(standby.url())
        new = writer(standby.url(str(database)))
        opened.callback(new.dispose)
        return outcomes.happened(new, name, LOST, alive=False)


def others_work(url: str) -> None:
    """Other databases of the server take the numbers of the transactions that were lost."""
    engine = writer(url)
    for _ in range(5):
        with engine.begin() as connection:
            connection.execute(text("SELECT txid_current()"))
    engine.dispose()


def test_what_the_standby_never_heard_of_did_not_happen(postgres_url: str, standby: Standby) -> None:
    assert told_after_failover(postgres_url, standby, lambda _: None) is False


def test_what_the_standby_has_did_happen(postgres_url: str, standby: Standby) -> None:
    assert told_after_failover(postgres_url, standby, lambda connection: connection.commit()) is True
