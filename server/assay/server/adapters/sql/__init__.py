"""The catalog in SQL: SQLite by default, PostgreSQL by URL, both through SQLAlchemy Core."""

from assay.server.adapters.sql.catalog import SqlCatalog, open_catalog

__all__ = ["SqlCatalog", "open_catalog"]
