"""`assay status`."""

from typing import Any

import typer
from rich.console import Group, RenderableType

from assay.client import Operation, Pool, ServerInfo
from assay.client.cli.arguments import Connection, JsonOption, connect
from assay.client.cli.output import fields, show, table
from assay.client.cli.pools import pools_table


def status(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show the server's health, its pools, and the work that it is at."""
    connection: Connection = context.obj
    with connect(context) as client:
        health, info = client.health(), client.server_info()
        pools = list(client.list_pools())
        running = [operation for operation in client.list_operations() if not operation.is_done]
    report = {
        "server": connection.server,
        "health": health,
        "version": info.version,
        "uptime": info.uptime,
        "pools": pools,
        "operations": [{"name": operation.name, **_progress(operation)} for operation in running],
    }
    show(report, as_json, lambda: _draw(connection.server, health, info, pools, running))


def _progress(operation: Operation[Any]) -> dict[str, Any]:
    progress = operation.last_progress
    return {
        "kind": progress.kind,
        "pool": progress.pool,
        "stage": progress.stage,
        "done": progress.done,
        "total": progress.total,
        "eta": progress.eta,
    }


def _draw(
    server: str, health: str, info: ServerInfo, pools: list[Pool], running: list[Operation[Any]]
) -> RenderableType:
    facts = [("server", server), ("health", health), ("version", info.version), ("up since", info.start_time)]
    parts: list[RenderableType] = [fields(facts), "", pools_table(pools)]
    if running:
        columns = ("operation", "kind", "pool", "stage", "done", "total", "eta")
        rows = [(operation.name, *_progress(operation).values()) for operation in running]
        parts += ["", table(columns, rows)]
    return Group(*parts)
