"""A client process that is stopped (SIGSTOP) past the end of its lease, and then hands in its labels all the same."""

import signal
import subprocess
import sys
from pathlib import Path

from assay.client import Lease

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from assay.client import Client, Lease, RetryPolicy, errors
target, pool, worker, name, token, class_name, *ids = sys.argv[1:]
with Client(target, retry=RetryPolicy(attempts=1)) as client:
    client.health()
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        client.annotate(pool, dict.fromkeys(ids, class_name), worker, lease=Lease(name, int(token)))
        print("taken")
    except errors.AssayError as error:
        print(error.reason or type(error).__name__)
"""


class Sleeper:
    """The process, connected and stopped."""

    def __init__(self, target: str, pool: str, lease: Lease, class_name: str) -> None:
        arguments = [target, pool, lease.worker, lease.name, str(lease.fencing_token), class_name, *lease.sample_ids]
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().strip() == "ready"
        self._process.send_signal(signal.SIGSTOP)

    def wake(self) -> str:
        """Lets it go on; what became of its labels: "taken", or the reason of their refusal."""
        self._process.send_signal(signal.SIGCONT)
        said, _ = self._process.communicate("go\n", timeout=60)
        return said.strip()

    def kill(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
