"""Sessions of ONNX Runtime: their threads, the memory that each may take, and a run of one."""

import ctypes
import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from assay.server.adapters.onnx_backbone.bundle import Bundle
from assay.server.adapters.onnx_backbone.graph import with_small_tensors
from assay.server.adapters.onnx_backbone.problems import no_memory, not_loadable, too_much_memory
from assay.server.adapters.onnx_backbone.signature import BFLOAT16, Signature
from assay.server.core.stop import current_stop

onnxruntime.disable_telemetry_events()

_ONLY_FATAL = 4  # what goes wrong is raised; ONNX Runtime need not print it as well
_EXACT = 1  # an arena grows by what is asked for, not to twice its size

# A session takes the allocator that is registered when it is made, and keeps it.
_registering = threading.Lock()


def open_session(bundle: Bundle, threads: int, memory_bytes: int) -> onnxruntime.InferenceSession:
    """Opens a model whose data files, if any, lie in the bundle.

    Args:
        bundle: the stored file.
        threads: threads of one run; 0 for as many as there are cores.
        memory_bytes: what all runs of the session together may hold beside its weights. A run that asks for more fails.

    Raises AssayError(MODEL_INVALID), its `problem` one of not_loadable, ir_version, opset, too_much_memory; and what
    the current stop says if it is requested meanwhile.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or os.cpu_count() or 1
    options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = _ONLY_FATAL
    # Patterns are kept for every shape that ever came: with samples of any length there is no end of them.
    options.enable_mem_pattern = False
    # Threads that spin between two runs take the cores from the rest of the server.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    data = bundle.data()
    if data:
        options.add_external_initializers_from_files_in_memory(
            list(data), list(data.values()), [len(part) for part in data.values()]
        )
    # From bytes where there is data, so that no file is looked for beside this one.
    stop = current_stop()
    source = with_small_tensors(bundle.model(), data) if data else bundle.path
    try:
        with _registering, stop.listening(lambda: options.set_load_cancellation_flag(True)):
            _register_arena(memory_bytes)
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        stop.check()
        if no_memory(error):
            raise too_much_memory(memory_bytes) from error
        raise not_loadable(error, bundle.path) from error


def _register_arena(memory_bytes: int) -> None:
    """An arena of its own for the next session: an arena is the one place where ONNX Runtime keeps a limit."""
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    limits = onnxruntime.OrtArenaCfg({"max_mem": memory_bytes, "arena_extend_strategy": _EXACT})
    onnxruntime.create_and_register_allocator(place, limits)


def run_graph(
    session: onnxruntime.InferenceSession,
    signature: Signature,
    feed: Mapping[str, npt.NDArray[Any]],
    options: onnxruntime.RunOptions,
) -> list[npt.NDArray[Any]]:
    """The outputs of one run, in types that numpy has. Raises what ONNX Runtime raises."""
    names = signature.outputs
    if BFLOAT16 not in signature.kinds:
        outputs: list[npt.NDArray[Any]] = session.run(names, feed, options)
        return outputs
    values = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in feed.items()}
    return [_to_numpy(value) for value in session.run_with_ort_values(names, values, options)]


def _to_numpy(value: onnxruntime.OrtValue) -> npt.NDArray[Any]:
    """A tensor's content; bfloat16, which numpy lacks, as the float32 of the same numbers."""
    if value.data_type() != BFLOAT16:
        array: npt.NDArray[Any] = value.numpy()
        return array
    bits = np.empty(value.shape(), dtype=np.uint16)
    ctypes.memmove(bits.ctypes.data, value.data_ptr(), bits.nbytes)
    return (bits.astype(np.uint32) << 16).view(np.float32)
