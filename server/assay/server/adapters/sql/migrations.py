"""Steps from one version of the tables to the next. A step is written against the tables of its own time and never
changed again; schema.py always describes the newest version."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import numpy as np
from sqlalchemy import JSON, BigInteger, Connection, Text, column, select, table, text, update

from assay.server.adapters.sql.blocks import pack
from assay.server.core.records.annotations import EventBlock, EventKind, Origin, PackedBlock

# Rows that are taken from the database at a time, and events of a block at most.
_FETCHED = 10_000
_PART = 65_536

Migration = Callable[[Connection], None]


def releases(connection: Connection) -> None:
    """Version 2. What a worker gave back is kept."""
    string = _text(connection)
    _run(
        connection,
        f"""CREATE TABLE released_rows (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            worker {string} NOT NULL,
            "row" BIGINT NOT NULL,
            PRIMARY KEY (pool_uid, worker, "row")
        ){_by_key(connection)}""",
    )


def own_identities(connection: Connection) -> None:
    """Version 3. Embedding spaces get ids of their own in place of "pushed" and of backbones' ids; requests and
    operations hang on a pool's uid in place of its name; the catalog knows its data directory.

    Remembered requests are dropped: they do not say which life of a pool they belong to. Files keep their names."""
    _run(
        connection,
        f"ALTER TABLE schema_version ADD COLUMN directory_id {_text(connection)} NOT NULL DEFAULT ''",
        f"ALTER TABLE pools ADD COLUMN search_index {_text(connection)} NOT NULL DEFAULT ''",
        "ALTER TABLE pools ADD COLUMN next_space BIGINT NOT NULL DEFAULT 2",
        f"ALTER TABLE models ADD COLUMN space {_text(connection)} NOT NULL DEFAULT ''",
    )
    for uid, space in connection.execute(text("SELECT uid, space FROM pools")).all():
        _number_spaces(connection, uid, space)
    _hang_operations_on_pools(connection)
    _renew_requests(connection)


_MODELS = table(
    "models",
    column("number", BigInteger),
    column("model_id", Text),
    column("kind", Text),
    column("info", JSON),
    column("space", Text),
    column("pool_uid", BigInteger),
)


def _number_spaces(connection: Connection, pool_uid: int, active: str) -> None:
    models = _models_of(connection, pool_uid)
    spaces = {"pushed": "space-1"}
    for _, model_id, kind, _ in models:
        # A backbone may have been called "pushed": its vectors and the pushed ones cannot be told apart any more.
        if kind == "backbone" and model_id not in spaces:
            spaces[model_id] = f"space-{len(spaces) + 1}"
    # Spaces of backbones that were deleted: heads and the history still name them.
    known = "SELECT space FROM segments WHERE kind = 'vectors' AND pool_uid = :pool UNION "
    known += "SELECT space FROM activations WHERE pool_uid = :pool UNION SELECT space FROM pools WHERE uid = :pool"
    named = {space for (space,) in connection.execute(text(known), {"pool": pool_uid})}
    named |= {info["space"] for _, _, kind, info in models if kind == "head"}
    for space in sorted(named - spaces.keys() - {""}):
        spaces[space] = f"space-{len(spaces) + 1}"
    for old, new in spaces.items():
        given = {"pool": pool_uid, "old": old, "new": new}
        for statement in (
            "UPDATE segments SET space = :new WHERE pool_uid = :pool AND space = :old AND kind = 'vectors'",
            "UPDATE activations SET space = :new WHERE pool_uid = :pool AND space = :old",
        ):
            connection.execute(text(statement), given)
    for number, model_id, kind, info in models:
        space = spaces[model_id] if kind == "backbone" else spaces[info.pop("space")]
        connection.execute(update(_MODELS).where(_MODELS.c.number == number).values(info=info, space=space))
    connection.execute(
        text("UPDATE pools SET space = :space, next_space = :next WHERE uid = :pool"),
        {"pool": pool_uid, "space": spaces.get(active, ""), "next": len(spaces) + 1},
    )


def _models_of(connection: Connection, pool_uid: int) -> list[tuple[int, str, str, dict[str, Any]]]:
    found = select(_MODELS).where(_MODELS.c.pool_uid == pool_uid).order_by(_MODELS.c.number)
    return [(row.number, row.model_id, row.kind, row.info) for row in connection.execute(found)]


def _hang_operations_on_pools(connection: Connection) -> None:
    string, blob, double = _text(connection), _blob(connection), _double(connection)
    _run(
        connection,
        "ALTER TABLE operations RENAME TO operations_before",
        f"""CREATE TABLE operations (
            operation_id {string} NOT NULL,
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            kind {string} NOT NULL,
            pool_id {string} NOT NULL,
            create_time {double} NOT NULL,
            done BOOLEAN NOT NULL,
            response {blob} NOT NULL,
            error_reason {string} NOT NULL,
            error_message {string} NOT NULL,
            CONSTRAINT operations_key PRIMARY KEY (operation_id)
        ){_by_key(connection)}""",
        """INSERT INTO operations
            SELECT operation_id, uid, kind, old.pool_id, old.create_time, done, response, error_reason, error_message
            FROM operations_before AS old JOIN pools ON pools.pool_id = old.pool_id
            WHERE old.create_time >= pools.create_time""",
        "DROP TABLE operations_before",
        "CREATE INDEX operations_by_time ON operations (create_time, operation_id)",
        "CREATE INDEX operations_of_pool ON operations (pool_uid)",
    )


def _renew_requests(connection: Connection) -> None:
    string, blob, double = _text(connection), _blob(connection), _double(connection)
    _run(
        connection,
        "DROP TABLE requests",
        f"""CREATE TABLE requests (
            pool_uid BIGINT NOT NULL,
            method {string} NOT NULL,
            request_id {string} NOT NULL,
            fingerprint {string} NOT NULL,
            response {blob} NOT NULL,
            create_time {double} NOT NULL,
            PRIMARY KEY (pool_uid, method, request_id)
        )""",
        "CREATE INDEX requests_by_time ON requests (create_time)",
    )


def retention(connection: Connection) -> None:
    """Version 4. What is forgotten in time is found without reading the rest. Remembered requests are dropped: what is
    remembered of one has another form."""
    _run(
        connection,
        "CREATE INDEX ended_leases ON leases (create_time) WHERE state <> 'live'",
        "CREATE INDEX models_of_pool ON models (pool_uid, number)",
        "CREATE INDEX running_operations ON operations (operation_id) WHERE NOT done",
        "DROP TABLE requests",
        f"""CREATE TABLE requests (
            {_serial(connection)},
            pool_uid BIGINT NOT NULL,
            method {_text(connection)} NOT NULL,
            request_id {_text(connection)} NOT NULL,
            fingerprint {_text(connection)} NOT NULL,
            response {_blob(connection)} NOT NULL,
            create_time {_double(connection)} NOT NULL,
            UNIQUE (pool_uid, method, request_id)
        )""",
    )


def annotation_log(connection: Connection) -> None:
    """Version 5. Labels become annotation events: those of one worker, lease and time are a block. What a worker gave
    back becomes a skip, of the time when its pool was made, for the true one is not known. Class names become a
    task. A row may be in leases of several workers. What changes is written down from now on."""
    string, double = _text(connection), _double(connection)
    _run(
        connection,
        f"ALTER TABLE pools ADD COLUMN task {string} NOT NULL DEFAULT ''",
        "ALTER TABLE pools ADD COLUMN next_event BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE pools ADD COLUMN annotations_per_sample INTEGER NOT NULL DEFAULT 1",
        f"ALTER TABLE pools ADD COLUMN policy {string} NOT NULL DEFAULT 'latest'",
        "ALTER TABLE pools ADD COLUMN metadata JSON NOT NULL DEFAULT '{}'",
        f"""CREATE TABLE annotation_blocks (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            first_number BIGINT NOT NULL,
            count INTEGER NOT NULL,
            worker {string} NOT NULL,
            create_time {double} NOT NULL,
            lease_id {string} NOT NULL,
            origin {string} NOT NULL,
            columns {_blob(connection)} NOT NULL,
            actor {string} NOT NULL,
            PRIMARY KEY (pool_uid, first_number)
        ){_by_key(connection)}""",
        "CREATE INDEX blocks_of_worker ON annotation_blocks (pool_uid, worker, first_number)",
        "CREATE INDEX blocks_of_actor ON annotation_blocks (pool_uid, actor, first_number)",
        "CREATE INDEX blocks_by_time ON annotation_blocks (pool_uid, create_time)",
        f"""CREATE TABLE raised_rows (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            "row" BIGINT NOT NULL,
            wanted INTEGER NOT NULL,
            PRIMARY KEY (pool_uid, "row")
        ){_by_key(connection)}""",
        "ALTER TABLE segments ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0",
        f"ALTER TABLE segments ADD COLUMN rows {_blob(connection)} NOT NULL DEFAULT {_no_bytes(connection)}",
        "DROP INDEX rows_of_lease",
        "ALTER TABLE lease_rows RENAME TO lease_rows_before",
        f"""CREATE TABLE lease_rows (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            "row" BIGINT NOT NULL,
            worker {string} NOT NULL,
            lease_id {string} NOT NULL,
            CONSTRAINT lease_rows_key PRIMARY KEY (pool_uid, "row", worker),
            FOREIGN KEY (pool_uid, lease_id) REFERENCES leases (pool_uid, lease_id) ON DELETE CASCADE
        ){_by_key(connection)}""",
        """INSERT INTO lease_rows
            SELECT old.pool_uid, old."row", leases.worker, old.lease_id
            FROM lease_rows_before AS old JOIN leases
            ON leases.pool_uid = old.pool_uid AND leases.lease_id = old.lease_id""",
        "DROP TABLE lease_rows_before",
        'CREATE INDEX rows_of_lease ON lease_rows (pool_uid, lease_id, "row")',
        f"""CREATE TABLE external_ids (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            external_id {string} NOT NULL,
            number BIGINT NOT NULL,
            PRIMARY KEY (pool_uid, external_id)
        ){_by_key(connection)}""",
        f"""CREATE TABLE suspects (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            create_time {double} NOT NULL,
            epoch BIGINT NOT NULL,
            next_event BIGINT NOT NULL,
            columns {_blob(connection)} NOT NULL,
            PRIMARY KEY (pool_uid)
        ){_by_key(connection)}""",
        f"""CREATE TABLE changes (
            {_serial(connection)},
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            epoch BIGINT NOT NULL,
            create_time {double} NOT NULL,
            parts JSON NOT NULL
        )""",
        "CREATE INDEX changes_of_pool ON changes (pool_uid, epoch, number)",
        f"""CREATE TABLE forgotten_changes (
            pool_uid BIGINT NOT NULL REFERENCES pools (uid) ON DELETE CASCADE,
            epoch BIGINT NOT NULL,
            number BIGINT NOT NULL,
            PRIMARY KEY (pool_uid)
        ){_by_key(connection)}""",
        # Nobody wrote down what changed before.
        "INSERT INTO forgotten_changes SELECT uid, epoch, 0 FROM pools",
    )
    pools = select(column("uid"), column("class_names", JSON), column("create_time")).select_from(table("pools"))
    for uid, class_names, create_time in connection.execute(pools).all():
        plain = {
            "kind": "classification",
            "classes": [{"name": name} for name in class_names],
            "order": list(range(len(class_names))),
            "targets": [],
            "options": {},
        }
        task = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        next_event = _write_events(connection, uid, create_time)
        connection.execute(
            text("UPDATE pools SET task = :task, next_event = :next WHERE uid = :pool"),
            {"task": task, "next": next_event, "pool": uid},
        )
    _run(
        connection,
        # A label was the later word, also where an older assay left the row among those set aside.
        "DELETE FROM excluded_rows WHERE EXISTS (SELECT 1 FROM labels WHERE labels.pool_uid = excluded_rows.pool_uid "
        'AND labels."row" = excluded_rows."row")',
        "DROP TABLE labels",
        "DROP TABLE released_rows",
        "ALTER TABLE pools DROP COLUMN class_names",
    )


def _write_events(connection: Connection, pool_uid: int, create_time: float) -> int:
    """Makes events of what a pool's workers gave back and of its labels; returns the number of the next."""
    given_back = "SELECT worker, :made, '', \"row\", -1 FROM released_rows WHERE pool_uid = :pool ORDER BY 1, 4"
    labels = (
        'SELECT worker, create_time, lease_id, "row", class_index FROM labels WHERE pool_uid = :pool '
        'ORDER BY create_time, worker, lease_id, "row"'
    )
    number, last_events = 0, dict[int, int]()
    for query, kind in ((given_back, EventKind.SKIP), (labels, EventKind.ANNOTATE)):
        params = {"pool": pool_uid, "made": create_time} if kind is EventKind.SKIP else {"pool": pool_uid}
        found = connection.execute(text(query), params, execution_options={"yield_per": _FETCHED})
        for (worker, time, lease_id), alike in groupby(found, lambda row: (row[0], row[1], row[2])):
            for part in _parts(alike):
                block = _block(number, worker, time, lease_id, kind, part, last_events)
                _insert_block(connection, pool_uid, pack(block))
                number += len(block)
    return number


def _parts(rows: Iterable[Any]) -> Iterator[list[tuple[int, int]]]:
    """(row, class) of rows, in parts of what an ingest batch holds at most."""
    left = iter(rows)
    while part := [(row, label) for *_, row, label in islice(left, _PART)]:
        yield part


def _block(
    number: int,
    worker: str,
    time: float,
    lease_id: str,
    kind: EventKind,
    part: list[tuple[int, int]],
    last_events: dict[int, int],
) -> EventBlock:
    rows, labels = np.array(part, np.int64).T
    previous = np.array([last_events.get(row, -1) for row in rows.tolist()], np.int64)
    if kind is EventKind.SKIP:
        last_events.update(zip(rows.tolist(), range(number, number + len(rows)), strict=True))
    return EventBlock(
        number,
        worker,
        time,
        lease_id,
        Origin.IMPORT if worker == "import" else Origin.WORKER,
        rows_N=rows,
        kinds_N=np.full(len(rows), kind, np.uint8),
        values=labels.astype(np.int32),
        answered_after_N=np.full(len(rows), kind is EventKind.ANNOTATE, np.uint8),
        previous_N=previous,
    )


def _insert_block(connection: Connection, pool_uid: int, block: PackedBlock) -> None:
    connection.execute(
        text(
            "INSERT INTO annotation_blocks"
            " VALUES (:pool, :first, :count, :worker, :time, :lease, :origin, :columns, :actor)"
        ),
        {
            "pool": pool_uid,
            "first": block.first_number,
            "count": block.count,
            "worker": block.worker,
            "time": block.create_time,
            "lease": block.lease_id,
            "origin": block.origin.value,
            "columns": block.columns,
            "actor": block.actor,
        },
    )


def _run(connection: Connection, *statements: str) -> None:
    for statement in statements:
        connection.execute(text(statement))


def _text(connection: Connection) -> str:
    return 'TEXT COLLATE "C"' if connection.dialect.name == "postgresql" else "TEXT"


def _blob(connection: Connection) -> str:
    return "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"


def _no_bytes(connection: Connection) -> str:
    return "''" if connection.dialect.name == "postgresql" else "x''"


def _double(connection: Connection) -> str:
    return "DOUBLE PRECISION" if connection.dialect.name == "postgresql" else "DOUBLE"


def _serial(connection: Connection) -> str:
    """A primary key "number" that counts up and is never given twice."""
    if connection.dialect.name == "postgresql":
        return "number BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"
    return "number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT"


def _by_key(connection: Connection) -> str:
    """How a table is told to lie in the order of its key, where the database needs telling."""
    return "" if connection.dialect.name == "postgresql" else " WITHOUT ROWID"


# The step at position i leads from version i + 1 to version i + 2. Steps are only ever added.
MIGRATIONS: tuple[Migration, ...] = (releases, own_identities, retention, annotation_log)
