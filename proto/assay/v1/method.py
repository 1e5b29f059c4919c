"""What the table of methods says of an RPC; the table itself, `methods`, is generated from the protos."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Generic, TypeVar

from google.protobuf.message import Message

from assay.v1 import options_pb2

RequestT = TypeVar("RequestT", bound=Message)
ResponseT = TypeVar("ResponseT", bound=Message)


class Role(IntEnum):
    """What a key may do; each role may do all that those before it may."""

    READ = options_pb2.ROLE_READ
    LABEL = options_pb2.ROLE_LABEL
    MINE = options_pb2.ROLE_MINE
    ADMIN = options_pb2.ROLE_ADMIN

    @property
    def word(self) -> str:
        """As it is written in files and messages."""
        return self.name.lower()


class Reach(Enum):
    """How an RPC keeps to the pools of a key that is bound to some."""

    REQUEST = options_pb2.POOL_REACH_REQUEST  # its request names one pool, and reaches nothing of others
    VISIBLE = options_pb2.POOL_REACH_VISIBLE  # its handler shows and touches only what the caller may see
    NONE = options_pb2.POOL_REACH_NONE  # it tells nothing of any pool


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT, ResponseT]):
    """An RPC.

    Attributes:
        path: "/{service}/{name}".
        request, response: the types of its messages.
        role: what its caller's key must be for; None: nothing, anybody may call it.
        reach: how it keeps to the caller's pools.
        streams_requests, streams_responses: whether either side sends many.
    """

    path: str
    request: type[RequestT]
    response: type[ResponseT]
    role: Role | None
    reach: Reach
    streams_requests: bool = False
    streams_responses: bool = False

    @property
    def service(self) -> str:
        """Full name of its service."""
        return self.path.split("/")[1]

    @property
    def name(self) -> str:
        """Its name within the service."""
        return self.path.split("/")[2]


_OPERATIONS, _HEALTH = "/google.longrunning.Operations/", "/grpc.health.v1.Health/"

# Who may call what of the services whose protos are not ours to write options in.
STANDARD: Mapping[str, tuple[Role | None, Reach]] = {
    _OPERATIONS + "GetOperation": (Role.READ, Reach.REQUEST),
    _OPERATIONS + "ListOperations": (Role.READ, Reach.VISIBLE),
    _OPERATIONS + "WaitOperation": (Role.READ, Reach.REQUEST),
    _OPERATIONS + "CancelOperation": (Role.MINE, Reach.REQUEST),
    _OPERATIONS + "DeleteOperation": (Role.MINE, Reach.REQUEST),
    _HEALTH + "Check": (None, Reach.NONE),
    _HEALTH + "List": (None, Reach.NONE),
    _HEALTH + "Watch": (None, Reach.NONE),
}
