"""Which data directory the catalog belongs to."""

from sqlalchemy import bindparam, select, update

from assay.server.adapters.sql.schema import schema_version
from assay.server.adapters.sql.session import Session

_DIRECTORY = select(schema_version.c.directory_id)
_JOIN = update(schema_version).values(directory_id=bindparam("directory"))


class DirectoryPart(Session):
    """The part of a transaction that knows the data directory."""

    def directory(self) -> str:
        """Id of the data directory, "" before there is one."""
        return str(self._run(_DIRECTORY).scalar_one())

    def join_directory(self, directory_id: str) -> None:
        """Ties the catalog to a data directory."""
        self._run(_JOIN, {"directory": directory_id})
