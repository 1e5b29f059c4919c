"""A model that was accepted, and inputs that make it compute or allocate without end."""

import threading
from pathlib import Path

import numpy as np
import pytest

from assay.server.adapters.onnx_backbone.backbone import OnnxBackbone
from assay.server.adapters.onnx_backbone.batching import BatchLimits
from assay.server.adapters.onnx_backbone.runs import MOST_LEFT
from assay.server.core.errors import AssayError, Reason
from assay.server.core.stop import Stop
from tests.models import onnx_factory as factory
from tests.models.backbones import MIB, serve

MIB_OF_FLOATS = MIB // 4


def batch(*largest: float) -> dict[str, np.ndarray]:
    """Inputs of one sample each with this largest number."""
    return {"x": np.array([[0.0, value, 0.5] for value in largest], np.float32)}


def refusal(backbone: OnnxBackbone, *largest: float, stop: Stop | None = None) -> AssayError:
    with pytest.raises(AssayError) as caught, (stop or Stop()).scope():
        backbone.embed(batch(*largest))
    return caught.value


def works(backbone: OnnxBackbone) -> None:
    np.testing.assert_array_equal(backbone.embed(batch(1.0))[0], batch(1.0)["x"])


def test_a_run_without_end_ends_at_its_time(tmp_path: Path) -> None:
    backbone = serve(factory.looping(tmp_path / "m.onnx", endless_above=100.0), run_seconds=0.2)
    error = refusal(backbone, 1.0, 1000.0)
    assert (error.reason, error.metadata["problem"]) == (Reason.INFERENCE_FAILED, "too_slow")
    assert "Row 0: the backbone failed on the run that it was in with 1 more: " in error.message
    works(backbone)


def test_a_run_without_end_ends_with_its_caller(tmp_path: Path) -> None:
    backbone = serve(factory.looping(tmp_path / "m.onnx", endless_above=100.0))
    left = Stop()
    running: list[AssayError] = []
    thread = threading.Thread(target=lambda: running.append(refusal(backbone, 1000.0, stop=left)))
    thread.start()
    works(backbone)
    left.request()
    thread.join(10)
    assert not thread.is_alive()
    assert running[0].reason is Reason.CANCELLED
    works(backbone)


def test_a_caller_that_left_before_starts_nothing(tmp_path: Path) -> None:
    backbone = serve(factory.looping(tmp_path / "m.onnx", endless_above=100.0))
    stop = Stop()
    stop.request(Reason.SHUTTING_DOWN)
    assert refusal(backbone, 1000.0, stop=stop).reason is Reason.SHUTTING_DOWN


def test_a_run_without_end_ends_at_the_deadline(tmp_path: Path) -> None:
    backbone = serve(factory.looping(tmp_path / "m.onnx", endless_above=100.0))
    assert refusal(backbone, 1000.0, stop=Stop.after(0.2)).reason is Reason.DEADLINE_EXCEEDED
    works(backbone)


def test_a_node_that_cannot_be_interrupted_is_left_to_itself(tmp_path: Path) -> None:
    """Who waits for it gets away; no more than a few of them run on, and then the backbone serves again."""
    backbone = serve(factory.stubborn(tmp_path / "m.onnx", 1000))
    ended: list[AssayError] = []
    callers = [
        threading.Thread(target=lambda: ended.append(refusal(backbone, 60.0, stop=Stop.after(0.05))))
        for _ in range(MOST_LEFT)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(60)
    left = [thread for thread in threading.enumerate() if thread.name == "assay-run"]
    assert [error.reason for error in ended] == [Reason.DEADLINE_EXCEEDED] * MOST_LEFT
    assert len(left) == MOST_LEFT
    assert refusal(backbone, 1.0).reason is Reason.BUSY
    for thread in left:
        thread.join(60)
    works(backbone)


def test_only_the_run_of_who_left_ends(tmp_path: Path) -> None:
    """All runs are watched by one thread."""
    backbone = serve(factory.looping(tmp_path / "m.onnx", endless_above=100.0))
    flags = [Stop() for _ in range(3)]
    ended: list[AssayError] = []
    threads = [
        threading.Thread(target=lambda flag=flag: ended.append(refusal(backbone, 1000.0, stop=flag))) for flag in flags
    ]
    for thread in threads:
        thread.start()
    for flag, thread in zip(flags, threads, strict=True):
        others = [other for other in threads if other is not thread and other.is_alive()]
        flag.request()
        thread.join(10)
        assert not thread.is_alive()
        assert sum(other.is_alive() for other in threads) == len(others)
    assert [error.reason for error in ended] == [Reason.CANCELLED] * 3


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Range"])
def test_a_sample_that_takes_too_much_memory(tmp_path: Path, operator: str) -> None:
    path = factory.hungry(tmp_path / "m.onnx", MIB_OF_FLOATS, operator=operator)
    backbone = serve(path, memory_bytes=64 * MIB)
    error = refusal(backbone, 1000.0)
    assert (error.reason, error.metadata["problem"]) == (Reason.INFERENCE_FAILED, "too_much_memory")
    assert "model_memory_bytes" in error.message
    works(backbone)


def test_a_batch_that_takes_too_much_memory_is_halved(tmp_path: Path) -> None:
    """40 samples at once would take 2 MiB each, times 40; one alone takes 2 MiB."""
    backbone = serve(factory.hungry(tmp_path / "m.onnx", 2 * MIB_OF_FLOATS), memory_bytes=48 * MIB)
    inputs = batch(*np.linspace(0.1, 1.0, 40))
    np.testing.assert_array_equal(backbone.embed(inputs)[0], inputs["x"])


def test_each_model_has_memory_of_its_own(tmp_path: Path) -> None:
    small = serve(factory.hungry(tmp_path / "a.onnx", MIB_OF_FLOATS), memory_bytes=32 * MIB)
    large = serve(factory.hungry(tmp_path / "b.onnx", MIB_OF_FLOATS), memory_bytes=256 * MIB)
    large.embed(batch(100.0))
    assert refusal(small, 100.0).metadata["problem"] == "too_much_memory"
    large.embed(batch(100.0))


def test_memory_goes_back_to_the_system(tmp_path: Path) -> None:
    backbone = serve(factory.hungry(tmp_path / "m.onnx", MIB_OF_FLOATS), memory_bytes=512 * MIB)
    works(backbone)
    before = resident()
    backbone.embed(batch(400.0))
    assert resident() - before < 100 * MIB


def test_limits_of_a_batch_hold_after_halving(tmp_path: Path) -> None:
    backbone = serve(
        factory.hungry(tmp_path / "m.onnx", MIB_OF_FLOATS), limits=BatchLimits(samples=7), memory_bytes=20 * MIB
    )
    inputs = batch(*np.linspace(0.1, 3.0, 30))
    np.testing.assert_array_equal(backbone.embed(inputs)[0], inputs["x"])


def resident() -> int:
    """Bytes of this process in memory."""
    status = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))) * 1024
