"""The `serve` and `key` commands of `assay`. Imports stay light: every run of `assay` reads this file."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

EXIT_FAILED = 1
EXIT_CONFIG = 2
EXIT_LOCKED = 3


def serve(
    config: Annotated[Path | None, typer.Option(help="TOML file of settings.", dir_okay=False)] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Directory of all that is stored.", file_okay=False)] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to serve on; port 0 takes a free one.")] = None,
    port_file: Annotated[
        Path | None, typer.Option(help="File to write HOST:PORT to once the server serves.", dir_okay=False)
    ] = None,
    catalog_url: Annotated[str | None, typer.Option(help="URL of the catalog: sqlite:/// or postgresql://.")] = None,
    tls_cert: Annotated[str | None, typer.Option(help="PEM file of the certificate chain.")] = None,
    tls_key: Annotated[str | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    tls_client_ca: Annotated[str | None, typer.Option(help="PEM file of the CA of callers' certificates.")] = None,
    api_key_file: Annotated[str | None, typer.Option(help="File of accepted API keys, one a line.")] = None,
    metrics: Annotated[str | None, typer.Option(help="HOST:PORT of Prometheus metrics, on loopback.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or console.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Once, after a restore: take this catalog and data directory for a pair.")
    ] = False,
) -> None:
    """Start a server. Settings come from flags, ASSAY_* variables and a TOML file, in this precedence."""
    flags = {
        "data_dir": data_dir,
        "listen": listen,
        "catalog_url": catalog_url,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "tls_client_ca": tls_client_ca,
        "api_key_file": api_key_file,
        "metrics_listen": metrics,
        "log_level": log_level,
        "log_format": log_format,
    }
    code = _serve(flags, config, port_file, adopt=adopt)
    if code:
        raise typer.Exit(code)


def _serve(flags: dict[str, Any], file: Path | None, port_file: Path | None, *, adopt: bool) -> int:
    """Runs a server to its end and returns the exit code."""
    # Read by OpenMP when torch and FAISS load it: threads that wait must sleep, or they starve the requests.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from assay.server.app import logs
    from assay.server.app.config import ConfigError, load
    from assay.server.core.errors import AssayError, Reason

    try:
        config = load(flags, file=file)
        logs.configure(config.log_level, config.log_format)
        from assay.server.app.deadline import leave
        from assay.server.app.server import run

        run(config, port_file, adopt=adopt)
        leave()
    except ConfigError as error:
        return _failed(str(error), EXIT_CONFIG)
    except AssayError as error:
        return _failed(error.message, EXIT_LOCKED if error.reason is Reason.DATA_DIRECTORY_LOCKED else EXIT_FAILED)
    except ImportError as error:
        return _failed(
            f"{error}. The server needs its extra; in the clone of assay: pip install '.[server]'", EXIT_FAILED
        )


def _failed(message: str, code: int, command: str = "serve") -> int:
    typer.echo(f"assay {command}: {message}", err=True)
    return code


def key(
    role: Annotated[str, typer.Option(help="read, label, mine or admin: what the key may do.")],
    name: Annotated[str, typer.Option(help="Whose key it is, for the audit log.")] = "",
    pools: Annotated[str, typer.Option(help="Pools that it is bound to, separated by commas; all without it.")] = "",
    append: Annotated[
        Path | None, typer.Option(help="File of keys to add the line to, instead of printing it.", dir_okay=False)
    ] = None,
) -> None:
    """Make an API key: the key itself for its caller, and the line for the server's api_key_file."""
    from assay.server.rpc.auth import ApiKeys, new_key

    made, line = new_key(role, name, pools)
    try:
        ApiKeys([line])
    except ValueError as error:
        raise typer.Exit(_failed(str(error).partition(": ")[2], EXIT_CONFIG, "key")) from None
    typer.echo(f"key   {made}")
    if append is None:
        typer.echo(f"line  {line}")
        return
    try:
        _append(append, line)
    except OSError as error:
        raise typer.Exit(_failed(f"cannot write {append}: {error.strerror}", EXIT_FAILED, "key")) from None


def _append(file: Path, line: str) -> None:
    """Adds a line to a file, which is made for its owner alone, in one write: a server may read it at any moment."""
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "rb+", buffering=0) as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - 1))
        whole = opened.read(1) in (b"", b"\n")
        opened.write(f"{'' if whole else os.linesep}{line}\n".encode())
