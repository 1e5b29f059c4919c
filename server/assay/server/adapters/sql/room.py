"""Room that the database holds and does not use."""

from typing import Any

from assay.server.adapters.sql.failures import translated
from assay.server.adapters.sql.session import Session

# Free pages that are kept for what is written next, at least and as a share of the file.
SPARE_PAGES = 64
SPARE_SHARE = 20


class RoomPart(Session):
    """The part of a transaction that gives room back. PostgreSQL does so by itself."""

    def shrink(self, pages: int) -> bool:
        """Cuts free pages off the file of SQLite."""
        if self._connection.dialect.name != "sqlite":
            return False
        with translated():
            spare = max(SPARE_PAGES, self._pragma("page_count") // SPARE_SHARE)
            surplus = self._pragma("freelist_count") - spare
            if surplus <= 0:
                return False
            # SQLAlchemy would close the cursor at the first of its rows, which have no columns: one page each.
            cursor = self._connection.connection.cursor()
            cursor.execute(f"PRAGMA incremental_vacuum({min(pages, surplus)})")
            cursor.fetchall()
            return self._pragma("freelist_count") - spare < surplus

    def _pragma(self, name: str) -> int:
        found: Any = self._connection.exec_driver_sql(f"PRAGMA {name}").scalar()
        return int(found)
