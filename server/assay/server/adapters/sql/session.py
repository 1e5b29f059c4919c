"""How the parts of a transaction talk to their connection."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection, CursorResult, Executable
from sqlalchemy.exc import SQLAlchemyError

from assay.server.adapters.sql.dialects import Dialect
from assay.server.adapters.sql.failures import translate
from assay.server.core.errors import AssayError

BLOCK = 65_536  # rows taken from the driver at a time

Params = Mapping[str, Any]


class Session:
    """A connection inside a transaction, and the dialect it speaks."""

    def __init__(self, connection: Connection, dialect: Dialect) -> None:
        self._connection = connection
        self._dialect = dialect
        self._failure: AssayError | None = None

    def check(self) -> None:
        """Raises the error of a statement that failed, even if its caller caught it: half a change must not commit."""
        if self._failure is not None:
            raise self._failure

    def _run(self, statement: Executable, params: Params | Sequence[Params] | None = None) -> CursorResult[Any]:
        # SQLite may have thrown away the transaction with the statement before: what came then would commit by itself.
        self.check()
        try:
            return self._connection.execute(statement, params)
        except SQLAlchemyError as error:
            self._failure = translate(error)
            raise self._failure from error

    def _tuples(self, statement: Executable, params: Params) -> list[tuple[Any, ...]]:
        """Rows as the driver gives them: only for columns that need no conversion."""
        return list(chain.from_iterable(self._blocks(statement, params)))

    def _int_columns(self, statement: Executable, params: Params, width: int) -> npt.NDArray[np.int64]:
        """Integer columns [width, rows], C-contiguous."""
        blocks = [
            np.fromiter(chain.from_iterable(block), np.int64, len(block) * width).reshape(-1, width)
            for block in self._blocks(statement, params)
        ]
        return np.ascontiguousarray(np.concatenate(blocks).T) if blocks else np.empty((width, 0), np.int64)

    def _blocks(self, statement: Executable, params: Params) -> Iterator[Sequence[tuple[Any, ...]]]:
        result = self._run(statement, params)
        cursor = result.cursor
        assert cursor is not None
        while block := cursor.fetchmany(BLOCK):
            yield block
        result.close()
