"""A real PostgreSQL server for tests: started once a run on a free loopback port, in a directory of its own.

A test asks for `postgres_url` and gets the URL of a fresh, empty database.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

PROGRAMS = ("initdb", "pg_ctl", "postgres", "pg_basebackup")
HOW_TO_INSTALL = (
    "PostgreSQL's initdb, pg_ctl and pg_basebackup are not found: install it (Debian: apt-get install postgresql)"
)
# PostgreSQL refuses to run as root.
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


class PostgresServer:
    """A running server; its superuser is postgres, trusted on loopback."""

    def __init__(self, port: int, programs: dict[str, str]) -> None:
        self._port = port
        self._programs = programs

    def url(self, database: str = "postgres") -> str:
        """URL of a database of the server."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Runs one statement outside transactions."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def standby(self) -> Iterator["Standby"]:
        """A server that follows this one, stopped and deleted at the end."""
        with _folder() as folder:
            data, port = folder / "data", free_port()
            run_program(folder, self._programs["pg_basebackup"], "-D", data, "-d", self.url(), "-R", "-c", "fast")
            with _running(folder, self._programs, port):
                yield Standby(port, self._programs, folder, self.url())

    @contextmanager
    def database(self) -> Iterator[str]:
        """URL of a fresh database that is dropped at the end."""
        name = f"test_{uuid4().hex}"
        self.execute(f"CREATE DATABASE {name} STRATEGY file_copy")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


class Standby(PostgresServer):
    """A server that follows another one until it takes its place."""

    def __init__(self, port: int, programs: dict[str, str], folder: Path, primary: str) -> None:
        super().__init__(port, programs)
        self._folder = folder
        self._primary = primary

    def catch_up(self) -> None:
        """Waits until it has all that the other one has committed."""
        with psycopg.connect(self._primary, autocommit=True) as primary:
            done = primary.execute("SELECT pg_current_wal_lsn()").fetchone()
        with psycopg.connect(self.url(), autocommit=True) as connection:
            while connection.execute("SELECT pg_last_wal_replay_lsn() < %s::pg_lsn", done).fetchone() == (True,):
                time.sleep(0.01)

    def promote(self) -> None:
        """Makes it a server of its own, from where it got to."""
        run_program(self._folder, self._programs["pg_ctl"], "-D", self._folder / "data", "-w", "promote")


def find_program(name: str) -> str | None:
    """Path of a program of PostgreSQL: on the PATH, or where Debian puts it."""
    places = [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))]
    return shutil.which(name, path=os.pathsep.join(places))


@contextmanager
def postgres_server(programs: dict[str, str]) -> Iterator[PostgresServer]:
    """A server in a new directory, stopped and deleted at the end."""
    with _folder() as folder:
        data, port = folder / "data", free_port()
        run_program(folder, programs["initdb"], "-D", data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        with _running(folder, programs, port):
            yield PostgresServer(port, programs)


@contextmanager
def _folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
    try:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _running(folder: Path, programs: dict[str, str], port: int) -> Iterator[None]:
    """The server whose data lie in a folder."""
    data = folder / "data"
    options = f"-c listen_addresses=127.0.0.1 -p {port} -k {folder} -c max_connections=60 -c fsync=off"
    run_program(folder, programs["pg_ctl"], "-D", data, "-l", folder / "log", "-w", "-o", options, "start")
    try:
        yield
    finally:
        run_program(folder, programs["pg_ctl"], "-D", data, "-w", "-m", "immediate", "stop")


def run_program(folder: Path, *command: str | Path) -> None:
    """Runs a program of PostgreSQL, as nobody where this is root. Raises AssertionError with what it said."""
    user: Sequence[str] = AS_NOBODY if os.geteuid() == 0 else ()
    with open(folder.with_suffix(".out"), "w+") as output:  # a pipe would stay open in the server that is started
        done = subprocess.run([*user, *command], cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False)
        output.seek(0)
        said = output.read()
    folder.with_suffix(".out").unlink()
    assert done.returncode == 0, said


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The server of this run."""
    programs = {name: found for name in PROGRAMS if (found := find_program(name))}
    if len(programs) < len(PROGRAMS):
        if os.environ.get("CI") == "true":
            pytest.fail(HOW_TO_INSTALL)
        pytest.skip(HOW_TO_INSTALL)
    with postgres_server(programs) as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """URL of a fresh, empty database."""
    with postgres.database() as url:
        yield url
