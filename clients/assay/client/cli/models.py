"""`assay model`, `assay train` and `assay predict`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Group, RenderableType

from assay.client import ClassMetrics, HeadMetrics, Measure, Model, Operation, PredictResult
from assay.client.cli.arguments import JsonOption, PoolArgument, SeedOption, connect, read_matrix
from assay.client.cli.output import cell, fields, show, spread, table
from assay.client.cli.progress import counting, operating

app = typer.Typer(help="Upload, look at, activate and delete models.", no_args_is_help=True)

# Classes of a head that a table shows.
_CLASSES_SHOWN = 50

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="Id of a model of that pool.")]


@app.command()
def upload(
    context: typer.Context,
    pool: PoolArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="ONNX model.")],
    model_id: Annotated[str | None, typer.Option("--id", help="Id; made up if not given.")] = None,
    name: Annotated[str, typer.Option(help="Text of yours.")] = "",
    embedding_output: Annotated[str | None, typer.Option(help="Output that gives the embedding.")] = None,
    logits_output: Annotated[str | None, typer.Option(help="Output that gives class logits.")] = None,
    pooling: Annotated[
        str | None, typer.Option(help="none, mean, cls or spatial_mean; discovered if not given.")
    ] = None,
    mask_input: Annotated[str | None, typer.Option(help="Input that masks the sequence.")] = None,
    normalize: Annotated[bool, typer.Option("--normalize", help="Scale embeddings to length 1.")] = False,
    activate: Annotated[bool, typer.Option("--activate", help="Activate it too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload an ONNX backbone, and the data files beside it that it names."""
    with connect(context) as client:
        client.health()  # Whether a server is there is found out first; the upload rides out what comes later.
        with counting("uploading") as progress:
            model = client.upload_backbone(
                pool,
                file,
                model_id=model_id,
                display_name=name,
                embedding_output=embedding_output,
                logits_output=logits_output,
                pooling=pooling,  # type: ignore[arg-type]
                mask_input=mask_input,
                normalize=normalize,
                progress=progress,
            )
        if activate:
            model = _wait(client.activate_model(model), "activating")
    show(model, as_json, lambda: model_details(model))


@app.command("list")
def list_(
    context: typer.Context,
    pool: PoolArgument,
    kind: Annotated[str | None, typer.Option(help="backbone or head.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the models of a pool, newest first."""
    with connect(context) as client:
        models = list(client.list_models(pool, kind=kind))  # type: ignore[arg-type]
    show({"models": models}, as_json, lambda: _table(models))


@app.command()
def get(context: typer.Context, pool: PoolArgument, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Show a model."""
    with connect(context) as client:
        found = client.get_model(model_name(pool, model))
    show(found, as_json, lambda: model_details(found))


@app.command()
def activate(context: typer.Context, pool: PoolArgument, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Make a model the active one of its kind."""
    with connect(context) as client:
        active = _wait(client.activate_model(model_name(pool, model)), "activating")
    show(active, as_json, lambda: model_details(active))


@app.command()
def rollback(
    context: typer.Context,
    pool: PoolArgument,
    kind: Annotated[str, typer.Option(help="backbone or head.")] = "head",
    as_json: JsonOption = False,
) -> None:
    """Activate the model that was active before the current one."""
    with connect(context) as client:
        active = _wait(client.rollback_model(pool, kind), "activating")  # type: ignore[arg-type]
    show(active, as_json, lambda: model_details(active))


@app.command()
def delete(context: typer.Context, pool: PoolArgument, model: ModelArgument, as_json: JsonOption = False) -> None:
    """Delete a model that is not active."""
    name = model_name(pool, model)
    with connect(context) as client:
        client.delete_model(name)
    show({"deleted": name}, as_json, lambda: f"deleted {name}")


def train(
    context: typer.Context,
    pool: PoolArgument,
    l2: Annotated[float | None, typer.Option(help="L2 penalty; chosen by cross-validation if not given.")] = None,
    balanced: Annotated[bool, typer.Option("--balanced", help="Weight classes by inverse frequency.")] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Learn labels as sure as they are.")] = False,
    members: Annotated[int, typer.Option(min=1, max=64, help="Size of a bootstrap committee.")] = 1,
    folds: Annotated[int, typer.Option(min=2, max=20, help="Folds of the cross-validation.")] = 5,
    seed: SeedOption = 0,
    activate: Annotated[bool, typer.Option("--activate/--no-activate", help="Activate the head once trained.")] = True,
    name: Annotated[str, typer.Option(help="Text of yours.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Train a head on the pool's labels."""
    with connect(context) as client:
        operation = client.train_head(
            pool,
            l2=l2,
            balanced=balanced,
            soft_targets=soft,
            members=members,
            folds=folds,
            seed=seed,
            activate=activate,
            display_name=name,
        )
        model = _wait(operation, "training")
    show(model, as_json, lambda: model_details(model))


def predict(
    context: typer.Context,
    pool: PoolArgument,
    sample: Annotated[list[str] | None, typer.Option("--sample", "-s", help="Id of a sample.")] = None,
    embeddings: Annotated[Path | None, typer.Option(help=".npy file with one embedding per row.")] = None,
    inputs: Annotated[Path | None, typer.Option(help=".npz file with the model's inputs by name.")] = None,
    head: Annotated[str | None, typer.Option(help="Id of a head, instead of the active one.")] = None,
    top: Annotated[int, typer.Option(min=1, help="Classes to show for each sample.")] = 3,
    as_json: JsonOption = False,
) -> None:
    """Give class probabilities, or numbers in a regression, for samples of the pool or for files."""
    with connect(context) as client:
        result = client.predict(
            pool,
            samples=sample,
            embeddings=read_matrix(embeddings) if embeddings else None,
            inputs=dict(np.load(inputs, allow_pickle=False)) if inputs else None,
            head=model_name(pool, head) if head else None,
        )
    show(result, as_json, lambda: _predictions(sample, result, top))


def model_name(pool: str, model: str) -> str:
    """The resource name of a model given by id or by name."""
    return model if "/" in model else f"pools/{pool.removeprefix('pools/')}/models/{model}"


def model_details(model: Model) -> RenderableType:
    """All of one model."""
    pairs: list[tuple[str, object]] = [
        ("model", model.name),
        ("kind", model.kind),
        ("name", model.display_name or None),
        ("active", model.active),
        ("created", model.create_time),
    ]
    if model.backbone is not None:
        backbone = model.backbone
        pairs += [
            ("space", backbone.embedding_space),
            ("inputs", [f"{spec.name} {spec.dtype} {list(spec.shape)}" for spec in backbone.inputs]),
            ("embedding output", backbone.embedding_output),
            ("logits output", backbone.logits_output or None),
            ("pooling", backbone.pooling),
            ("mask input", backbone.mask_input or None),
            ("normalize", backbone.normalize),
            ("dimension", backbone.dimension),
            ("bytes", backbone.size_bytes),
            ("sha256", backbone.sha256),
            ("data files", list(backbone.data_files) or None),
        ]
    if model.head is not None:
        head = model.head
        pairs += [
            ("space", head.embedding_space),
            ("labels", head.labels),
            ("task", head.task),
            ("classes seen", head.classes_seen),
            ("ids of classes not seen", list(map(str, head.unseen_classes)) or None),
            ("members", head.members),
            ("l2", head.l2),
            ("temperature", head.temperature),
            *((f"held-out {name.replace('_', ' ')}", _measure(each)) for name, each in head.metrics.measures.items()),
            ("held-out samples", head.metrics.samples),
            ("held out by", head.metrics.split),
        ]
        if head.metrics.classes:
            return Group(fields(pairs), "", _classes_table(head.metrics.classes))
    return fields(pairs)


def _measure(measure: Measure) -> str | None:
    if measure.value is None:
        return None
    between = "" if measure.low is None else f" ({cell(measure.low)} to {cell(measure.high)})"
    return cell(measure.value) + between


def _classes_table(classes: Sequence[ClassMetrics]) -> RenderableType:
    """What a head is worth for each class or number, the first of them; --json shows all."""
    measures = list(dict.fromkeys(name for each in classes for name in each.measures))
    return table(
        ("class" if classes[0].class_id is not None else "number", "samples", *measures),
        (
            (each.name, each.samples, *(_measure(each.measures.get(name, Measure(None))) for name in measures))
            for each in classes[:_CLASSES_SHOWN]
        ),
    )


def _numbers_table(samples: list[str] | None, result: PredictResult) -> RenderableType:
    assert result.numbers_NT is not None
    names = samples or [f"row {row}" for row in range(len(result.numbers_NT))]
    deviations = result.deviations_NT
    rows = [
        (name, *(spread(value, None if deviations is None else float(deviations[row, t])) for t, value in enumerate(T)))
        for row, (name, T) in enumerate(zip(names, result.numbers_NT.tolist(), strict=True))
    ]
    return table(("sample", *result.target_names), rows)


def _wait(operation: Operation[Model], description: str) -> Model:
    with operating(description) as progress:
        return operation.result(progress=progress)


def _table(models: list[Model]) -> RenderableType:
    return table(
        ("model", "kind", "active", "name", "dimension", "labels", "held out", "created"),
        (
            (
                model.id,
                model.kind,
                model.active,
                model.display_name or None,
                model.backbone.dimension if model.backbone else None,
                model.head.labels if model.head else None,
                _headline(model.head.metrics) if model.head else None,
                model.create_time,
            )
            for model in models
        ),
    )


def _headline(metrics: HeadMetrics) -> str | None:
    """The first measure, which the server puts first as the one that most ask for."""
    return next((f"{name.replace('_', ' ')} {_measure(each)}" for name, each in metrics.measures.items()), None)


def _predictions(samples: list[str] | None, result: PredictResult, top: int) -> RenderableType:
    if result.numbers_NT is not None:
        return Group(_numbers_table(samples, result), f"by {result.head or result.prediction_source}")
    if result.probs_NC is None:
        return "nothing predicts in this pool"
    names = samples or [f"row {row}" for row in range(len(result.probs_NC))]
    best_NC = np.argsort(-result.probs_NC, axis=1, kind="stable")[:, :top]
    return Group(
        table(
            ("sample", "predicted"),
            (
                (name, [f"{result.class_names[index]} {probs_C[index]:.0%}" for index in best_C])
                for name, probs_C, best_C in zip(names, result.probs_NC, best_NC, strict=True)
            ),
        ),
        f"by {result.head or result.prediction_source}",
    )
