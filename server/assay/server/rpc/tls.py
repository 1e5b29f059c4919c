"""The server's certificate, which may change while it serves."""

import os
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM texts of the server's certificate chain and key; with client_ca, callers need a certificate of that CA."""

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None = None

    def check(self) -> None:
        """Raises ValueError where a text is no certificate or key, or the two do not belong together."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            with _file(self.certificate) as certificate, _file(self.key) as key:
                # A key behind a password would be asked for on the terminal.
                context.load_cert_chain(certificate, key, password=lambda: b"")
            if self.client_ca is not None:
                context.load_verify_locations(cadata=self.client_ca.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", "") or str(error)
            raise ValueError(f"the certificate, its key or the client CA cannot be used: {reason}") from None

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """The same for gRPC."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.certificate)], self.client_ca)


@contextmanager
def _file(content: bytes) -> Iterator[str]:
    """A path to read bytes from that never touch a disk."""
    descriptor = os.memfd_create("pem")
    try:
        os.write(descriptor, content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


class Certificates:
    """What new connections are greeted with. Those that stand keep what they began with."""

    def __init__(self, tls: Tls) -> None:
        """Raises ValueError as Tls.check."""
        tls.check()
        self._first = tls
        self._lock = threading.Lock()
        self._next: Tls | None = None

    def replace(self, tls: Tls) -> None:
        """Greets with another certificate from now on. Raises ValueError as Tls.check, and then keeps the old one."""
        tls.check()
        with self._lock:
            self._next = tls

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials of a gRPC server that look here at each handshake."""
        # The fetcher may return None, whatever its stub says: then nothing changes.
        fetch = cast(Callable[[], grpc.ServerCertificateConfiguration], self._fetch)
        return grpc.dynamic_ssl_server_credentials(
            self._first.configuration(), fetch, require_client_authentication=self._first.client_ca is not None
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """A configuration to change to; None where nothing changed. Called by gRPC's threads."""
        with self._lock:
            tls, self._next = self._next, None
        return tls.configuration() if tls else None
