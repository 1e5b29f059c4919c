"""A server in a process of its own."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from assay.client.client import Client

START_SECONDS = 60.0
STOP_SECONDS = 40.0
_LOOK_AGAIN_SECONDS = 0.02
_TAIL_LINES = 30


class ServerFailed(Exception):
    """The server did not come up; the message ends with the last lines of its log."""


class ServerProcess:
    """A server on a free port of loopback. Its data outlives it: started again, it goes on where it was.

    Attributes:
        data_dir: what it stores.
        log: file of what it says.
    """

    def __init__(self, directory: Path | str, **settings: Any) -> None:
        """Prepare a server; `start` starts it.

        Args:
            directory: where its data and log are kept; made if it is not there.
            settings: settings of the server by name, such as log_level="debug"; see `assay serve`.
        """
        self._directory = Path(directory)
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._target = ""
        self.data_dir = self._directory / "data"
        self.log = self._directory / "server.log"

    @property
    def target(self) -> str:
        """Host and port, once started."""
        return self._target

    @property
    def pid(self) -> int:
        """Process id.

        Raises:
            ServerFailed: it does not run.
        """
        if self._process is None:
            raise ServerFailed("the server is not running")
        return self._process.pid

    def client(self, **options: Any) -> Client:
        """A client of this server; takes the options of `Client`."""
        return Client(self._target, **options)

    def start(self, *arguments: str, seconds: float = START_SECONDS) -> None:
        """Start it and wait until it serves.

        Args:
            arguments: further words for `assay serve`, such as "--adopt".
            seconds: how long it may take.

        Raises:
            ServerFailed: it ended, or does not serve after so many seconds.
        """
        self._directory.mkdir(parents=True, exist_ok=True)
        address = self._directory / "address"
        address.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "assay.client.cli", "serve", "--port-file", str(address), *arguments],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._target = self._wait(self._process, address, seconds)
        except BaseException:
            self.kill()
            raise

    def stop(self, seconds: float = STOP_SECONDS) -> int:
        """Ask it to drain and end, and see to it that it does; return its exit status."""
        if self._process is None:
            return 0
        self._process.terminate()
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return self.kill()
        finally:
            self._process = None

    def kill(self) -> int:
        """End it at once, as a crash would; return its exit status."""
        if self._process is None:
            return 0
        self._process.kill()
        status = self._process.wait()
        self._process = None
        return status

    def _environment(self) -> dict[str, str]:
        """The environment, less settings that were meant for other servers."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
        settings = {"data_dir": self.data_dir, "listen": "127.0.0.1:0", **self._settings}
        return inherited | {f"ASSAY_{name.upper()}": str(value) for name, value in settings.items()}

    def _wait(self, process: subprocess.Popen[bytes], address: Path, seconds: float) -> str:
        deadline = time.monotonic() + seconds
        while not address.exists():
            if process.poll() is not None:
                raise ServerFailed(f"the server ended with status {process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise ServerFailed(f"the server does not serve after {seconds:g} s:\n{self._log_tail()}")
            time.sleep(_LOOK_AGAIN_SECONDS)
        return address.read_text().strip()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-_TAIL_LINES:])


@contextmanager
def start_server(directory: Path | str, **settings: Any) -> Iterator[ServerProcess]:
    """Run a server for the length of a `with` statement; see `ServerProcess` for the arguments."""
    server = ServerProcess(directory, **settings)
    server.start()
    try:
        yield server
    finally:
        server.stop()
