"""Puts the gRPC server together: servicers, health, reflection, interceptors, channel settings."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio
from grpc_reflection.v1alpha import reflection

from assay.server.core.assay import Assay
from assay.server.rpc import health
from assay.server.rpc.annotations import AnnotationsServicer
from assay.server.rpc.audits import AuditsServicer
from assay.server.rpc.auth import ApiKeys, KeyRing
from assay.server.rpc.changes import ChangesServicer
from assay.server.rpc.execution import Executors
from assay.server.rpc.gate import Gate
from assay.server.rpc.intake import Bounds, Intake
from assay.server.rpc.interceptors import Authorize, Errors, InFlight, Observe
from assay.server.rpc.labeling import Export, LabelingServicer
from assay.server.rpc.metrics import Metrics
from assay.server.rpc.mining import MiningServicer
from assay.server.rpc.models import ModelsServicer
from assay.server.rpc.operations import OperationsServicer
from assay.server.rpc.pools import PoolsServicer
from assay.server.rpc.predictions import PredictionsServicer
from assay.server.rpc.serverinfo import ServerServicer
from assay.server.rpc.table import Servicers, add_to, table
from assay.server.rpc.tls import Certificates, Tls
from assay.server.rpc.wire import Wire
from assay.v1.methods import METHODS

STANDARD_SERVICES = (health.NAME, reflection.SERVICE_NAME)
SERVICES = tuple(sorted({method.service for method in METHODS.values()} - set(STANDARD_SERVICES)))
KEEPALIVE_MIN_MS = 10_000
UNCOMPRESSED = 1 << grpc.Compression.NoCompression
LAST_WORDS_S = 0.5  # for replies on their way out, and before streams of health watchers are cut


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Settings of the edge.

    Attributes:
        listen: HOST:PORT.
        tls: certificate; None for plain text.
        keys: accepted API keys; none where everybody on this machine may do everything.
        max_message_bytes: bytes of one message.
        max_connections: connections at once; those beyond are closed as they come.
        handshake_s: seconds in which a connection must have become one of HTTP/2.
        connection_idle_s: seconds after which a connection without calls is closed; gRPC's clients open a new one when
            they need it.
        patience_s: seconds that a message of a stream waits for its client to read it.
        bounds: bounds of the calls.
    """

    listen: str
    tls: Tls | None = None
    keys: ApiKeys = field(default_factory=ApiKeys)
    max_message_bytes: int = 64 << 20
    max_connections: int = 4096
    handshake_s: float = 10.0
    connection_idle_s: float = 120.0
    patience_s: float = 60.0
    bounds: Bounds = field(default_factory=Bounds)


class RpcServer:
    """The gRPC server, to be made on the event loop. It answers as soon as it is started, but serves only once a core
    is given to `serve`.

    Attributes:
        ring: the accepted API keys, which may be replaced while it serves.
        certificates: so may its certificate; None without TLS.
    """

    def __init__(self, settings: EdgeSettings, executors: Executors, parquet: Export) -> None:
        self.gate = Gate()
        self.executors = executors
        self.metrics = Metrics(self.gate, executors)
        self.certificates = Certificates(settings.tls) if settings.tls else None
        self.ring = KeyRing(settings.keys)
        self._health = health.HealthServicer(SERVICES)
        self._settings = settings
        self._server = grpc.aio.server(
            interceptors=(
                InFlight(self.gate, SERVICES, settings.patience_s),
                Errors(),
                Observe(self.metrics),
                Authorize(self.ring),
                Wire(Intake(settings.bounds), self.metrics, settings.max_message_bytes),
            ),
            options=_options(settings),
        )
        register(self._server, self.gate, executors, parquet, self._health)

    async def start(self) -> int:
        """Binds and answers, NOT_SERVING. Returns the port. Raises RuntimeError if the address cannot be bound."""
        address = self._settings.listen
        if self.certificates is None:
            port = self._server.add_insecure_port(address)
        else:
            port = self._server.add_secure_port(address, self.certificates.credentials())
        await self._server.start()
        return port

    async def serve(self, core: Assay) -> None:
        """Lets calls through to an open core: SERVING."""
        self.gate.open(core)
        self._health.tell(health.SERVING)

    async def drain(self, grace: float) -> None:
        """NOT_SERVING; takes no more calls, lets those in flight finish for so many seconds, then cancels them."""
        self.gate.draining.set()
        self._health.tell(health.NOT_SERVING)
        stopping = asyncio.ensure_future(self._server.stop(grace))
        idle = asyncio.ensure_future(self.gate.idle())
        await asyncio.wait((stopping, idle), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()
        self.gate.stop_calls()
        if not stopping.done():
            await self._server.stop(LAST_WORDS_S)
        await stopping


def register(
    server: grpc.aio.Server,
    gate: Gate,
    executors: Executors,
    parquet: Export,
    health_servicer: health.HealthServicer,
) -> None:
    """Adds all services to a server."""
    servicers = Servicers(
        PoolsServicer(gate, executors),
        ModelsServicer(gate, executors),
        PredictionsServicer(gate, executors),
        MiningServicer(gate, executors),
        LabelingServicer(gate, executors, parquet),
        AnnotationsServicer(gate, executors),
        AuditsServicer(gate, executors),
        ChangesServicer(gate, executors),
        ServerServicer(gate, executors),
        OperationsServicer(gate, executors),
        health_servicer,
    )
    add_to(server, table(servicers))
    reflection.enable_server_reflection((*SERVICES, *STANDARD_SERVICES), server)


def _options(settings: EdgeSettings) -> Sequence[tuple[str, int]]:
    return (
        ("grpc.max_receive_message_length", settings.max_message_bytes),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        # gRPC unpacks a message without a bound: a few kilobytes of gzip would become gigabytes.
        ("grpc.compression_enabled_algorithms_bitset", UNCOMPRESSED),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", settings.bounds.streams_per_connection),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", round(settings.handshake_s * 1000)),
        ("grpc.max_connection_idle_ms", round(settings.connection_idle_s * 1000)),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MIN_MS),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
    )
