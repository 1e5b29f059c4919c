"""The version of the tables: written when they are made, checked whenever they are opened."""

import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, insert, inspect, select, update

from assay.server.adapters.sql.migrations import MIGRATIONS, Migration
from assay.server.adapters.sql.schema import metadata, schema_version
from assay.server.core.errors import AssayError, Reason


def prepare(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Makes the tables or brings them up to date, inside the caller's transaction. Raises AssayError(STORAGE_FAILED)
    for tables of a newer version."""
    newest = len(migrations) + 1
    found = _found_version(connection)
    if found is None:
        metadata.create_all(connection, checkfirst=False)
        connection.execute(
            insert(schema_version).values(version=newest, catalog_id=secrets.token_hex(16), directory_id="")
        )
    elif found > newest:
        raise AssayError(
            Reason.STORAGE_FAILED,
            f"The catalog was written by a newer assay (version {found} of its tables, {newest} is known here). "
            "Upgrade assay, or open another data directory.",
            found=found,
            known=newest,
        )
    elif found < newest:
        for step in migrations[found - 1 :]:
            step(connection)
        connection.execute(update(schema_version).values(version=newest))


def identity(connection: Connection) -> str:
    """The catalog's own id."""
    return str(connection.execute(select(schema_version.c.catalog_id)).scalar_one())


def _found_version(connection: Connection) -> int | None:
    if not inspect(connection).has_table(schema_version.name):
        return None
    return int(connection.execute(select(schema_version.c.version)).scalar_one())
