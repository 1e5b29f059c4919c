"""Keys and certificates: read at start, and again when their files change."""

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import structlog

from assay.server.app.config import KEYS_VARIABLE, Config, ConfigError
from assay.server.rpc.auth import ApiKeys
from assay.server.rpc.server import RpcServer
from assay.server.rpc.tls import Tls

POLL_S = 1.0
log = structlog.get_logger("assay.server")
# What tells one content of a file from another, short of reading it; None for a file that is away.
Stamp = tuple[int, int, int, int] | None


def read_tls(config: Config) -> Tls | None:
    """The certificate that the configuration names. Raises ConfigError."""
    if not config.tls_cert:
        return None
    client_ca = _read(config.tls_client_ca, "tls_client_ca") if config.tls_client_ca else None
    tls = Tls(_read(config.tls_cert, "tls_cert"), _read(config.tls_key, "tls_key"), client_ca)
    try:
        tls.check()
    except ValueError as error:
        raise ConfigError(f"TLS: {error} (tls_cert, tls_key, tls_client_ca)") from None
    return tls


def read_keys(config: Config, environment: Mapping[str, str] = os.environ) -> ApiKeys:
    """The API keys of the file and of the variable. Raises ConfigError."""
    lines = environment.get(KEYS_VARIABLE, "").splitlines()
    source = f"variable {KEYS_VARIABLE}"
    try:
        extra = ApiKeys(lines)
        # Without a key everybody may do everything: not what was meant by setting it.
        if environment.get(KEYS_VARIABLE) and not extra:
            raise ConfigError(f"{source} holds no key")
        if not config.api_key_file:
            return extra
        source = f"api_key_file {config.api_key_file!r}"
        text = _text(_read(config.api_key_file, "api_key_file"))
        # The file first, so that the numbers of its lines are those of an editor.
        keys = ApiKeys(text.splitlines() + lines)
    except ValueError as error:
        raise ConfigError(f"{source}: {error}") from None
    if len(keys) == len(extra):
        raise ConfigError(f"{source} holds no key")
    return keys


def _text(content: bytes) -> str:
    """A file of keys as text. A byte order mark is no part of the first key. Raises ValueError."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Replacing what cannot be read would make one key of several.
        raise ValueError(f"byte {error.start} is no UTF-8: save the file as UTF-8") from None


def _read(path: str, name: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {name} {path!r}: {error.strerror}") from None


class Reloader:
    """Puts changed keys and certificates into service. What cannot be used is logged, and the old stays in service; it
    is tried again at each look, for what was in the way (a permission, half of a pair of files) leaves no trace in the
    stamps."""

    def __init__(self, config: Config, rpc: RpcServer, environment: Mapping[str, str] = os.environ) -> None:
        self._config = config
        self._rpc = rpc
        self._environment = environment
        self._watched = {
            "API keys": ((config.api_key_file,), self._load_keys),
            "TLS": ((config.tls_cert, config.tls_key, config.tls_client_ca), self._load_tls),
        }
        self._problems: dict[str, str] = {}
        self._seen = {what: _stamps(paths) for what, (paths, _) in self._watched.items()}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Looks at the files while the server serves."""
        task = asyncio.ensure_future(self._watch())
        try:
            yield
        finally:
            task.cancel()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            await asyncio.to_thread(self.look)

    def look(self) -> None:
        """Loads what has changed since the last look."""
        for what, (paths, load) in self._watched.items():
            stamps = _stamps(paths)
            if stamps != self._seen[what] or what in self._problems:
                self._seen[what] = stamps
                self._load(what, load)

    def _load(self, what: str, load: Callable[[], int]) -> None:
        try:
            count = load()
        except (ConfigError, ValueError, OSError) as error:
            problem = str(error)
            if self._problems.get(what) != problem:
                log.error("reload failed; the old stays in service", what=what, problem=problem)
            self._problems[what] = problem
        else:
            self._problems.pop(what, None)
            log.info("reloaded", what=what, count=count)

    def _load_keys(self) -> int:
        keys = read_keys(self._config, self._environment)
        self._rpc.ring.keys = keys
        return len(keys)

    def _load_tls(self) -> int:
        tls = read_tls(self._config)
        assert tls is not None  # its files were named at start, and names do not change
        assert self._rpc.certificates is not None
        self._rpc.certificates.replace(tls)
        return 1


def _stamps(paths: tuple[str, ...]) -> tuple[Stamp, ...]:
    return tuple(_stamp(path) for path in paths if path)


def _stamp(path: str) -> Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
