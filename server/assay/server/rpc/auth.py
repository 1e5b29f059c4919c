"""Who may call what: one table over every RPC, and API keys."""

import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping
from enum import Enum

from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection

from assay.server.rpc.errors import EdgeError, EdgeReason

BEARER = "bearer "
MIN_KEY_LENGTH = 16
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")


class Access(Enum):
    """What an RPC asks of its caller."""

    OPEN = "open"
    KEY = "key"


def _rows(service: str, access: Access, *methods: str) -> dict[str, Access]:
    return {f"/{service}/{method}": access for method in methods}


# An RPC that is not listed is denied.
POLICY: Mapping[str, Access] = {
    **_rows(
        "assay.v1.Pools",
        Access.KEY,
        "CreatePool",
        "GetPool",
        "ListPools",
        "DeletePool",
        "AddSamples",
        "GetSample",
        "ListSamples",
        "DeleteSamples",
        "SearchSamples",
    ),
    **_rows(
        "assay.v1.Models",
        Access.KEY,
        "UploadBackbone",
        "GetModel",
        "ListModels",
        "DeleteModel",
        "ActivateModel",
        "RollbackModel",
        "TrainHead",
        "Predict",
    ),
    **_rows("assay.v1.Mining", Access.KEY, "ListStrategies", "Score", "Mine"),
    **_rows(
        "assay.v1.Labeling",
        Access.KEY,
        "NextBatch",
        "GetLease",
        "ListLeases",
        "RenewLease",
        "ReleaseLease",
        "SubmitLabels",
        "ListLabels",
        "ExportLabels",
    ),
    **_rows(
        "google.longrunning.Operations",
        Access.KEY,
        "GetOperation",
        "ListOperations",
        "CancelOperation",
        "DeleteOperation",
        "WaitOperation",
    ),
    **_rows(reflection.SERVICE_NAME, Access.KEY, "ServerReflectionInfo"),
    **_rows(health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, Access.OPEN, "Check", "Watch", "List"),
}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


class ApiKeys:
    """Accepted API keys, kept as SHA-256 digests. Without any, a key is not asked for."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Reads keys, one a line, as they are or as "sha256:<hexadecimal digest>"; empty lines and # comments are left
        out. Raises ValueError for a key that is too short to be safe."""
        stripped = (line.strip() for line in lines)
        self._digests = tuple(_line_digest(line) for line in stripped if line and not line.startswith("#"))

    def __len__(self) -> int:
        return len(self._digests)

    def accepts(self, key: str) -> bool:
        """Whether a key is one of these; takes as long for a wrong key as for a right one."""
        digest = _digest(key)
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        return any(matches)


def _line_digest(line: str) -> bytes:
    hashed = _HASHED.fullmatch(line)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(line) < MIN_KEY_LENGTH:
        raise ValueError(f"an API key has fewer than {MIN_KEY_LENGTH} characters")
    return _digest(line)


def authorize(method: str, metadata: Mapping[str, str], keys: ApiKeys) -> None:
    """Lets a call pass or raises.

    Raises:
        EdgeError: RPC_DENIED for a method that the table lacks, UNAUTHENTICATED without an accepted key.
    """
    access = POLICY.get(method)
    if access is None:
        raise EdgeError(EdgeReason.RPC_DENIED, "This RPC is not open to callers.")
    if access is Access.OPEN or not keys:
        return
    key = _key_of(metadata)
    if not key:
        message = (
            'This server asks for an API key. Send it as metadata "authorization: Bearer KEY" or "x-api-key: KEY".'
        )
        raise EdgeError(EdgeReason.UNAUTHENTICATED, message)
    if not keys.accepts(key):
        raise EdgeError(EdgeReason.UNAUTHENTICATED, "The API key is not one of this server's.")


def _key_of(metadata: Mapping[str, str]) -> str:
    authorization = metadata.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return metadata.get("x-api-key", "")
