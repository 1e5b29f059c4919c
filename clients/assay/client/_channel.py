"""Channels: where the server is and how to talk to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Final

import grpc

from assay.client.retry import RetryPolicy

LOOPBACK: Final = ("127.", "localhost", "[::1]", "::1", "unix:", "unix-abstract:")

_OPTIONS: Final = (
    # The server's limits hold; ours would only turn its clear errors into unclear ones.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Servers hang up on clients that ping more often than every five minutes.
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # So that a restarted server is found again at the pace of our own retries. The minimum is, in spite of its name,
    # how long one attempt to connect may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A server's address and the caller's way to prove itself."""

    target: str
    api_key: str | None = None
    tls: bool = False
    tls_ca: str | PathLike[str] | None = None

    def __post_init__(self) -> None:
        if self.api_key is not None and not self.secure and not self.loopback:
            raise ValueError(f"an API key is not sent to {self.target} in the clear: use TLS (tls=True or tls_ca)")

    @property
    def secure(self) -> bool:
        """Whether the channel is encrypted."""
        return self.tls or self.tls_ca is not None

    @property
    def loopback(self) -> bool:
        """Whether the server is on this machine."""
        return self.target.startswith(LOOPBACK)

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials that trust the given roots, or the usual ones."""
        roots = None if self.tls_ca is None else Path(self.tls_ca).read_bytes()
        return grpc.ssl_channel_credentials(root_certificates=roots)

    def options(self) -> Sequence[tuple[str, Any]]:
        """Channel options. A proxy of the environment is for other machines."""
        return (*_OPTIONS, ("grpc.enable_http_proxy", 0)) if self.loopback else _OPTIONS

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call carries."""
        return () if self.api_key is None else (("authorization", f"Bearer {self.api_key}"),)


@dataclass(frozen=True, slots=True)
class CallSettings:
    """How calls are made: seconds for a call of one reply, for a stream (None: no limit), and when to try again."""

    timeout: float | None
    stream_timeout: float | None
    retry: RetryPolicy
    metadata: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        for name, seconds in (("timeout", self.timeout), ("stream_timeout", self.stream_timeout)):
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is a number of seconds above 0, not {seconds}; None stands for no limit")
