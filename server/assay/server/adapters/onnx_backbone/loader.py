"""The port `BackboneLoader`: tries an ONNX file in a process of its own, and opens those that were accepted."""

from pathlib import Path

from assay.server.adapters.onnx_backbone.backbone import OnnxBackbone
from assay.server.adapters.onnx_backbone.batching import BatchLimits, find_trimming
from assay.server.adapters.onnx_backbone.bundle import Bundle, check_content
from assay.server.adapters.onnx_backbone.messages import Request
from assay.server.adapters.onnx_backbone.problems import invalid
from assay.server.adapters.onnx_backbone.runs import RunWatch
from assay.server.adapters.onnx_backbone.sandbox import try_in_child
from assay.server.adapters.onnx_backbone.session import open_session
from assay.server.adapters.onnx_backbone.signature import read_signature
from assay.server.adapters.onnx_backbone.trial import TrialLimits
from assay.server.core.records.models import BackboneInfo, BackboneSpec, DataFile

MIB = 1 << 20
# A file's weights are parsed, converted and packed for the processor: so many copies are there at once, at most.
_COPIES = 5


class OnnxBackboneLoader:
    """Opens backbones for ONNX Runtime on the CPU."""

    def __init__(
        self,
        threads: int = 0,
        limits: BatchLimits | None = None,
        *,
        run_seconds: float = 60.0,
        trial_seconds: float = 120.0,
        memory_bytes: int = 1024 * MIB,
    ) -> None:
        """A loader.

        Args:
            threads: threads of one run; 0 for as many as there are cores.
            limits: how large one run may be.
            run_seconds: longest run, in a trial and when serving.
            trial_seconds: longest trial, from its process's start to its end.
            memory_bytes: what the runs of one model may hold at once, beside its weights, in a trial and when serving.
        """
        self._limits = TrialLimits(threads, run_seconds, memory_bytes, limits or BatchLimits())
        self._trial_seconds = trial_seconds
        self._watch = RunWatch(run_seconds)

    def examine(
        self, path: str, spec: BackboneSpec, sha256: str, data_files: tuple[DataFile, ...] = ()
    ) -> BackboneInfo:
        """Tries a stored file in a child process, see `trial.examine`. This process never opens it.

        Raises:
            AssayError: as `trial.examine` and `sandbox.try_in_child`.
        """
        request = Request(
            path=path,
            spec=spec,
            data_files=data_files,
            sha256=sha256,
            limits=self._limits,
            trial_seconds=self._trial_seconds,
            weight_bytes=_COPIES * _size(path),
        )
        return try_in_child(request)

    def open(self, path: str, info: BackboneInfo) -> OnnxBackbone:
        """Opens a file that was accepted before, without a trial, once its content is known to be what was accepted.

        Raises:
            AssayError: SEGMENT_DAMAGED: it is not; MODEL_INVALID: this version of ONNX Runtime does not take it.
        """
        check_content(path, info.size_bytes, info.sha256)
        spec = BackboneSpec(info.embedding_output, info.logits_output, info.pooling, info.mask_input, info.normalize)
        with Bundle(path, info.data_files) as bundle:
            session = open_session(bundle, self._limits.threads, self._limits.memory_bytes)
        signature = read_signature(session, spec)
        if tuple(item.spec for item in signature.inputs) != info.inputs:
            raise invalid("changed", "The model's inputs are not those that were accepted. Upload it again.")
        return OnnxBackbone(
            session,
            info,
            signature,
            limits=self._limits.batch,
            trimming=find_trimming(signature) if info.trims_padding else None,
            watch=self._watch,
            memory_bytes=self._limits.memory_bytes,
        )


def _size(path: str) -> int:
    """Bytes of a file; 0 if there is none, which the trial then says."""
    file = Path(path)
    return file.stat().st_size if file.exists() else 0
