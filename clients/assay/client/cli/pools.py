"""`assay pool`."""

import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.console import RenderableType

from assay.client import Change, Pool, PoolChanges, Regression, Spans, edit_classes
from assay.client.cli.arguments import JsonOption, PoolArgument, connect
from assay.client.cli.output import fields, plain, print_line, show, table
from assay.client.cli.tasks import read_task, target_text, task_name

app = typer.Typer(help="Create, look at, change and delete pools.", no_args_is_help=True)

OverlapOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--annotations-per-sample", min=1, help="Annotations wanted of each sample, by different annotators."),
]
PolicyOption: TypeAlias = Annotated[
    str | None, typer.Option(help="How labels follow: latest, majority, unanimous, weighted or reviewed.")
]


@app.command()
def create(
    context: typer.Context,
    pool: PoolArgument,
    class_name: Annotated[
        list[str] | None, typer.Option("--class", "-c", help="Class name; give one per class.")
    ] = None,
    classes: Annotated[Path | None, typer.Option(help="File with one class name per line.")] = None,
    task: Annotated[
        str, typer.Option(help="What people say: classification, multilabel, regression, boxes, spans or freeform.")
    ] = "classification",
    number: Annotated[
        list[str] | None,
        typer.Option("--number", help="Of a regression: NAME or NAME=MIN..MAX; give one per number."),
    ] = None,
    disjoint: Annotated[
        bool, typer.Option("--disjoint", help="Of spans: no two of a sample share a character.")
    ] = False,
    annotations_per_sample: OverlapOption = None,
    policy: PolicyOption = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=TEXT, to keep with the pool; give one per name.")
    ] = None,
    metric: Annotated[str, typer.Option(help="cosine, l2 or inner_product.")] = "cosine",
    dimension: Annotated[int, typer.Option(min=0, help="Length of pushed embeddings; 0: as they come.")] = 0,
    discard_inputs: Annotated[
        bool, typer.Option("--discard-inputs", help="Do not keep model inputs once embedded.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Create an empty pool."""
    names = [*(class_name or ()), *(_lines(classes) if classes else ())]
    asked = read_task(task, names, number or (), disjoint)
    with connect(context) as client:
        made = client.create_pool(
            pool,
            task=asked,
            metric=metric,  # type: ignore[arg-type]
            dimension=dimension,
            discard_inputs=discard_inputs,
            annotations_per_sample=annotations_per_sample or 1,
            policy=policy or "latest",  # type: ignore[arg-type]
            metadata=_pairs(metadata, "--metadata"),
        )
    show(made, as_json, lambda: pool_details(made))


@app.command()
def update(
    context: typer.Context,
    pool: PoolArgument,
    add_class: Annotated[list[str] | None, typer.Option("--add-class", help="New class; give one per class.")] = None,
    rename: Annotated[list[str] | None, typer.Option("--rename", help="OLD=NEW; what was said stays.")] = None,
    retire: Annotated[
        list[str] | None, typer.Option("--retire", help="Class that nobody is to say any more; its labels stay.")
    ] = None,
    restore: Annotated[list[str] | None, typer.Option("--restore", help="Retired class that is in use again.")] = None,
    merge: Annotated[
        list[str] | None, typer.Option("--merge", help="CLASS=INTO: its labels count as those of INTO.")
    ] = None,
    order: Annotated[
        list[str] | None, typer.Option("--order", help="Classes in use, as people are to see them; give one per class.")
    ] = None,
    annotations_per_sample: OverlapOption = None,
    policy: PolicyOption = None,
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", help="NAME=TEXT, in place of all there is; give one per name.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Change a pool's classes, policy, overlap or metadata; labels that follow are derived anew."""
    edits = {
        "add": add_class,
        "rename": _pairs(rename, "--rename"),
        "retire": retire,
        "restore": restore,
        "merge": _pairs(merge, "--merge"),
        "order": order,
    }
    given = {name: edit for name, edit in edits.items() if edit}
    with connect(context) as client:
        task = None
        if given:
            known = client.get_pool(pool).task
            if known is None:
                raise ValueError("the pool's task is one of a newer server; install a newer assay")
            task = edit_classes(known, **given)  # type: ignore[arg-type]
        changed = client.update_pool(
            pool,
            task=task,
            annotations_per_sample=annotations_per_sample,
            policy=policy,  # type: ignore[arg-type]
            metadata=_pairs(metadata, "--metadata") if metadata else None,
        )
    show(changed, as_json, lambda: pool_details(changed))


def _pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """NAME=VALUE, by name. Raises ValueError for what is not like that."""
    pairs = [each.partition("=") for each in given or ()]
    for name, equals, _ in pairs:
        if not (name and equals):
            raise ValueError(f"{option} takes NAME=VALUE, not {name!r}")
    return {name: value for name, _, value in pairs}


@app.command()
def get(context: typer.Context, pool: PoolArgument, as_json: JsonOption = False) -> None:
    """Show a pool."""
    with connect(context) as client:
        found = client.get_pool(pool)
    show(found, as_json, lambda: pool_details(found))


@app.command("list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the pools."""
    with connect(context) as client:
        pools = list(client.list_pools())
    show({"pools": pools}, as_json, lambda: pools_table(pools))


@app.command()
def delete(
    context: typer.Context,
    pool: PoolArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete a pool with all its samples, labels, leases and models."""
    if not yes:
        confirm(f"Delete pool {pool} with all its samples and labels?")
    with connect(context) as client:
        client.delete_pool(pool)
    show({"deleted": pool}, as_json, lambda: f"deleted {pool}")


@app.command()
def watch(
    context: typer.Context,
    pool: PoolArgument,
    since_epoch: Annotated[
        int | None, typer.Option(min=0, help="Begin with what changed after this epoch, as `pool get` shows it.")
    ] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on after the change that had this cursor.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Tell what changes in a pool as it happens, a line a change, until interrupted; a restart of the server is waited
    for."""
    with connect(context) as client:
        for changed in client.watch_pool(pool, since_epoch=since_epoch, cursor=cursor):
            print_line(plain(changed) if as_json else changes_line(changed))


def changes_line(changed: PoolChanges) -> str:
    """What changed, in words."""
    when = changed.time.isoformat(sep=" ", timespec="seconds") if changed.time else ""
    return f"{when}  epoch {changed.epoch}  {'; '.join(map(_change, changed.changes))}"


def _change(change: Change) -> str:
    events = ", ".join(f"{count:,} {name}" for name, count in change.events.items())
    words = (
        change.kind,
        change.name.rpartition("/")[2],
        change.action,
        events or (f"{change.count:,} samples" if change.count else ""),
        f"by {change.worker}" if change.worker else "",
        change.error_reason,
        ", ".join(change.fields),
    )
    return " ".join(filter(None, words))


def confirm(question: str) -> None:
    """Ask before what cannot be undone; where nobody can answer, refuse.

    Raises:
        ValueError: there is nobody to ask.
        typer.Abort: the answer is no.
    """
    if not sys.stdin.isatty():
        raise ValueError("this cannot be undone: say --yes")
    typer.confirm(question, abort=True)


def pools_table(pools: list[Pool]) -> RenderableType:
    """One line for each pool."""
    return table(
        (
            *("pool", "task", "state", "unlabeled", "answered", "leased", "labeled", "disputed", "excluded"),
            *("dimension", "head", "index"),
        ),
        (
            (
                pool.id,
                task_name(pool.task),
                pool.state,
                pool.counts.unlabeled,
                pool.counts.answered,
                pool.counts.leased,
                pool.counts.labeled,
                pool.counts.disputed,
                pool.counts.excluded,
                pool.dimension,
                (pool.active_head or "-").rpartition("/")[2],
                _index(pool),
            )
            for pool in pools
        ),
    )


def pool_details(pool: Pool) -> RenderableType:
    """All of one pool."""
    counts = pool.counts
    return fields(
        [
            ("pool", pool.id),
            ("state", pool.state),
            ("metric", pool.metric),
            ("dimension", pool.dimension),
            ("task", task_name(pool.task)),
            *_task_details(pool),
            ("annotations per sample", pool.annotations_per_sample),
            ("policy", pool.policy),
            ("metadata", pool.metadata),
            ("not seen by the head", [pool.class_names[class_id] for class_id in pool.unseen_classes]),
            ("samples", counts.total),
            ("  unlabeled", counts.unlabeled),
            ("  answered", counts.answered),
            ("  leased", counts.leased),
            ("  labeled", counts.labeled),
            ("  disputed", counts.disputed),
            ("  excluded", counts.excluded),
            ("  damaged", counts.damaged),
            ("attributes", pool.attributes),
            ("backbone", pool.active_backbone),
            ("head", pool.active_head),
            ("index", _index(pool)),
            ("segments", pool.segments),
            ("embedding bytes", pool.embedding_bytes),
            ("epoch", pool.epoch),
            ("created", pool.create_time),
            *((f"damaged {segment.file}", segment.reason) for segment in pool.damaged_segments),
        ]
    )


def _task_details(pool: Pool) -> list[tuple[str, object]]:
    """What else there is to a pool's task: classes in the order in which people see them, or numbers."""
    if isinstance(pool.task, Regression):
        return [("numbers", [target_text(each) for each in pool.task.targets])]  # type: ignore[arg-type]
    classes = getattr(pool.task, "classes", None)
    if classes is None:
        return []
    told: list[tuple[str, object]] = [("classes", [each.name for each in classes if not each.retired])]
    retired = [
        f"{each.name} (counts as {pool.class_names[each.merged_into]})" if each.merged_into is not None else each.name
        for each in classes
        if each.retired
    ]
    if retired:
        told.append(("retired classes", retired))
    if isinstance(pool.task, Spans):
        told.append(("disjoint", pool.task.disjoint))
    return told


def _index(pool: Pool) -> str:
    if pool.index.kind == "exact":
        return "exact"
    return f"{pool.index.kind} of {pool.index.indexed:,}{' (building)' if pool.index.building else ''}"


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
