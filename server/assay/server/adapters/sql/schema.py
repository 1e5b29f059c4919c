"""Tables of the catalog. Everything of a pool hangs on `pools.uid` and goes with it.

Tables by row have (pool_uid, row) as their primary key and are stored in that order, so a column over all rows of a
pool is one sequential scan.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.types import TypeEngine

metadata = MetaData()

# Ordered by code point on both databases, as Python orders str.
String = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
# SQLite counts up only columns declared INTEGER.
Serial = BigInteger().with_variant(Integer(), "sqlite")


def _given(name: str, type_: TypeEngine[Any]) -> Column[Any]:
    return Column(name, type_, nullable=False)


def _key(name: str, type_: TypeEngine[Any]) -> Column[Any]:
    return Column(name, type_, primary_key=True)


def _number(name: str) -> Column[Any]:
    """A primary key that counts up and is never given twice."""
    return Column(name, Serial, Identity(), primary_key=True)


def _pool(*, key: bool = True) -> Column[Any]:
    owner = ForeignKey("pools.uid", ondelete="CASCADE")
    return Column("pool_uid", BigInteger, owner, primary_key=key, nullable=False)


# catalog_id is made with the catalog; directory_id is that of its data directory, "" before it has one.
schema_version = Table(
    "schema_version",
    metadata,
    _given("version", Integer()),
    _given("catalog_id", String),
    _given("directory_id", String),
)

pools = Table(
    "pools",
    metadata,
    _number("uid"),
    Column("pool_id", String, nullable=False, unique=True),
    _given("metric", String),
    _given("task", String),
    _given("keep_inputs", Boolean()),
    _given("create_time", Double()),
    _given("epoch", BigInteger()),
    _given("dimension", Integer()),
    _given("space", String),
    _given("backbone", String),
    _given("head", String),
    _given("search_index", String),
    _given("next_fencing_token", BigInteger()),
    _given("next_row", BigInteger()),
    _given("next_space", BigInteger()),
    _given("next_event", BigInteger()),
    _given("annotations_per_sample", Integer()),
    _given("policy", String),
    _given("metadata", JSON()),
    sqlite_autoincrement=True,
)

attributes = Table(
    "attributes", metadata, _pool(), _key("name", String), _given("kind", String), sqlite_with_rowid=False
)

segments = Table(
    "segments",
    metadata,
    _pool(),
    _key("file", String),
    _given("kind", String),
    _given("space", String),
    _given("first_row", BigInteger()),
    _given("last_row", BigInteger()),
    _given("count", BigInteger()),
    _given("size", BigInteger()),
    _given("checksum", String),
    _given("epoch", BigInteger()),
    _given("rows", LargeBinary()),
    sqlite_with_rowid=False,
)

deleted_rows = Table("deleted_rows", metadata, _pool(), _key("row", BigInteger()), sqlite_with_rowid=False)

excluded_rows = Table(
    "excluded_rows",
    metadata,
    _pool(),
    _key("row", BigInteger()),
    _given("worker", String),
    _given("reason", String),
    sqlite_with_rowid=False,
)

# What was said of samples, in order and for ever: one row for all events of a request. Lists ask for those of a worker
# or of a time, and who undoes something for what an actor did last: the worker, or who acted in its place.
annotation_blocks = Table(
    "annotation_blocks",
    metadata,
    _pool(),
    _key("first_number", BigInteger()),
    _given("count", Integer()),
    _given("worker", String),
    _given("create_time", Double()),
    _given("lease_id", String),
    _given("origin", String),
    _given("columns", LargeBinary()),
    _given("actor", String),
    Index("blocks_of_worker", "pool_uid", "worker", "first_number"),
    Index("blocks_of_actor", "pool_uid", "actor", "first_number"),
    Index("blocks_by_time", "pool_uid", "create_time"),
    sqlite_with_rowid=False,
)

# Rows of which more answers are wanted than of the pool's others.
raised_rows = Table(
    "raised_rows",
    metadata,
    _pool(),
    _key("row", BigInteger()),
    _given("wanted", Integer()),
    sqlite_with_rowid=False,
)

# The caller's own ids of events.
external_ids = Table(
    "external_ids",
    metadata,
    _pool(),
    _key("external_id", String),
    _given("number", BigInteger()),
    sqlite_with_rowid=False,
)

leases = Table(
    "leases",
    metadata,
    _pool(),
    _key("lease_id", String),
    _given("worker", String),
    _given("fencing_token", BigInteger()),
    _given("create_time", Double()),
    _given("expire_time", Double()),
    _given("state", String),
    sqlite_with_rowid=False,
)
# Leases that ended stay and pile up; only the live ones are looked for.
Index(
    "live_leases",
    leases.c.pool_uid,
    leases.c.fencing_token,
    sqlite_where=text("state = 'live'"),
    postgresql_where=text("state = 'live'"),
)
Index(
    "ended_leases",
    leases.c.create_time,
    sqlite_where=text("state <> 'live'"),
    postgresql_where=text("state <> 'live'"),
)

# Rows of live leases. The key is what keeps a row from being with one worker twice.
lease_rows = Table(
    "lease_rows",
    metadata,
    _pool(),
    _key("row", BigInteger()),
    _key("worker", String),
    _given("lease_id", String),
    ForeignKeyConstraint(["pool_uid", "lease_id"], ["leases.pool_uid", "leases.lease_id"], ondelete="CASCADE"),
    Index("rows_of_lease", "pool_uid", "lease_id", "row"),
    sqlite_with_rowid=False,
)

# Why rows left their leases, for people who ask later.
lease_releases = Table(
    "lease_releases",
    metadata,
    _pool(),
    _key("lease_id", String),
    _key("row", BigInteger()),
    _given("reason", String),
    sqlite_with_rowid=False,
)

models = Table(
    "models",
    metadata,
    _number("number"),
    _pool(key=False),
    _given("model_id", String),
    _given("kind", String),
    _given("display_name", String),
    _given("create_time", Double()),
    _given("file", String),
    _given("space", String),
    _given("info", JSON()),
    UniqueConstraint("pool_uid", "model_id"),
    Index("models_of_pool", "pool_uid", "number"),
    sqlite_autoincrement=True,
)

activations = Table(
    "activations",
    metadata,
    _number("number"),
    _pool(key=False),
    _given("kind", String),
    _given("model_id", String),
    _given("space", String),
    _given("create_time", Double()),
    Index("activations_of_pool", "pool_uid", "kind", "number"),
    sqlite_autoincrement=True,
)

operations = Table(
    "operations",
    metadata,
    _key("operation_id", String),
    _pool(key=False),
    _given("kind", String),
    _given("pool_id", String),
    _given("create_time", Double()),
    _given("done", Boolean()),
    _given("response", LargeBinary()),
    _given("error_reason", String),
    _given("error_message", String),
    Index("operations_by_time", "create_time", "operation_id"),
    Index("operations_of_pool", "pool_uid"),
    sqlite_with_rowid=False,
)
Index("running_operations", operations.c.operation_id, sqlite_where=text("NOT done"), postgresql_where=text("NOT done"))

# What the last audit of a pool found.
suspects = Table(
    "suspects",
    metadata,
    _pool(),
    _given("create_time", Double()),
    _given("epoch", BigInteger()),
    _given("next_event", BigInteger()),
    _given("columns", LargeBinary()),
    sqlite_with_rowid=False,
)

# What changed of pools, for those who follow them: one row a transaction. Numbers grow with time: the oldest are
# forgotten by them.
changes = Table(
    "changes",
    metadata,
    _number("number"),
    _pool(key=False),
    _given("epoch", BigInteger()),
    _given("create_time", Double()),
    _given("parts", JSON()),
    Index("changes_of_pool", "pool_uid", "epoch", "number"),
    sqlite_autoincrement=True,
)

# Up to where the changes of a pool are forgotten.
forgotten_changes = Table(
    "forgotten_changes",
    metadata,
    _pool(),
    _given("epoch", BigInteger()),
    _given("number", BigInteger()),
    sqlite_with_rowid=False,
)

# A pool's requests go with it. Those that outlive a pool, its deletion, are of no pool: pool_uid 0. Numbers grow with
# time: the oldest are forgotten by them.
requests = Table(
    "requests",
    metadata,
    _number("number"),
    _given("pool_uid", BigInteger()),
    _given("method", String),
    _given("request_id", String),
    _given("fingerprint", String),
    _given("response", LargeBinary()),
    _given("create_time", Double()),
    UniqueConstraint("pool_uid", "method", "request_id"),
    sqlite_autoincrement=True,
)
