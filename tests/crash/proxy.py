"""Stands between the server and PostgreSQL, and loses the answers to commits."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16
# COMMIT as a simple query, and as it is parsed for the extended protocol.
COMMITS = (b"COMMIT\x00", b"commit\x00")


class CommitProxy:
    """Forwards connections to a port of loopback. When told to, it forwards the next COMMIT, waits for the answer and
    cuts the connection in its place: the commit is durable, and the server does not know."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._armed = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        """Port that it listens on."""
        port: int = self._listener.getsockname()[1]
        return port

    def lose_next_answer(self) -> None:
        """The answer to the next COMMIT is lost."""
        self._armed.set()

    def close(self) -> None:
        """Ends all connections."""
        self._listener.close()
        with self._lock:
            for connection in self._open:
                _end(connection)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                with self._lock:
                    self._open |= {near, far}
                losing = threading.Event()
                self._start(self._requests, near, far, losing)
                self._start(self._answers, far, near, losing)

    @staticmethod
    def _start(work: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _requests(self, near: socket.socket, far: socket.socket, losing: threading.Event) -> None:
        """From the server to PostgreSQL."""
        with suppress(OSError):
            while data := near.recv(CHUNK):
                if any(commit in data for commit in COMMITS) and self._armed.is_set():
                    self._armed.clear()
                    losing.set()
                far.sendall(data)
        self._forget(near, far)

    def _answers(self, far: socket.socket, near: socket.socket, losing: threading.Event) -> None:
        """From PostgreSQL to the server."""
        with suppress(OSError):
            while data := far.recv(CHUNK):
                if losing.is_set():
                    self.cuts += 1
                    break
                near.sendall(data)
        self._forget(near, far)

    def _forget(self, *connections: socket.socket) -> None:
        with self._lock:
            for connection in connections:
                _end(connection)
                self._open.discard(connection)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
