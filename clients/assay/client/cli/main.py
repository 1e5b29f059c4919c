"""The `assay` command: its options, its sub-commands, and how it ends."""

import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from assay.client import DEFAULT_TARGET, AssayError
from assay.client._files import Missing
from assay.client.cli import (
    add,
    annotations,
    audits,
    labeler,
    labeling,
    leases,
    mining,
    models,
    pools,
    predictions,
    reviews,
    samples,
    status,
)
from assay.client.cli.arguments import Connection
from assay.client.cli.failures import INTERRUPTED, report
from assay.client.cli.plugins import add_plugins

app = typer.Typer(
    name="assay",
    help="Which unlabeled samples are worth labeling next?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"assay {version('assay')}\n")
        raise typer.Exit


@app.callback()
def _connection(
    context: typer.Context,
    server: Annotated[str, typer.Option(envvar="ASSAY_SERVER", help="Host and port.")] = DEFAULT_TARGET,
    api_key: Annotated[str | None, typer.Option(envvar="ASSAY_API_KEY", help="API key.", show_envvar=True)] = None,
    tls: Annotated[bool, typer.Option("--tls", help="Encrypt; trust the usual authorities.")] = False,
    tls_ca: Annotated[
        Path | None, typer.Option(envvar="ASSAY_TLS_CA", help="Encrypt; trust the certificates of this PEM file.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=0, help="Seconds for one call; 0 for no limit.")] = 60.0,
    wait: Annotated[
        float,
        typer.Option(envvar="ASSAY_WAIT", min=0, help="Seconds to wait for a server that does not answer at first."),
    ] = 2.0,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    context.obj = Connection(server, api_key, tls, tls_ca, timeout, wait)


app.add_typer(pools.app, name="pool")
app.command("add")(add.add)
app.add_typer(samples.app, name="sample")
app.command("search")(samples.search)
app.add_typer(models.app, name="model")
app.command("train")(models.train)
app.command("predict")(models.predict)
app.add_typer(predictions.app, name="predictions")
app.command("strategies")(mining.strategies)
app.command("score")(mining.score)
app.command("mine")(mining.mine)
app.command("next")(labeling.next_batch)
app.command("annotate")(labeling.annotate)
app.add_typer(labeling.app, name="label")
labeling.app.command("next")(labeler.label_next)
app.add_typer(leases.app, name="lease")
app.command("audit")(audits.audit)
app.command("suspects")(audits.suspects)
app.add_typer(annotations.app, name="annotation")
app.add_typer(reviews.app, name="review")
app.command("annotators")(audits.annotators)
app.command("export")(labeling.export)
app.command("status")(status.status)
add_plugins(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (without the program's name); return the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(args=given, prog_name="assay")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except (AssayError, Missing, ValueError, OSError) as error:
        return report(error, "--json" in given)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0
