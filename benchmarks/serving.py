"""The real server as a process of its own, and how much memory it takes."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

READY_SECONDS = 120


class ServerProcess:
    """A server over a data directory."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None
        self._sampler: threading.Thread | None = None
        self._stop = threading.Event()
        self.peak_private_bytes = 0
        self.target = ""

    def start(self) -> float:
        """Starts it; returns the seconds until it serves."""
        port_file = self._data_dir.parent / "port"
        port_file.unlink(missing_ok=True)
        log = (self._data_dir.parent / "server.log").open("ab")
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "assay.client.cli", "serve"),
                *("--data-dir", str(self._data_dir), "--listen", "127.0.0.1:0", "--port-file", str(port_file)),
            ],
            stdout=log,
            stderr=log,
        )
        log.close()
        while not port_file.exists():
            if self._process.poll() is not None or time.perf_counter() - begin > READY_SECONDS:
                raise RuntimeError(f"the server did not start; see {self._data_dir.parent / 'server.log'}")
            time.sleep(0.01)
        seconds = time.perf_counter() - begin
        self.target = port_file.read_text().strip()
        self._stop.clear()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return seconds

    def stop(self) -> None:
        """Ends it as an operator would."""
        self._stop.set()
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)
        if self._sampler is not None:
            self._sampler.join()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None
        return self._process.pid

    def private_bytes(self) -> int:
        """Its private pages now."""
        return _status(self.pid)["RssAnon"]

    def memory(self) -> dict[str, int]:
        """Bytes: the peak of all resident pages (mapped files included), and the peak of the private ones."""
        assert self._process is not None
        return {
            "peak_resident": _status(self._process.pid)["VmHWM"],
            "peak_private": self.peak_private_bytes,
        }

    def _sample(self) -> None:
        assert self._process is not None
        while not self._stop.wait(0.05):
            with contextlib.suppress(OSError, KeyError):
                self.peak_private_bytes = max(self.peak_private_bytes, _status(self._process.pid)["RssAnon"])


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used so far, over all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _status(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
