"""The base install is the light client: it works without any of the server's dependencies."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("faiss", "onnx", "onnxruntime", "pyarrow", "sqlalchemy", "torch")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a program away from this interpreter's import path; return its output, fail with what it said."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        command, cwd=cwd, env=inherited | environment, capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel that users install."""
    target = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", target, cwd=ROOT)
    return next(target.glob("assay-*.whl"))


@pytest.fixture(scope="module")
def base_python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel without extras into a new environment; return its interpreter."""
    home = tmp_path_factory.mktemp("base")
    uv = Path(sys.executable).with_name("uv")
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
    run(uv, "venv", "--python", sys.executable, home / "venv", cwd=home)
    run(uv, "pip", "install", wheel, cwd=home, VIRTUAL_ENV=str(home / "venv"), UV_FIND_LINKS=links)
    return home / "venv/bin/python"


def test_wheel_holds_every_portion_and_no_namespace_init(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    portions = ("v1", "server", "client", "strategies")
    assert {f"assay/{portion}/{name}" for portion in portions for name in ("__init__.py", "py.typed")} <= names
    assert {"assay/v1/pools_pb2.py", "assay/v1/pools_pb2.pyi", "assay/v1/pools.proto"} <= names
    assert "assay/__init__.py" not in names
    top = {name.split("/")[0] for name in names}
    assert [name for name in sorted(top) if not name.endswith(".dist-info")] == ["assay"]


def test_client_imports_without_server_dependencies(base_python: Path) -> None:
    probe = f"""
import importlib.util, sys
import assay.client
heavy = {HEAVY!r}
print([name for name in heavy if name in sys.modules or importlib.util.find_spec(name)])
"""
    assert run(base_python, "-c", probe, cwd=base_python.parent).strip() == "[]"


def test_command_runs_without_server_dependencies(base_python: Path) -> None:
    """The server's own sub-command cannot be loaded here, which must not take the others down."""
    assert "Usage" in run(base_python.with_name("assay"), "--help", cwd=base_python.parent)
