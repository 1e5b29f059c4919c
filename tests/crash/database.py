"""PostgreSQL for the crash run: killed, started again, and reached through a proxy that loses answers to commits."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg

from tests.crash.proxy import CommitProxy
from tests.postgres import AS_NOBODY, PROGRAMS, find_program, free_port, run_program

DATABASE = "postgres"
START_TRIES, LOOK_AGAIN_SECONDS = 30, 0.3


class Database:
    """A PostgreSQL server of its own. Raises LookupError where PostgreSQL is not installed."""

    def __init__(self) -> None:
        programs = {name: found for name in PROGRAMS if (found := find_program(name))}
        if len(programs) < len(PROGRAMS):
            raise LookupError("PostgreSQL's initdb and pg_ctl are not found")
        self._programs = programs
        self._folder = Path(tempfile.mkdtemp(prefix="assay-crash-"))
        if os.geteuid() == 0:
            shutil.chown(self._folder, "nobody", "nogroup")
        self._data, self._port = self._folder / "data", free_port()
        initdb = programs["initdb"]
        run_program(self._folder, initdb, "-D", self._data, "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8")
        self.start()
        self.proxy = CommitProxy(self._port)

    @property
    def url(self) -> str:
        """For the server under test: through the proxy."""
        return f"postgresql://postgres@127.0.0.1:{self.proxy.port}/{DATABASE}"

    @property
    def direct_url(self) -> str:
        """For the test: past the proxy."""
        return f"postgresql://postgres@127.0.0.1:{self._port}/{DATABASE}"

    def start(self) -> None:
        """Starts it, and waits until it has recovered."""
        options = f"-c listen_addresses=127.0.0.1 -p {self._port} -k {self._folder} -c max_connections=60 -c fsync=off"
        log = self._folder / "log"
        pg_ctl = self._programs["pg_ctl"]
        run_program(self._folder, pg_ctl, "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def kill(self) -> None:
        """Ends all of it at once: the postmaster, and with it its children."""
        postmaster = int((self._data / "postmaster.pid").read_text().splitlines()[0])
        children = subprocess.run(["pgrep", "-P", str(postmaster)], capture_output=True, text=True, check=False).stdout
        for pid in [postmaster, *map(int, children.split())]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        (self._data / "postmaster.pid").unlink(missing_ok=True)

    def start_again(self) -> None:
        """Starts it after a kill: until its last process is gone, its memory is still in use and it refuses."""
        for _ in range(START_TRIES):
            try:
                self.start()
            except AssertionError:
                time.sleep(LOOK_AGAIN_SECONDS)
            else:
                return
        self.start()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        """What a query gives."""
        with closing(psycopg.connect(self.direct_url, autocommit=True)) as connection:
            return list(connection.execute(statement.encode()).fetchall())

    def close(self) -> None:
        """Stops it and deletes its files."""
        self.proxy.close()
        pg_ctl = self._programs["pg_ctl"]
        command = [pg_ctl, "-D", str(self._data), "-w", "-m", "immediate", "stop"]
        user = AS_NOBODY if os.geteuid() == 0 else ()
        subprocess.run([*user, *command], cwd=self._folder, capture_output=True, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
