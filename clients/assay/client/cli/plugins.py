"""Commands that installed packages add through the entry-point group `assay.commands`; `assay serve` is one.

They are loaded when they are run, not before: the others start fast, and do without what these need.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

from assay.client._files import Missing

GROUP = "assay.commands"
_HELP = {
    "serve": "Start a server (needs the extra; in the clone of assay: pip install '.\\[server]').",
    "key": "Make an API key and its line for the server (needs the same extra).",
}


def add_plugins(app: typer.Typer) -> None:
    """Add a command for every entry point of the group."""
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        _add(app, entry)


def _add(app: typer.Typer, entry: EntryPoint) -> None:
    package = entry.dist.name if entry.dist is not None else "another package"

    @app.command(
        entry.name,
        help=_HELP.get(entry.name, f"From {package}."),
        # All that follows the name, --help too, is for the loaded command.
        add_help_option=False,
        context_settings={
            "allow_extra_args": True,
            "ignore_unknown_options": True,
            "allow_interspersed_args": False,
        },
    )
    def run(context: typer.Context) -> None:
        as_app(load(entry))(args=context.args, prog_name=f"assay {entry.name}")


def load(entry: EntryPoint) -> Any:
    """The object of an entry point.

    Raises:
        Missing: what it imports is not installed.
    """
    try:
        return entry.load()
    except ImportError as error:
        raise Missing(
            f"`assay {entry.name}` is not installed here ({error}); "
            "install it in the clone of assay with: pip install '.[server]'"
        ) from error


def as_app(command: Callable[..., Any]) -> typer.Typer:
    """A typer app: the command itself if it is one, else an app of that one function."""
    if isinstance(command, typer.Typer):
        return command
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(command)
    return app
