"""The real server in a process of its own, as `assay serve` starts it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.errors import DemoError

_POLL = 0.1


@contextmanager
def serving(data: Path, log: Path, start_within: float = 120.0, stop_within: float = 60.0) -> Iterator[str]:
    """A server on a free port of loopback with its data in a folder; gives its address, and stops it at the end.

    Raises:
        DemoError: it did not start, or did not stop well; says where its log is.
    """
    port_file = data.with_name(data.name + ".port")
    command = [str(Path(sys.executable).with_name("assay")), "serve", "--data-dir", str(data)]
    command += ["--listen", "127.0.0.1:0", "--port-file", str(port_file)]
    with log.open("wb") as output:
        # In a session of its own, so that Ctrl-C reaches the demo alone, which then stops the server in order.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _address(process, port_file, log, start_within)
    finally:
        _stop(process, log, stop_within)
        port_file.unlink(missing_ok=True)


def _address(process: "subprocess.Popen[bytes]", port_file: Path, log: Path, within: float) -> str:
    end = time.monotonic() + within
    while time.monotonic() < end:
        if process.poll() is not None:
            raise DemoError(f"the server ended with exit code {process.returncode}:\n{_tail(log)}")
        if port_file.is_file():
            return port_file.read_text().strip()
        time.sleep(_POLL)
    raise DemoError(f"the server did not start within {within:.0f} s; its log is {log}")


def _stop(process: "subprocess.Popen[bytes]", log: Path, within: float) -> None:
    process.terminate()
    try:
        code = process.wait(within)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise DemoError(f"the server did not stop within {within:.0f} s of SIGTERM; its log is {log}") from None
    if code != 0 and sys.exception() is None:
        raise DemoError(f"the server ended with exit code {code}:\n{_tail(log)}")


def _tail(log: Path, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
