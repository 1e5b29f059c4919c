"""A TCP proxy before PostgreSQL that loses a COMMIT: its answer, or the COMMIT itself."""

import select
import socket
import threading
from contextlib import closing, suppress
from types import TracebackType

from sqlalchemy import make_url

COMMIT = b"COMMIT\0"
# Only the connection that writes takes this lock; those that read commit too, and nothing hangs on it.
WRITER = b"pg_advisory_lock"


class CommitProxy:
    """Passes everything on until it is told to lose the next COMMIT of the connection that writes.

    Args:
        url: of the database behind it.
    """

    def __init__(self, url: str) -> None:
        self._target = make_url(url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = self._target.set(port=self._listener.getsockname()[1]).render_as_string(hide_password=False)
        self._lock = threading.Lock()
        self._lose: str = ""
        self._away = False
        self._stays_away = False
        self._open: set[socket.socket] = set()
        self.lost = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def lose(self, what: str, *, stay_away: bool = False) -> None:
        """Loses the next COMMIT of the writer.

        Args:
            what: "answer": PostgreSQL commits, and the connection breaks before it can say so; "request": the
                connection breaks before PostgreSQL hears of it.
            stay_away: no connection is left or let through from then on, until `come_back`.
        """
        with self._lock:
            self._lose, self._stays_away = what, stay_away
            self.lost.clear()

    def come_back(self) -> None:
        """Lets connections through again."""
        with self._lock:
            self._away = False

    def __enter__(self) -> "CommitProxy":
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    away = self._away
                if away:
                    client.close()
                else:
                    threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.create_connection((self._target.host or "", self._target.port or 5432))
        writes = False
        with self._lock:
            self._open.add(client)
        with suppress(OSError), closing(client), closing(server):
            while True:
                for ready in select.select([client, server], [], [])[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is server:
                        client.sendall(data)
                        continue
                    writes |= WRITER in data
                    lose = self._losing(data) if writes else ""
                    if lose != "request":
                        server.sendall(data)
                    if lose:
                        # The answer comes only once the transaction is committed.
                        if lose == "answer":
                            server.recv(1 << 16)
                        self.lost.set()
                        return

    def _losing(self, data: bytes) -> str:
        with self._lock:
            if not self._lose or COMMIT not in data:
                return ""
            lose, self._lose, self._away = self._lose, "", self._stays_away
            if self._away:
                for client in self._open:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)
                self._open.clear()
            return lose
