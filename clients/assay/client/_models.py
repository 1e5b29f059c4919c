"""The calls of models and predictions."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeAlias

from google.longrunning import operations_proto_pb2 as operations_pb2

from assay.client import _replies, results
from assay.client._arrays import float_rows, matrix, named_arrays, named_tensor
from assay.client._names import Named, enum_value, fresh_request_id, pool_name, resource_name
from assay.client._onnx import find_data_files
from assay.client._values import Place, given_text, kind_of, number, seed_number, texts, whole
from assay.client._wire import Pages, Unary, Upload, nothing, pages, unary, upload
from assay.v1 import methods, models_pb2

Pooling: TypeAlias = Literal["none", "mean", "cls", "spatial_mean"]
ModelKind: TypeAlias = Literal["backbone", "head"]
UploadProgress: TypeAlias = Callable[[int, int], None]

_CHUNK = 1024 * 1024


def upload_backbone(
    pool: str,
    source: str | PathLike[str] | bytes,
    *,
    model_id: str | None = None,
    display_name: str = "",
    embedding_output: str | None = None,
    logits_output: str | None = None,
    pooling: Pooling | None = None,
    mask_input: str | None = None,
    normalize: bool = False,
    data_files: Mapping[str, str | PathLike[str] | bytes] | None = None,
    request_id: str | None = None,
    progress: UploadProgress | None = None,
) -> Upload[results.Model]:
    """Upload an ONNX model from raw tensors to an embedding. It is tried before it is stored, and not activated.

    Args:
        pool: id or name.
        source: path of the file, or its bytes.
        model_id: lets the server choose if not given.
        display_name: text of yours.
        embedding_output, logits_output, pooling, mask_input: discovered from the file where not given.
        normalize: scale embeddings to length 1; a cosine pool always does.
        data_files: paths or bytes of the files that hold the model's tensors, by the names that it has for them. Not
            given, and with a path as the source, those that the model names are taken from beside it, as exporters
            write them ("model.onnx.data").
        request_id: idempotency key; made up if not given.
        progress: called with the bytes sent and the size of all, from another thread.

    Raises:
        InvalidArgument: MODEL_INVALID: not ONNX, lacks the output, or fails its trial.
        OSError: a file cannot be read, or is not there.
        ValueError: the model names a data file that is not beside it.
    """
    parts = _Parts(source, data_files)
    header = models_pb2.UploadBackboneHeader(
        parent=pool_name(pool),
        model_id=given_text(model_id, "model_id"),
        display_name=display_name,
        embedding_output=given_text(embedding_output, "embedding_output"),
        logits_output=given_text(logits_output, "logits_output"),
        pooling=models_pb2.POOLING_UNSPECIFIED if pooling is None else enum_value(models_pb2.Pooling, pooling),
        mask_input=given_text(mask_input, "mask_input"),
        normalize=normalize,
        size_bytes=parts.model.size,
        sha256=parts.sha256(),
        request_id=fresh_request_id(request_id),
        data_files=[models_pb2.DataFile(name=name, size_bytes=file.size) for name, file in parts.data_files.items()],
    )

    def messages() -> Iterator[models_pb2.UploadBackboneRequest]:
        yield models_pb2.UploadBackboneRequest(header=header)
        sent = 0
        for chunk in parts.chunks():
            yield models_pb2.UploadBackboneRequest(chunk=chunk)
            sent += len(chunk)
            if progress is not None:
                progress(sent, parts.size)

    return upload(methods.UPLOAD_BACKBONE, messages, _replies.model)


@dataclass(frozen=True, slots=True)
class _Source:
    """Bytes that can be read more than once."""

    size: int
    chunks: Callable[[], Iterator[bytes]]

    @classmethod
    def of(cls, source: str | PathLike[str] | bytes) -> "_Source":
        if isinstance(source, bytes):
            data = source
            return cls(len(data), lambda: (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)))
        path = Path(source)
        return cls(path.stat().st_size, lambda: _file_chunks(path))


class _Parts:
    """An ONNX file and the data files that it names, one after the other."""

    def __init__(
        self, source: str | PathLike[str] | bytes, data_files: Mapping[str, str | PathLike[str] | bytes] | None
    ) -> None:
        if data_files is None:
            data_files = {} if isinstance(source, bytes) else find_data_files(Path(source))
        if not hasattr(data_files, "items"):
            raise TypeError(f"data_files are files by the names that the model has for them, not {kind_of(data_files)}")
        self.model = _Source.of(source)
        self.data_files = {name: _Source.of(file) for name, file in data_files.items()}
        self.size = self.model.size + sum(file.size for file in self.data_files.values())

    def chunks(self) -> Iterator[bytes]:
        for part in (self.model, *self.data_files.values()):
            yield from part.chunks()

    def sha256(self) -> str:
        digest = hashlib.sha256()
        for chunk in self.chunks():
            digest.update(chunk)
        return digest.hexdigest()


def _file_chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            yield chunk


def get_model(model: str | Named) -> Unary[results.Model]:
    """Get a model version by its name "pools/{pool}/models/{model}"."""
    request = models_pb2.GetModelRequest(name=resource_name(model))
    return unary(methods.GET_MODEL, request, _replies.model)


def list_models(pool: str, *, kind: ModelKind | None = None) -> Pages[results.Model]:
    """Model versions, newest first, fetched page by page."""
    request = models_pb2.ListModelsRequest(
        parent=pool_name(pool),
        kind=enum_value(models_pb2.ModelKind, kind) if kind else models_pb2.MODEL_KIND_UNSPECIFIED,
    )
    return pages(methods.LIST_MODELS, request, lambda reply: map(_replies.model, reply.models))


def delete_model(model: str | Named, *, request_id: str | None = None) -> Unary[None]:
    """Delete a model version that is not active."""
    request = models_pb2.DeleteModelRequest(name=resource_name(model), request_id=fresh_request_id(request_id))
    return unary(methods.DELETE_MODEL, request, nothing)


def activate_model(model: str | Named, *, request_id: str | None = None) -> Unary[operations_pb2.Operation]:
    """Make a version the active one of its kind.

    A backbone first embeds the whole pool beside the old space, a head first scores it; requests in flight finish on
    the old version. The operation's result is the Model.
    """
    request = models_pb2.ActivateModelRequest(name=resource_name(model), request_id=fresh_request_id(request_id))
    return unary(methods.ACTIVATE_MODEL, request, _started)


def rollback_model(pool: str, kind: ModelKind, *, request_id: str | None = None) -> Unary[operations_pb2.Operation]:
    """Activate the version that was active before the current one. The operation's result is the Model."""
    request = models_pb2.RollbackModelRequest(
        parent=pool_name(pool), kind=enum_value(models_pb2.ModelKind, kind), request_id=fresh_request_id(request_id)
    )
    return unary(methods.ROLLBACK_MODEL, request, _started)


def train_head(
    pool: str,
    *,
    l2: float | None = None,
    balanced: bool = False,
    soft_targets: bool = False,
    members: int = 1,
    folds: int = 5,
    seed: int = 0,
    activate: bool = True,
    display_name: str = "",
    request_id: str | None = None,
) -> Unary[operations_pb2.Operation]:
    """Train a head on the pool's labels: multinomial logistic regression for one class a sample, a sigmoid for each
    class of a set, ridge regression for numbers. The operation's result is the Model.

    Samples whose attribute "split" is "test" or "validation" teach it nothing, and measure it.

    Args:
        pool: id or name.
        l2: penalty on the mean loss, above 0; chosen by cross-validation if not given.
        balanced: weight classes by inverse frequency.
        soft_targets: learn labels as sure as they are, where samples have several annotations: a label has its
            confidence for a probability, and the other classes share the rest; a set of classes, or numbers, count by
            their confidence.
        members: size of a bootstrap committee; 1 trains a single head.
        folds: of the cross-validation, 2 to 20.
        seed: of the folds and bootstraps.
        activate: make it the active head once trained.
        display_name: text of yours.
        request_id: idempotency key; made up if not given.
    """
    request = models_pb2.TrainHeadRequest(
        parent=pool_name(pool),
        display_name=display_name,
        l2=None if l2 is None else number(l2, "l2"),
        balanced=balanced,
        soft_targets=soft_targets,
        members=whole(members, "members"),
        folds=whole(folds, "folds"),
        seed=seed_number(seed),
        activate=activate,
        request_id=fresh_request_id(request_id),
    )
    return unary(methods.TRAIN_HEAD, request, _started)


def predict(
    pool: str,
    *,
    samples: Iterable[Any] | None = None,
    embeddings: Any = None,
    inputs: Mapping[str, Any] | None = None,
    head: str | Named | None = None,
    include_embeddings: bool = False,
) -> Unary[results.PredictResult]:
    """Class probabilities, or numbers in a regression, for samples of the pool, for fresh embeddings or for fresh
    inputs: exactly one of the three.

    Args:
        pool: id or name.
        samples: 1 to 10,000 ids.
        embeddings: matrix in the active embedding space.
        inputs: one tensor per input of the active backbone, by name.
        head: head to use instead of the active one.
        include_embeddings: whether to send embeddings too.
    """
    if sum(given is not None for given in (samples, embeddings, inputs)) != 1:
        raise ValueError("predict takes exactly one of samples, embeddings and inputs")
    request = models_pb2.PredictRequest(
        pool=pool_name(pool),
        head="" if head is None else resource_name(head),
        include_embeddings=include_embeddings,
    )
    if samples is not None:
        request.samples.ids.extend(texts(samples, Place("samples")))
    if embeddings is not None:
        request.embeddings.CopyFrom(matrix(float_rows(embeddings, "embeddings")))
    if inputs is not None:
        request.inputs.tensors.extend(named_tensor(name, values) for name, values in named_arrays(inputs).items())
    return unary(methods.PREDICT, request, _replies.predicted)


def _started(operation: operations_pb2.Operation) -> operations_pb2.Operation:
    return operation
