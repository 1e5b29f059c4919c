"""The environments of the peers, each made once from its requirements and kept under .cache/peers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.strategies.works import HERE

REPOSITORY = Path(__file__).parents[2]
_REQUIREMENTS = Path(__file__).with_name("peers")
_ENVIRONMENTS = REPOSITORY / ".cache" / "peers"


def interpreters(names: Iterable[str]) -> tuple[dict[str, Path], dict[str, str]]:
    """The Python of each environment, made where it is missing or out of date, and why each of the others failed."""
    found, failed = {HERE: Path(sys.executable)}, {}
    for name in sorted(set(names) - {HERE}):
        try:
            found[name] = _interpreter(name)
        except (subprocess.CalledProcessError, OSError) as error:
            failed[name] = _reason(error)
    return found, failed


def _interpreter(name: str) -> Path:
    requirements, folder = _REQUIREMENTS / f"{name}.txt", _ENVIRONMENTS / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = requirements.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        _uv("venv", "--clear", "--python", sys.executable, str(folder))
        _uv("pip", "install", "--python", str(python), "-r", str(requirements))
        stamp.write_text(wanted)
    return python


def _uv(*arguments: str) -> None:
    command = [str(Path(sys.executable).with_name("uv")), *arguments]
    # As the Makefile does: wheels that lie at hand (a torch without CUDA) go before those of the index.
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS", "")
    environment = os.environ | {"UV_FIND_LINKS": links}
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=REPOSITORY, env=environment)


def _reason(error: subprocess.CalledProcessError | OSError) -> str:
    output = error.stderr if isinstance(error, subprocess.CalledProcessError) else str(error)
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "could not be installed"
