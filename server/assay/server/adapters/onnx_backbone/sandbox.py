"""A trial in a process of its own: a file that nobody trusts may crash it, or eat what it is given, and nothing else.

The process is started afresh, not forked: a server with threads cannot be. It is told by JSON what to do and answers by
JSON; its limits are set by itself before it looks at the file (`assay.server.adapters.onnx_backbone.child`).
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import IO, Any

from assay.server.adapters.onnx_backbone.messages import Request, info_from_json
from assay.server.adapters.onnx_backbone.problems import invalid, too_much_memory
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import BackboneInfo
from assay.server.core.stop import current_stop

_CHILD = "assay.server.adapters.onnx_backbone.child"
_MAX_ANSWER = 4 << 20
_LOOK_SECONDS = 0.02
# All that the process is told of the server's environment: no keys, no addresses.
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TMPDIR")


def try_in_child(request: Request) -> BackboneInfo:
    """What a trial in a child process finds out.

    Raises:
        AssayError: as `trial.examine`; MODEL_INVALID with the problem too_slow, too_much_memory or crashed if the
            process ends otherwise; CANCELLED, DEADLINE_EXCEEDED or SHUTTING_DOWN once the current stop is requested;
            STORAGE_FAILED if no process can be started.
    """
    with _nameless() as told, _nameless() as answer:
        told.write(json.dumps(asdict(request)).encode())
        told.seek(0)
        status = _run(told, answer, request.trial_seconds)
        answer.seek(0)
        text = answer.read(_MAX_ANSWER + 1)
    return _read(request, status, text)


def _nameless() -> IO[bytes]:
    """A file for a few bytes, in memory where the system has such: a server need not have a folder for others."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("assay-trial"), "w+b")
    return tempfile.TemporaryFile()


def _run(told: IO[bytes], answer: IO[bytes], seconds: float) -> int | None:
    """The exit status; None if the time was over. Raises AssayError(STORAGE_FAILED), and the current stop's."""
    try:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", _CHILD],
            stdin=told,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,
        )
    except OSError as error:
        raise AssayError(
            Reason.STORAGE_FAILED, f"The process for the model's trial cannot be started: {error.strerror}. Try again."
        ) from error
    stop, deadline = current_stop(), time.monotonic() + seconds
    try:
        while (status := process.poll()) is None:
            stop.check()
            if time.monotonic() > deadline:
                return None
            time.sleep(_LOOK_SECONDS)
        return status
    finally:
        process.kill()
        process.wait()


def _read(request: Request, status: int | None, text: bytes) -> BackboneInfo:
    if status is None or status in (-signal.SIGALRM, -signal.SIGXCPU):
        raise invalid(
            "too_slow",
            f"The model's trial takes longer than the {request.trial_seconds:g} seconds that this server grants it. "
            "Export a smaller one, or raise the server's trial_seconds.",
        )
    if status == -signal.SIGKILL:  # nobody but the system kills it: for want of memory
        raise too_much_memory(request.limits.memory_bytes)
    answer = _parse(text) if status == 0 else None
    if answer is None:
        ended = signal.Signals(-status).name if status < 0 else f"status {status}"
        raise invalid(
            "crashed",
            f"ONNX Runtime crashed on the model ({ended}). Check that it runs there; export it again, with standard "
            "operators.",
        )
    if "refused" in answer:
        refused = answer["refused"]
        raise AssayError(Reason(refused["reason"]), refused["message"], **refused["metadata"])
    return info_from_json(answer["accepted"])


def _parse(text: bytes) -> Mapping[str, Any] | None:
    try:
        answer = json.loads(text)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and ("refused" in answer or "accepted" in answer) else None
