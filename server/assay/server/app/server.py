"""Start, serve, drain, stop."""

import asyncio
import os
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog
from prometheus_client import start_http_server

from assay.server.adapters.arrow import DirectoryLock
from assay.server.adapters.label_export import parquet_chunks
from assay.server.app import descriptors, logs
from assay.server.app.config import Config, ConfigError, split_address
from assay.server.app.deadline import end_after
from assay.server.app.secrets import Reloader, read_keys, read_tls
from assay.server.app.wiring import open_core
from assay.server.core.assay import Assay
from assay.server.core.errors import AssayError, Reason
from assay.server.core.ports.machine import Alarm
from assay.server.rpc.auth import ApiKeys
from assay.server.rpc.execution import Executors, open_executors
from assay.server.rpc.intake import Bounds
from assay.server.rpc.metrics import Metrics
from assay.server.rpc.server import EdgeSettings, RpcServer

CLOSING_S = 0.5  # of the drain's time, for what is left to do when calls in flight have had theirs
OVERTIME_S = 0.7
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
MAX_CONNECTIONS = 4096
log = structlog.get_logger("assay.server")


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that serves. address: HOST:PORT that it listens on."""

    address: str
    core: Assay
    rpc: RpcServer


def edge_settings(config: Config, environment: Mapping[str, str] = os.environ) -> EdgeSettings:
    """Settings of the gRPC edge, with its keys and certificates read. Raises ConfigError."""
    return EdgeSettings(
        listen=config.listen,
        tls=read_tls(config),
        keys=read_keys(config, environment),
        max_message_bytes=config.max_message_bytes,
        max_connections=config.max_connections or min(descriptors.limit() // 2, MAX_CONNECTIONS),
        handshake_s=config.handshake_seconds,
        connection_idle_s=config.connection_idle_seconds,
        patience_s=config.stream_stall_seconds,
        bounds=Bounds(
            calls=config.max_concurrent_rpcs,
            calls_per_peer=config.max_rpcs_per_peer,
            watches=config.max_health_watches,
            pool_watches=config.max_pool_watches,
            receive_s=config.receive_seconds,
            idle_s=config.stream_idle_seconds,
        ),
    )


def run(config: Config, port_file: Path | None = None, *, adopt: bool = False) -> None:
    """Serves until SIGTERM or SIGINT, then drains. adopt: see Assay.open.

    Raises:
        ConfigError: for keys, certificates or an address that cannot be used.
        AssayError: DATA_DIRECTORY_LOCKED if another server uses the data; others where the data cannot be opened.
    """
    descriptors.raise_limit()
    settings = edge_settings(config)
    os.umask(0o077)  # whatever this process writes, libraries' files too, is its owner's alone
    with DirectoryLock(config.data_dir):
        asyncio.run(_run(config, settings, port_file, adopt=adopt))


async def _run(config: Config, settings: EdgeSettings, port_file: Path | None, *, adopt: bool) -> None:
    stop = _stop_on_signals()
    disk = _Disk(stop)
    async with serving(config, settings, disk.failed, adopt=adopt) as server:
        with _port_file(port_file, server.address):
            await stop.wait()
            log.info("draining", seconds=config.drain_seconds)
            end_after(config.drain_seconds + OVERTIME_S)
    log.info("stopped")
    disk.check()


class _Disk:
    """Ends the server when the disk lost what it was given: what the page cache shows from then on may be gone after
    the next power failure, so nothing more may be acknowledged on its word. A restart reads what is really there."""

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._failure = ""

    def failed(self, reason: str) -> None:
        """Takes the alarm, from any thread."""
        log.error("the disk lost a write, the server stops", cause=reason)
        self._failure = self._failure or reason
        with suppress(RuntimeError):  # The loop is closed: the server is at its end anyway.
            self._loop.call_soon_threadsafe(self._stop.set)

    def check(self) -> None:
        """Raises AssayError(STORAGE_FAILED) if there was an alarm."""
        if self._failure:
            raise AssayError(
                Reason.STORAGE_FAILED,
                f"The disk failed: {self._failure} Everything that was acknowledged before is stored. Look at the "
                "disk (dmesg), then start the server again.",
            )


@asynccontextmanager
async def serving(
    config: Config, settings: EdgeSettings, alarm: Alarm, *, adopt: bool = False
) -> AsyncIterator[Serving]:
    """A server on a data directory that this process has locked; drained and closed at the end. The alarm is told when
    the disk loses what was written."""
    executors = open_executors(config.compute_threads, config.compute_queue)
    rpc = RpcServer(settings, executors, parquet_chunks)
    address = await _start(rpc, settings)
    try:
        core = await asyncio.to_thread(open_core, config, alarm, adopt=adopt)
    except BaseException:
        await rpc.drain(0)
        await executors.close()
        raise
    try:
        with _metrics_endpoint(config.metrics_listen, rpc.metrics), Reloader(config, rpc).watching():
            await rpc.serve(core)
            await _announce(config, address, core, settings.keys)
            yield Serving(address, core, rpc)
            await rpc.drain(max(0.0, config.drain_seconds - CLOSING_S))
    finally:
        await rpc.drain(0)
        await _close(executors, core)


async def _close(executors: Executors, core: Assay) -> None:
    core.operations.stop()  # while what is left of the calls ends
    await executors.close()
    await asyncio.to_thread(core.close)


async def _start(rpc: RpcServer, settings: EdgeSettings) -> str:
    host, _ = split_address(settings.listen)
    try:
        port = await rpc.start()
    except RuntimeError:
        raise ConfigError(f"cannot listen on {settings.listen}: the address is taken, or TLS is unusable") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _announce(config: Config, address: str, core: Assay, keys: ApiKeys) -> None:
    pools = await asyncio.to_thread(_count_pools, core)
    if keys:
        log.info("api keys", count=len(keys), may_everything=keys.unrestricted())
    log.info("serving", address=address, data_dir=str(config.data_dir.absolute()), pools=pools, pid=os.getpid())


def _count_pools(core: Assay) -> int:
    count, after = 0, ""
    while page := core.pools.list(after, 1000):
        count, after = count + len(page), page[-1].record.pool_id
    return count


def _stop_on_signals() -> asyncio.Event:
    """Set by SIGTERM or SIGINT. A second one ends the process at once, which loses nothing that was acknowledged."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def begin() -> None:
        stop.set()
        for number in STOP_SIGNALS:
            loop.remove_signal_handler(number)

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, begin)
    return stop


@contextmanager
def _metrics_endpoint(listen: str, metrics: Metrics) -> Iterator[None]:
    """Prometheus metrics over HTTP, if an address is given."""
    if not listen:
        yield
        return
    host, port = split_address(listen)
    metrics.count_dropped_logs(logs.dropped)
    try:
        endpoint, thread = start_http_server(port, host, metrics.registry)
    except OSError as error:
        raise ConfigError(f"cannot listen on metrics_listen {listen!r}: {error.strerror}") from None
    log.info("metrics", address=f"http://{host}:{endpoint.server_port}/metrics")
    try:
        yield
    finally:
        endpoint.shutdown()
        endpoint.server_close()
        thread.join()


@contextmanager
def _port_file(path: Path | None, address: str) -> Iterator[None]:
    """A file that tells the address while the server serves; it appears whole."""
    if path is None:
        yield
        return
    with tempfile.NamedTemporaryFile("w", dir=path.absolute().parent, prefix=path.name, delete=False) as file:
        file.write(f"{address}\n")
    os.replace(file.name, path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
