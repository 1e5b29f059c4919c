"""The process of a trial: `python -m assay.server.adapters.onnx_backbone.child`.

A request as JSON on its standard input, the answer as JSON on its standard output: {"accepted": info} or
{"refused": {"reason", "message", "metadata"}}.
"""

import json
import math
import os
import resource
import signal
import sys

from assay.server.adapters.onnx_backbone.messages import Json, Request, info_to_json, request_from_json
from assay.server.adapters.onnx_backbone.problems import invalid, too_much_memory
from assay.server.adapters.onnx_backbone.trial import examine
from assay.server.core.errors import AssayError

_MAX_FILE = 4 << 20  # bytes that it may write to any file: its answer
_GRACE_SECONDS = 5  # the server ends it at its time; if there is no server any more, it ends itself
_STACK_BYTES = 16 << 20  # of one thread, with what its allocations round up to
_NICENESS = 10


def main() -> None:
    """Makes one trial."""
    request = request_from_json(json.load(sys.stdin))
    limit(request)
    json.dump(answer(request), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # what a hostile graph left behind need not be taken down


def answer(request: Request) -> Json:
    """What the trial finds, or why the file is refused."""
    try:
        info = examine(request.path, request.spec, request.data_files, request.sha256, request.limits, opened)
        return {"accepted": info_to_json(info)}
    except AssayError as error:
        refused = error
    except MemoryError:
        refused = too_much_memory(request.limits.memory_bytes)
    except Exception as error:
        # Whatever a file made to fail raises in the libraries that read it, it is the file that is refused.
        refused = invalid("not_loadable", f"The model cannot be read ({type(error).__name__}). Export it again.")
    return {
        "refused": {"reason": refused.reason, "message": refused.message, "metadata": dict(refused.metadata)},
    }


def limit(request: Request) -> None:
    """Bounds this process. Memory is counted from what the interpreter and the libraries hold already."""
    threads = request.limits.threads or os.cpu_count() or 1
    os.nice(_NICENESS)
    signal.alarm(math.ceil(request.trial_seconds) + _GRACE_SECONDS)
    cpu = math.ceil(request.trial_seconds * threads) + _GRACE_SECONDS
    _set(resource.RLIMIT_CPU, cpu)
    _set(resource.RLIMIT_CORE, 0)
    _set(resource.RLIMIT_FSIZE, _MAX_FILE)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    stacks = (threads + 2) * _STACK_BYTES
    most = _held() + request.limits.memory_bytes + request.weight_bytes + stacks
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    # What is computed while a model is opened stays in memory as long as it serves: little, beside its weights.
    opening = most - request.limits.memory_bytes * 3 // 4
    resource.setrlimit(resource.RLIMIT_DATA, (opening, most))


def opened() -> None:
    """From now on the model may take what its runs may."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _set(kind: int, value: int) -> None:
    _, hard = resource.getrlimit(kind)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def _held() -> int:
    """Bytes of private writable memory that this process has, as RLIMIT_DATA counts them where it counts at all."""
    if not os.path.exists("/proc/self/status"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with open("/proc/self/status", encoding="ascii") as status:
        kibibytes = next(line.split()[1] for line in status if line.startswith("VmData:"))
    return int(kibibytes) << 10


if __name__ == "__main__":
    main()
