"""`assay lease`."""

from typing import Annotated

import typer
from rich.console import RenderableType

from assay.client import Lease
from assay.client.cli.arguments import JsonOption, PoolArgument, connect
from assay.client.cli.labeling import TtlOption
from assay.client.cli.output import fields, show, table

app = typer.Typer(help="Look at, renew and release leases.", no_args_is_help=True)

LeaseArgument = Annotated[str, typer.Argument(metavar="LEASE", help="Name, pools/POOL/leases/ID.")]
TokenOption = Annotated[int, typer.Option(help="Fencing token.")]


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    worker: Annotated[str | None, typer.Option(help="Only of this worker.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List live leases, oldest first."""
    with connect(context) as client:
        leases = list(client.list_leases(pool, worker=worker))
    show(
        {"leases": leases},
        as_json,
        lambda: table(
            ("lease", "worker", "token", "holds", "until"),
            (
                (lease.name, lease.worker, str(lease.fencing_token), len(lease.sample_ids), lease.expire_time)
                for lease in leases
            ),
        ),
    )


@app.command()
def get(context: typer.Context, lease: LeaseArgument, as_json: JsonOption = False) -> None:
    """Show a lease."""
    with connect(context) as client:
        found = client.get_lease(lease)
    show(found, as_json, lambda: _details(found))


@app.command()
def renew(
    context: typer.Context, lease: LeaseArgument, token: TokenOption, ttl: TtlOption = 900, as_json: JsonOption = False
) -> None:
    """Let a live lease last longer from now."""
    with connect(context) as client:
        renewed = client.renew_lease(Lease(lease, token), ttl)
    show(renewed, as_json, lambda: _details(renewed))


@app.command()
def release(
    context: typer.Context,
    lease: LeaseArgument,
    token: TokenOption,
    sample: Annotated[list[str] | None, typer.Option("--sample", "-s", help="Only this sample; else all.")] = None,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    exclude: Annotated[
        bool, typer.Option("--exclude", help="Set the samples aside for everybody, until `assay sample include`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Give samples of a lease back."""
    with connect(context) as client:
        released = client.release_lease(Lease(lease, token), sample, reason, exclude)
    show(released, as_json, lambda: _details(released))


def _details(lease: Lease) -> RenderableType:
    return fields(
        [
            ("lease", lease.name),
            ("worker", lease.worker),
            ("token", str(lease.fencing_token)),
            ("state", lease.state),
            ("created", lease.create_time),
            ("until", lease.expire_time),
            ("holds", lease.sample_ids),
        ]
    )
