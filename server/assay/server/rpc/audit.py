"""The audit log: who was refused what, and who did what only an administrator may do.

Lines go to the logger "assay.audit" at INFO, whatever the level of the other logs. Keys are never in them, only their
names and fingerprints; all that a caller wrote is a value of a structured event, so that nobody can forge a line.
"""

import logging

import grpc

from assay.server.rpc.auth import POLICY
from assay.server.rpc.current import Call
from assay.server.rpc.errors import EdgeReason
from assay.v1.method import Role

LOGGER = "assay.audit"
REFUSALS = frozenset(
    {EdgeReason.UNAUTHENTICATED, EdgeReason.RPC_DENIED, EdgeReason.ROLE_NEEDED, EdgeReason.POOL_DENIED}
)
PRIVILEGED = frozenset(path for path, method in POLICY.items() if method.role is Role.ADMIN)
MAX_SHOWN = 128
log = logging.getLogger(LOGGER)
log.setLevel(logging.INFO)


def note(call: Call, code: grpc.StatusCode, reason: str) -> None:
    """Leaves a line of an ended call if it was refused or privileged."""
    refused = reason in REFUSALS
    if refused or call.method in PRIVILEGED:
        caller = call.caller
        log.info(
            "audit",
            extra={
                "outcome": "refused" if refused else "done" if code is grpc.StatusCode.OK else "failed",
                "who": caller.name or "-",
                "key": caller.fingerprint or "-",
                "role": caller.role.word if caller.role else "-",
                "method": call.method,
                "pool": call.pool[:MAX_SHOWN] or "-",
                "peer": call.peer,
                "code": code.name,
                "reason": reason or "-",
                "request_id": call.request_id[:MAX_SHOWN] or "-",
            },
        )
