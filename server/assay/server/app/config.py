"""Settings of a server: flags go before environment, environment before a TOML file; checked once, at start."""

import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

ENV_PREFIX = "ASSAY_"
CONFIG_VARIABLE = "ASSAY_CONFIG"
KEYS_VARIABLE = "ASSAY_API_KEYS"
# Variables with the prefix that are no settings of the server: the keys themselves, and what the client reads.
OTHER_VARIABLES = frozenset(
    {CONFIG_VARIABLE, KEYS_VARIABLE, "ASSAY_API_KEY", "ASSAY_SERVER", "ASSAY_TLS_CA", "ASSAY_WORKER"}
)
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "console")
MIB = 1 << 20


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the setting and where it came from."""


@dataclass(frozen=True, slots=True)
class Config:
    """Settings.

    Attributes:
        data_dir: directory of everything that is stored; one server at a time.
        catalog_url: "sqlite:///PATH" or "postgresql://..."; empty means SQLite in data_dir.
        listen: HOST:PORT of gRPC; port 0 takes a free one.
        tls_cert, tls_key: PEM files of the certificate chain and its key.
        tls_client_ca: PEM file; with it, callers need a certificate of this CA.
        api_key_file: file of accepted API keys with their roles, one a line; read again when it changes, as are the
            TLS files.
        metrics_listen: HOST:PORT of Prometheus metrics over HTTP, loopback only; empty means off.
        log_level: "debug", "info", "warning" or "error".
        log_format: "json" or "console".
        max_message_bytes: bytes of one gRPC message.
        max_concurrent_rpcs: calls at once; health checks are not counted.
        max_rpcs_per_peer: calls at once from one address, and over one connection.
        max_health_watches: streams of health watchers at once; an address has at most an eighth of them.
        max_pool_watches: streams of WatchPool at once; an address has at most half of them.
        max_connections: connections at once; 0 means half of the file descriptors that the process may have, and at
            most 4096.
        handshake_seconds: time in which a new connection must have spoken TLS and HTTP/2.
        connection_idle_seconds: time after which a connection without calls is closed.
        receive_seconds: time in which a request must have arrived whole.
        stream_idle_seconds: time that may pass between two messages of a stream of requests.
        compute_threads: threads that score and select; 0 means one per core, and at least 2.
        compute_queue: calls on one pool that may wait for those threads; on all pools, four times as many.
        inference_threads: threads of ONNX Runtime; 0 means one per core.
        run_seconds: longest single run of a backbone, in its trial and when it serves.
        trial_seconds: longest trial of an uploaded backbone.
        model_memory_bytes: memory that the runs of one backbone may hold at once, beside its weights, in its trial and
            when it serves.
        stream_stall_seconds: a stream ends when its client has not read a message for so long.
        drain_seconds: time that calls in flight get at shutdown; a second later the process has ended.
        max_batch_rows: samples in one ingest batch.
        max_model_bytes: bytes of a backbone.
        scratch_memory_bytes: derived arrays up to this size are kept in memory, larger ones in nameless files.
        verify_bytes: bytes read against their checksums before serving; the rest is read afterwards.
        quiet_seconds: merging and indexing wait, within bounds, until no batch has come for so long.
        keep_requests_seconds: a repeated request id gets its first reply for so long.
        keep_requests: request ids remembered at most, of all pools.
        keep_leases_seconds: leases that ended can be looked up for so long after they began.
        keep_operations_seconds: operations that ended can be looked up for so long after they began.
        keep_changes_seconds: who follows a pool may be away for so long, and miss no change of it.
        keep_changes: changes kept at most, of all pools.
        keep_heads: heads kept of a pool, the newest, beside those that serve or that a rollback may need.
        keep_activations: activations kept of a pool, of each kind: how far back rollbacks go.
    """

    data_dir: Path = Path("assay-data")
    catalog_url: str = ""
    listen: str = "127.0.0.1:50051"
    tls_cert: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
    api_key_file: str = ""
    metrics_listen: str = ""
    log_level: str = "info"
    log_format: str = "console"
    max_message_bytes: int = 64 * MIB
    max_concurrent_rpcs: int = 1024
    max_rpcs_per_peer: int = 512
    max_health_watches: int = 256
    max_pool_watches: int = 1024
    max_connections: int = 0
    handshake_seconds: float = 10.0
    connection_idle_seconds: float = 120.0
    receive_seconds: float = 60.0
    stream_idle_seconds: float = 600.0
    compute_threads: int = 0
    compute_queue: int = 64
    inference_threads: int = 0
    run_seconds: float = 60.0
    trial_seconds: float = 120.0
    model_memory_bytes: int = 1024 * MIB
    stream_stall_seconds: float = 60.0
    drain_seconds: float = 30.0
    max_batch_rows: int = 65_536
    max_model_bytes: int = 2048 * MIB
    scratch_memory_bytes: int = 256 * MIB
    verify_bytes: int = 8192 * MIB
    quiet_seconds: float = 1.0
    keep_requests_seconds: float = 86_400.0
    keep_requests: int = 500_000
    keep_leases_seconds: float = 2_592_000.0
    keep_operations_seconds: float = 2_592_000.0
    keep_changes_seconds: float = 604_800.0
    keep_changes: int = 500_000
    keep_heads: int = 100
    keep_activations: int = 1000

    @property
    def catalog(self) -> str:
        """URL of the catalog."""
        return self.catalog_url or f"sqlite:///{self.data_dir.absolute() / 'catalog.db'}"


@dataclass(frozen=True, slots=True)
class _Setting:
    """A value before it is read, and where it came from."""

    value: Any
    source: str


_NAMES = frozenset(field.name for field in fields(Config))
_TYPES: Mapping[str, type] = {field.name: type(field.default) for field in fields(Config)}


def load(flags: Mapping[str, Any], environment: Mapping[str, str] = os.environ, file: Path | None = None) -> Config:
    """Settings from flags (None = not given), ASSAY_* variables and a TOML file, and defaults, checked.

    Args:
        flags: settings by name.
        environment: variables; ASSAY_CONFIG names the file where none is given.
        file: TOML file.

    Raises:
        ConfigError: for an unknown or unusable setting, or settings that do not go together.
    """
    if file is None and environment.get(CONFIG_VARIABLE):
        file = Path(environment[CONFIG_VARIABLE])
    settings = {
        **(_from_file(file) if file else {}),
        **_from_environment(environment),
        **_from_flags(flags),
    }
    config = replace(Config(), **{name: _read(name, setting) for name, setting in settings.items()})
    _check(config, settings, bool(config.api_key_file or environment.get(KEYS_VARIABLE)))
    return config


def _from_file(file: Path) -> dict[str, _Setting]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration file {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None
    return _known({name: _Setting(value, str(file)) for name, value in table.items()})


def _from_environment(environment: Mapping[str, str]) -> dict[str, _Setting]:
    ours = {name for name in environment if name.startswith(ENV_PREFIX)} - OTHER_VARIABLES
    return _known(
        {
            name.removeprefix(ENV_PREFIX).lower(): _Setting(environment[name], f"variable {name}")
            for name in sorted(ours)
        }
    )


def _from_flags(flags: Mapping[str, Any]) -> dict[str, _Setting]:
    given = {name: value for name, value in flags.items() if value is not None}
    return _known({name: _Setting(value, f"flag --{name.replace('_', '-')}") for name, value in given.items()})


def _known(settings: dict[str, _Setting]) -> dict[str, _Setting]:
    for name, setting in settings.items():
        if name not in _NAMES:
            raise ConfigError(f"unknown setting {name!r} ({setting.source}); known are {', '.join(sorted(_NAMES))}")
    return settings


def _read(name: str, setting: _Setting) -> Any:
    kind = Path if issubclass(_TYPES[name], Path) else _TYPES[name]
    readers: Mapping[type, Callable[[Any], Any]] = {int: _int, float: _float, str: _str, Path: lambda v: Path(_str(v))}
    try:
        return readers[kind](setting.value)
    except ValueError:
        raise _bad(name, setting, f"must be {_WORDS[kind]}") from None


_WORDS: Mapping[type, str] = {int: "a whole number", float: "a number", str: "text", Path: "a path"}


def _int(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _str(value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise ValueError
    return str(value)


def _bad(name: str, setting: _Setting, problem: str) -> ConfigError:
    return ConfigError(f"{name} {problem}, but is {str(setting.value)!r} ({setting.source})")


# --- checks --------------------------------------------------------------------------------------------------------


def split_address(address: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPV6]:PORT. Raises ValueError."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ValueError(f"{address!r} is not HOST:PORT")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check(config: Config, settings: Mapping[str, _Setting], has_keys: bool) -> None:
    def refuse_unless(good: bool, name: str, problem: str) -> None:
        if not good:
            raise _bad(name, settings.get(name, _Setting(getattr(config, name), "default")), problem)

    refuse_unless(config.log_level in LOG_LEVELS, "log_level", f"must be one of {', '.join(LOG_LEVELS)}")
    refuse_unless(config.log_format in LOG_FORMATS, "log_format", f"must be one of {', '.join(LOG_FORMATS)}")
    for name, (low, high) in _RANGES.items():
        refuse_unless(low <= getattr(config, name) <= high, name, f"must be from {low:,} to {high:,}")
    for name in ("tls_cert", "tls_key", "tls_client_ca", "api_key_file"):
        path = getattr(config, name)
        refuse_unless(not path or Path(path).is_file(), name, "must be a file that exists")
    refuse_unless(bool(config.tls_cert) == bool(config.tls_key), "tls_key", "must be given together with tls_cert")
    refuse_unless(not config.tls_client_ca or bool(config.tls_cert), "tls_client_ca", "needs tls_cert and tls_key")
    refuse_unless(_is_address(config.listen), "listen", "must be HOST:PORT")
    safe = bool(config.tls_cert) and has_keys
    refuse_unless(
        safe or is_loopback(split_address(config.listen)[0]),
        "listen",
        "must be a loopback address unless TLS (tls_cert, tls_key) and an API key (api_key_file) are configured",
    )
    metrics = config.metrics_listen
    refuse_unless(not metrics or _is_address(metrics), "metrics_listen", "must be HOST:PORT")
    refuse_unless(not metrics or is_loopback(split_address(metrics)[0]), "metrics_listen", "must be a loopback address")


def _is_address(address: str) -> bool:
    try:
        split_address(address)
    except ValueError:
        return False
    return True


_RANGES: Mapping[str, tuple[float, float]] = {
    "max_message_bytes": (MIB, 2048 * MIB - 1),
    "max_concurrent_rpcs": (1, 1_000_000),
    "max_rpcs_per_peer": (1, 1_000_000),
    "max_health_watches": (1, 1_000_000),
    "max_pool_watches": (1, 1_000_000),
    "max_connections": (0, 1_000_000),
    "handshake_seconds": (0.1, 3600),
    "connection_idle_seconds": (1, 86_400),
    "receive_seconds": (0.1, 86_400),
    "stream_idle_seconds": (0.1, 86_400),
    "compute_threads": (0, 1024),
    "compute_queue": (0, 1_000_000),
    "inference_threads": (0, 1024),
    "run_seconds": (1, 86_400),
    "trial_seconds": (1, 86_400),
    "model_memory_bytes": (16 * MIB, 1 << 40),
    "stream_stall_seconds": (0.1, 86_400),
    "drain_seconds": (0, 3600),
    "max_batch_rows": (1, 1_000_000),
    "max_model_bytes": (1, 1 << 40),
    "scratch_memory_bytes": (0, 1 << 60),
    "verify_bytes": (0, 1 << 60),
    "quiet_seconds": (0, 3600),
    "keep_requests_seconds": (600, 10 * 365 * 86_400),
    "keep_requests": (1000, 1 << 40),
    "keep_leases_seconds": (0, 10 * 365 * 86_400),
    "keep_operations_seconds": (0, 10 * 365 * 86_400),
    "keep_changes_seconds": (0, 10 * 365 * 86_400),
    "keep_changes": (1000, 1 << 40),
    "keep_heads": (0, 1 << 40),
    "keep_activations": (10, 1 << 40),
}
