"""Who may call what: the table of methods, API keys with roles, and who calls."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from grpc_reflection.v1alpha import reflection, reflection_pb2

from assay.server.rpc.errors import EdgeError, EdgeReason
from assay.v1 import methods
from assay.v1.method import Method, Reach, Role

BEARER = "bearer "
MIN_KEY_LENGTH = 16
MAX_NAME_LENGTH = 64
FINGERPRINT_DIGITS = 12
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})", re.IGNORECASE)
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._@-]{{0,{MAX_NAME_LENGTH - 1}}}")
_POOL = re.compile(r"[a-z][a-z0-9_-]{0,62}")


# The reflection service has no types in what the clients have, so it is not in the table of methods.
REFLECTION = Method(
    f"/{reflection.SERVICE_NAME}/ServerReflectionInfo",
    reflection_pb2.ServerReflectionRequest,
    reflection_pb2.ServerReflectionResponse,
    Role.READ,
    Reach.NONE,
    streams_requests=True,
    streams_responses=True,
)
# By path. An RPC that is not listed is denied.
POLICY: Mapping[str, Method[Any, Any]] = {**methods.METHODS, REFLECTION.path: REFLECTION}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls.

    Attributes:
        name: the key's name in the file; "local" where no keys are configured, "" without a key.
        fingerprint: first digits of the key's SHA-256, for logs; "" without a key.
        role: what it may do; None: nothing but what is open to anybody.
        pools: ids of the pools that it is bound to; None: all.
    """

    name: str = ""
    fingerprint: str = ""
    role: Role | None = None
    pools: frozenset[str] | None = None

    def sees(self, pool_id: str) -> bool:
        """Whether a pool is one of the caller's."""
        return self.pools is None or pool_id in self.pools

    def require(self, pool_id: str) -> None:
        """Raises EdgeError(POOL_DENIED) for a pool that is not the caller's, whether it exists or not."""
        if not pool_id and self.pools is not None:
            raise EdgeError(
                EdgeReason.POOL_DENIED,
                f"The request names no pool, and {self.described()} is bound to some. Name one, as pools/{{pool}}.",
                pool="",
            )
        if not self.sees(pool_id):
            raise EdgeError(
                EdgeReason.POOL_DENIED,
                f"Pool {pool_id!r} is none of those that {self.described()} is bound to. Use a key of that pool.",
                pool=pool_id,
            )

    def may(self, role: Role) -> bool:
        """Whether the caller has a role, or more."""
        return self.role is not None and self.role >= role

    def need(self, role: Role, what: str) -> None:
        """Raises EdgeError(ROLE_NEEDED) for a caller that has not the role which a field of its request needs."""
        if not self.may(role):
            raise EdgeError(
                EdgeReason.ROLE_NEEDED,
                f"{what} needs the role {role.word}, and {self.described()} is none of it. Leave it out, or use a key "
                "of that role.",
                role=role.word,
                field=what,
            )

    def described(self) -> str:
        """The caller's key, for people."""
        return f"the key {self.name or 'sha256:' + self.fingerprint}"


ANONYMOUS = Caller()
# Where no keys are configured, and the server listens on loopback only.
LOCAL = Caller("local", role=Role.ADMIN)


class ApiKeys:
    """Accepted API keys, kept as SHA-256 digests. Without any, a key is not asked for."""

    def __init__(self, lines: Iterable[str] = ()) -> None:
        """Reads keys, one a line; empty lines and # comments are left out.

        A line is the key, as it is or as "sha256:<hexadecimal digest>", then what it may do: `role=read`, `label`,
        `mine` or `admin`, without which the key is not taken; `pools=a,b` (without it: all); `name=ann`, for logs.

        Raises:
            ValueError: for a line that cannot be used. The message has its number and never the key.
        """
        found: dict[bytes, Caller] = {}
        for number, line in enumerate(lines, 1):
            words = line.split()
            if not words or words[0].startswith("#"):
                continue
            digest = _digest_of(words[0], number)
            if digest in found:
                raise ValueError(f"line {number}: this key is in the list already")
            found[digest] = _caller_of(words[1:], digest, number)
        self._callers = found

    def __len__(self) -> int:
        return len(self._callers)

    def find(self, key: str) -> Caller | None:
        """Whose key it is, None for a wrong one; takes as long for a wrong key as for a right one."""
        digest = _digest(key)
        # All are compared, each in constant time: how long it takes tells nothing of how close a guess was.
        matches = [caller for known, caller in self._callers.items() if hmac.compare_digest(digest, known)]
        return matches[0] if matches else None

    def unrestricted(self) -> list[str]:
        """Fingerprints of the keys that may do everything everywhere."""
        return [each.fingerprint for each in self._callers.values() if each.role is Role.ADMIN and each.pools is None]


class KeyRing:
    """The keys that are accepted now.

    Attributes:
        keys: replaced as a whole when the file of keys changes. A call that runs goes on under the key it came with.
    """

    def __init__(self, keys: ApiKeys) -> None:
        self.keys = keys


def new_key(role: str, name: str = "", pools: str = "") -> tuple[str, str]:
    """A random key, and its line for the file of keys. Whether the options are usable is for ApiKeys to say."""
    key = secrets.token_hex(32)
    options = {"role": role, "pools": pools, "name": name}
    return key, " ".join(
        [f"sha256:{_digest(key).hex()}", *(f"{word}={value}" for word, value in options.items() if value)]
    )


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def fingerprint(digest: bytes) -> str:
    """What logs call a key: the first digits of its digest. They do not give the key away."""
    return digest.hex()[:FINGERPRINT_DIGITS]


def _digest_of(word: str, number: int) -> bytes:
    hashed = _HASHED.fullmatch(word)
    if hashed:
        return bytes.fromhex(hashed[1])
    if len(word) < MIN_KEY_LENGTH:
        raise ValueError(f"line {number}: an API key has fewer than {MIN_KEY_LENGTH} characters")
    if word.lower().startswith("sha256:"):
        raise ValueError(f"line {number}: sha256: is followed by 64 hexadecimal digits")
    return _digest(word)


def _caller_of(words: Iterable[str], digest: bytes, number: int) -> Caller:
    given: dict[str, str] = {}
    for word in words:
        option, equals, value = word.partition("=")
        if option not in ("role", "pools", "name") or not equals or not value or option in given:
            raise ValueError(f"line {number}: after the key come role=, pools= and name=, each at most once")
        given[option] = value
    return Caller(
        name=_name(given.get("name", ""), number),
        fingerprint=fingerprint(digest),
        role=_role(given.get("role", ""), number),
        pools=_pools(given["pools"], number) if "pools" in given else None,
    )


def _name(value: str, number: int) -> str:
    if value and not _NAME.fullmatch(value):
        raise ValueError(f"line {number}: a name is letters, digits and . _ @ -, at most {MAX_NAME_LENGTH}")
    return value


def _role(value: str, number: int) -> Role:
    for role in Role:
        if value == role.word:
            return role
    what = "role is" if value else "what the key may do is not said; add role= and"
    raise ValueError(f"line {number}: {what} one of {', '.join(role.word for role in Role)}")


def _pools(value: str, number: int) -> frozenset[str]:
    pools = value.split(",")
    if not all(map(_POOL.fullmatch, pools)):
        raise ValueError(f"line {number}: pools= takes pool ids, separated by commas")
    return frozenset(pools)


def identify(metadata: Mapping[str, str], keys: ApiKeys) -> Caller:
    """Who calls: LOCAL where no keys are configured, ANONYMOUS without a key or with a wrong one."""
    if not keys:
        return LOCAL
    key = _key_of(metadata)
    return (keys.find(key) if key else None) or ANONYMOUS


def authorize(method: str, caller: Caller, metadata: Mapping[str, str]) -> None:
    """Lets a call pass by the table, or raises; nothing of its request is needed for that.

    Raises:
        EdgeError: RPC_DENIED for a method that the table lacks, UNAUTHENTICATED without an accepted key, ROLE_NEEDED.
    """
    known = POLICY.get(method)
    if known is None:
        raise EdgeError(EdgeReason.RPC_DENIED, "This RPC is not open to callers.")
    if known.role is None or caller.may(known.role):
        return
    if caller.role is None:
        raise _unauthenticated(bool(_key_of(metadata)))
    raise _role_needed(known.name, caller, caller.role, known.role)


def _unauthenticated(has_key: bool) -> EdgeError:
    if has_key:
        return EdgeError(EdgeReason.UNAUTHENTICATED, "The API key is not one of this server's.")
    message = 'This server asks for an API key. Send it as metadata "authorization: Bearer KEY" or "x-api-key: KEY".'
    return EdgeError(EdgeReason.UNAUTHENTICATED, message)


def _role_needed(name: str, caller: Caller, has: Role, needed: Role) -> EdgeError:
    message = f"{name} needs the role {needed.word}; {caller.described()} has {has.word}. Use a key with that role."
    return EdgeError(EdgeReason.ROLE_NEEDED, message, needed=needed.word, role=has.word)


def _key_of(metadata: Mapping[str, str]) -> str:
    authorization = metadata.get("authorization", "")
    if authorization[: len(BEARER)].lower() == BEARER:
        return authorization[len(BEARER) :].strip()
    return metadata.get("x-api-key", "")
