"""What a failed command says, and the exit status it ends with.

0 done; 2 wrong usage; 3 no server (not reached, or not installed); 4 the server refused; 5 the server failed.
"""

import json
import sys
from typing import Any

from assay.client import errors
from assay.client._files import Missing

USAGE, ENVIRONMENT, REFUSED, FAILED, INTERRUPTED = 2, 3, 4, 5, 130

_HINTS = {
    "POOL_NOT_FOUND": "`assay pool list` shows the pools.",
    "MODEL_NOT_FOUND": "`assay model list POOL` shows the models.",
    "LEASE_NOT_FOUND": "`assay lease list POOL` shows the live leases.",
    "LEASE_EXPIRED": "Take a new batch with `assay next`; samples can also be annotated without a lease.",
    "UNKNOWN_STRATEGY": "`assay strategies` shows the strategies and presets.",
    "NEED_MISSING": "`assay strategies --task TASK` shows what serves the pool's task and what it needs; "
    "`assay train POOL` trains a head.",
    "TOO_FEW_CLASSES": "Label samples of at least two classes first.",
    "TOO_FEW_LABELS": "Label at least two samples first.",
    "NO_BACKBONE": "Upload one with `assay model upload`, or add embeddings.",
    "UNAUTHENTICATED": "Give the key with --api-key or ASSAY_API_KEY.",
    "ROLE_NEEDED": "Ask who runs the server for a key with that role; `assay key --role ROLE` makes one.",
    "POOL_DENIED": "`assay pool list` shows the pools of this key.",
}


def report(error: Exception, as_json: bool) -> int:
    """Say on standard error what went wrong; return the exit status."""
    told = {name: value for name, value in _describe(error).items() if value}
    if as_json:
        sys.stderr.write(json.dumps({"error": told}, ensure_ascii=False) + "\n")
    else:
        label = f"{told['reason']}: " if "reason" in told else ""
        hint = f"\nhint: {told['hint']}" if "hint" in told else ""
        sys.stderr.write(f"error: {label}{told['message']}{hint}\n")
    return exit_status(error)


def exit_status(error: Exception) -> int:
    """The exit status of an error."""
    match error:
        case Missing() | errors.Unavailable():
            return ENVIRONMENT
        case errors.RequestError():
            return REFUSED
        case errors.AssayError():
            return FAILED
        case _:
            return USAGE


def _describe(error: Exception) -> dict[str, Any]:
    if not isinstance(error, errors.AssayError):
        return {"message": str(error)}
    return {
        "code": error.code,
        "reason": error.reason or error.code,
        "message": error.message,
        "metadata": error.metadata,
        "retry_after": error.retry_after.total_seconds() if error.retry_after else None,
        "hint": _hint(error),
    }


def _hint(error: errors.AssayError) -> str:
    if isinstance(error, errors.Unavailable) and not error.reason:
        return "No server answered. Start one with `assay serve`, or name another with --server."
    if isinstance(error, errors.DeadlineExceeded):
        return "Give it more time with --timeout SECONDS (0 for no limit)."
    return _HINTS.get(error.reason, "")
