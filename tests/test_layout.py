"""The layout that holds one namespace together over four source roots."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("proto", "server", "clients", "strategies")
PORTIONS = {
    "assay.v1": ROOT / "proto/assay/v1",
    "assay.server": ROOT / "server/assay/server",
    "assay.client": ROOT / "clients/assay/client",
    "assay.strategies": ROOT / "strategies/assay/strategies",
}


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_namespace_folders_have_no_init(root: str) -> None:
    """An __init__.py here would make one portion hide the three others."""
    assert not (ROOT / root / "__init__.py").exists()
    assert not (ROOT / root / "assay/__init__.py").exists()


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_each_root_holds_one_portion(root: str) -> None:
    """A second package below assay/ would belong to no floor, and no contract would see it."""
    packages = {path for path in (ROOT / root / "assay").iterdir() if path.name != "__pycache__"}
    assert len(packages) == 1
    assert packages < set(PORTIONS.values())


@pytest.mark.parametrize(("name", "folder"), PORTIONS.items())
def test_portion_is_typed_and_found(name: str, folder: Path) -> None:
    assert (folder / "py.typed").is_file()
    assert import_module(name).__path__ == [str(folder)]


@pytest.mark.parametrize("folder", PORTIONS.values(), ids=PORTIONS.keys())
def test_sub_packages_are_regular(folder: Path) -> None:
    """A folder of modules without __init__.py is invisible to the import contracts."""
    holders = {path.parent for path in folder.rglob("*.py")}
    assert [str(holder) for holder in sorted(holders) if not (holder / "__init__.py").is_file()] == []


def test_import_contracts_are_kept() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-logo"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("group", ["assay.commands", "assay.strategies"])
def test_entry_points_load(group: str) -> None:
    """A renamed attribute must not leave a plug-in that is declared and cannot be loaded."""
    ours = [entry for entry in entry_points(group=group) if entry.dist is not None and entry.dist.name == "assay"]
    assert ours
    for entry in ours:
        assert entry.load() is not None
