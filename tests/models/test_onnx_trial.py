"""The trial in a process of its own: whatever a file does there, the server goes on as it was."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import onnx
import pytest

from assay.server.adapters.onnx_backbone import OnnxBackboneLoader
from assay.server.core.errors import AssayError, Reason
from assay.server.core.records.models import BackboneInfo
from assay.server.core.stop import Stop
from tests.models import onnx_factory as factory
from tests.models.backbones import MIB, NOTHING_DECLARED, find

GIB = 1 << 30
FOURTH_GIB = GIB // 4 // 4  # float32 elements


def trial(path: str, loader: OnnxBackboneLoader) -> BackboneInfo:
    return loader.examine(path, NOTHING_DECLARED, hashlib.sha256(Path(path).read_bytes()).hexdigest())


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def children() -> set[str]:
    """Child processes of this one."""
    return set(Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split())


def test_a_trial_in_a_process_finds_what_one_in_this_finds(tmp_path: Path) -> None:
    for make in (factory.token_embedder, factory.quantized_embedder):
        path = make(tmp_path / "m.onnx")
        assert trial(path, OnnxBackboneLoader(threads=1)) == find(path)


@pytest.mark.parametrize("operator", ["ConstantOfShape", "Expand", "Range"])
def test_a_small_file_that_wants_gigabytes(tmp_path: Path, operator: str) -> None:
    path = factory.hungry(tmp_path / "m.onnx", 5 * FOURTH_GIB * 4, operator=operator)
    assert Path(path).stat().st_size < 2000
    before = resident()
    with pytest.raises(AssayError) as caught:
        trial(path, OnnxBackboneLoader(threads=1))
    assert caught.value.reason is Reason.MODEL_INVALID
    assert caught.value.metadata["problem"] == "too_much_memory"
    assert "model_memory_bytes" in caught.value.message
    assert resident() - before < 50 * MIB


def test_memory_that_no_arena_counts_is_bounded_by_the_process(tmp_path: Path) -> None:
    """What is computed while the graph is opened is not asked of the session's arena."""
    loader = OnnxBackboneLoader(threads=1, memory_bytes=400 * MIB)
    with pytest.raises(AssayError) as caught:
        trial(factory.folded(tmp_path / "m.onnx", GIB), loader)
    assert caught.value.metadata["problem"] == "too_much_memory"
    # What a run may hold for its time, a model may not hold as long as it serves.
    trial(factory.hungry(tmp_path / "m.onnx", 250 * MIB // 4 // 2), loader)
    with pytest.raises(AssayError) as caught:
        trial(factory.folded(tmp_path / "m.onnx", 250 * MIB), loader)
    assert caught.value.metadata["problem"] == "too_much_memory"


def test_functions_that_explode(tmp_path: Path) -> None:
    with pytest.raises(AssayError) as caught:
        trial(factory.exploding(tmp_path / "m.onnx", levels=22), OnnxBackboneLoader(threads=1))
    assert caught.value.metadata["problem"] == "too_many_nodes"
    trial(factory.exploding(tmp_path / "m.onnx", levels=3), OnnxBackboneLoader(threads=1))


def test_a_function_that_calls_itself(tmp_path: Path) -> None:
    path = Path(factory.exploding(tmp_path / "m.onnx", levels=2))
    model = onnx.load(path)
    model.functions[-1].node[0].op_type, model.functions[-1].node[0].domain = "f0", "bomb"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(AssayError, match="calls itself") as caught:
        trial(str(path), OnnxBackboneLoader(threads=1))
    assert caught.value.metadata["problem"] == "too_many_nodes"


def test_a_run_without_end(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(AssayError, match="run_seconds") as caught:
        trial(factory.endless(tmp_path / "m.onnx"), OnnxBackboneLoader(threads=1, run_seconds=0.1))
    assert caught.value.metadata["problem"] == "too_slow"
    assert children() <= before


def test_a_trial_without_end(tmp_path: Path) -> None:
    before = children()
    with pytest.raises(AssayError, match="trial_seconds") as caught:
        trial(factory.endless(tmp_path / "m.onnx"), OnnxBackboneLoader(threads=1, trial_seconds=0.1))
    assert caught.value.metadata["problem"] == "too_slow"
    assert children() <= before


def test_a_caller_that_leaves_ends_the_trial(tmp_path: Path) -> None:
    before = children()
    path = factory.endless(tmp_path / "m.onnx")
    with pytest.raises(AssayError) as caught, Stop.after(0.3).scope():
        trial(path, OnnxBackboneLoader(threads=1))
    assert caught.value.reason is Reason.DEADLINE_EXCEEDED
    assert children() <= before


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(factory.one_node(tmp_path / "m.onnx", "Relu", ["batch", 3]))
    path.write_bytes(path.read_bytes().replace(b"Relu", b"\xff\xfe\xfd\xfc"))
    with pytest.raises(AssayError, match="UTF-8") as caught:
        trial(str(path), OnnxBackboneLoader(threads=1))
    assert caught.value.metadata["problem"] == "not_onnx"


def test_a_crash_is_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real segmentation fault, of the process that would try the file."""
    (tmp_path / "sitecustomize.py").write_text("import ctypes\nctypes.string_at(0)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(AssayError, match="SIGSEGV") as caught:
        trial(factory.linear_embedder(tmp_path / "m.onnx"), OnnxBackboneLoader(threads=1))
    assert caught.value.metadata["problem"] == "crashed"


def test_keys_of_the_server_are_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        f"import os\nopen({str(tmp_path / 'seen')!r}, 'w').write(repr(sorted(os.environ)))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("ASSAY_API_KEYS", "secret")
    trial(factory.linear_embedder(tmp_path / "m.onnx"), OnnxBackboneLoader(threads=1))
    assert "ASSAY" not in (tmp_path / "seen").read_text()


def test_the_process_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; import assay.server.adapters.onnx_backbone.child;"
        "print([name for name in ('torch', 'grpc', 'faiss', 'pyarrow', 'sqlalchemy') if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
