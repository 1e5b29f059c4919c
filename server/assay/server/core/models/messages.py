"""What the model service is asked and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from assay.server.core.records.arrays import FloatArray
from assay.server.core.records.models import BackboneSpec, DataFile, ModelRecord
from assay.server.core.records.tasks import TaskRecord
from assay.server.core.stopwatch import Timings


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model version as it is now, and the task of its pool: what it says of classes it says by their ids."""

    record: ModelRecord
    active: bool
    task: TaskRecord


@dataclass(frozen=True, slots=True)
class UploadSpec:
    """A backbone that is to arrive.

    Attributes:
        model_id: "" lets the server choose.
        display_name: text of the user.
        backbone: what is declared of it.
        size_bytes: of the ONNX file.
        data_files: files of tensors that the ONNX file names; their bytes follow its own in this order.
        sha256: of all bytes, lower case; "" is not checked.
    """

    model_id: str
    display_name: str
    backbone: BackboneSpec
    size_bytes: int
    data_files: tuple[DataFile, ...] = ()
    sha256: str = ""

    @property
    def total_bytes(self) -> int:
        """Bytes to arrive."""
        return self.size_bytes + sum(file.size_bytes for file in self.data_files)


@dataclass(frozen=True, slots=True)
class TrainSpec:
    """A head to train; l2 None chooses it by cross-validation. soft_targets: learn labels as sure as they are."""

    display_name: str = ""
    l2: float | None = None
    balanced: bool = False
    members: int = 1
    folds: int = 5
    seed: int = 0
    activate: bool = False
    soft_targets: bool = False


@dataclass(frozen=True, slots=True)
class PredictSpec:
    """What to predict: exactly one of ids, embeddings_ND and inputs. head "" means the active one."""

    ids: tuple[str, ...] = ()
    embeddings_ND: FloatArray | None = None
    inputs: Mapping[str, npt.NDArray[Any]] | None = None
    head: str = ""
    embeddings: bool = False


@dataclass(frozen=True, slots=True)
class PredictResult:
    """What is predicted.

    Attributes:
        probs_NC: probabilities of the classes, in a pool with several labels a sample of each for itself; None where
            nothing predicts, or numbers are predicted.
        thresholds_C: of several labels, the probability from which on each is said to be there.
        values_NT: numbers, in a regression.
        deviations_NT: how far the members of a committee scatter around their mean; None without a committee.
        class_names, target_names: of the columns.
        source: "head", "backbone", "pushed" or "none".
    """

    probs_NC: FloatArray | None
    embeddings_ND: FloatArray | None
    class_names: tuple[str, ...]
    head: str
    source: str
    space: str
    timings: Timings
    thresholds_C: FloatArray | None = None
    values_NT: FloatArray | None = None
    deviations_NT: FloatArray | None = None
    target_names: tuple[str, ...] = ()
